"""What a URL says about where Redis is."""

import os

import pytest
import redis

from streamq.config.config import Config
from streamq.core.text import mask_url
from streamq.errors import ConfigError
from streamq.transport.address import NoMaster, Sentinels, address_of, check_role


def test_a_url_of_sentinels_names_hosts_service_and_database():
    address = address_of("sentinel://a:1,b,[::1]:3/shop/2")

    assert address.sentinels == Sentinels("shop", (("a", 1), ("b", 26379), ("::1", 3)))
    assert address.options == {"db": 2}
    assert address.kind is redis.Connection


def test_its_credentials_are_those_of_redis_and_sentinels_have_their_own():
    address = address_of("sentinel://me:p%40ss@a/shop?sentinel_password=s&sentinel_username=u")

    assert address.options == {"db": 0, "username": "me", "password": "p@ss"}
    assert (address.sentinels.username, address.sentinels.password) == ("u", "s")


def test_other_urls_name_no_sentinels():
    assert address_of("unix:///run/redis.sock?db=3").options == {"path": "/run/redis.sock", "db": 3}
    assert address_of("redis://h:7/1").now() == {"host": "h", "port": 7, "db": 1}
    assert address_of("rediss://h").kind is redis.SSLConnection


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("sentinel://a:1,b:2", "names no service"),
        ("sentinel:///shop", "names no Sentinel"),
        ("sentinel://a:port/shop", "[Pp]ort"),
        ("sentinel://a/shop/zero", "invalid literal"),
        ("sentinel://a/shop?colour=red", "unknown option colour"),
        ("redis://h:port", "[Pp]ort"),
        ("redis://h/0?colour=red", "unknown option colour"),
        ("unix:///run/redis.sock?colour=red", "unknown option colour"),
        ("redis://h/0?ssl_cert_reqs=none", "unknown option ssl_cert_reqs; .* rediss://"),
        ("rediss://h/0?ssl_cert_reqs=perhaps", "perhaps"),
        ("rediss://h/0?ssl_cert_reqs=CERT_SOME", "required, optional or none; not CERT_SOME"),
        ("rediss://h/0?ssl_ca_certs=/no/ca.pem", "ssl_ca_certs: no such file: /no/ca.pem"),
        ("rediss://h/0?ssl_certfile=/dev", "ssl_certfile is no file: /dev"),
        (f"rediss://h/0?ssl_ca_certs={__file__}", f"no certificates of authorities in {__file__}"),
        (f"rediss://h/0?ssl_certfile={__file__}", f"no certificate with its key in {__file__}"),
        (f"rediss://h/0?ssl_keyfile={__file__}", "ssl_keyfile needs ssl_certfile"),
        ("sentinel://a/shop?ssl_ca_certs=/x", "options of TLS need sentinels://"),
        ("sentinels://a/shop?ssl_ca_certs=/no/ca.pem", "no such file: /no/ca.pem"),
        ("sentinels://a/shop?ssl_colour=red", "unknown option ssl_colour"),
        ("sentinel://a;sentinel://b:1/0", "sentinel://a,b:1/SERVICE/0"),
        ("sentinel://:p@a:1/0;sentinel://:p@b:2/0", "sentinel://a:1,b:2/SERVICE/0"),
        ("redis://a;redis://b", "several URLs: name one server"),
        ("http://h", "scheme"),
        ("redis://a..b:6379/0", "no host can have that name"),
        ("rediss://:hidden@.shop.example", "no host can have that name"),
        (f"redis://{'a' * 64}:6379/0", "no host can have that name"),
        ("redis://\u202eshop:6379/0", "no host can have that name"),
        ("sentinel://a,b..c/shop", "no host can have that name"),
    ],
)
def test_what_is_no_url_says_why_and_shows_the_forms(url, problem):
    with pytest.raises(ConfigError, match=problem) as error:
        address_of(url)

    assert "sentinel://" in str(error.value)


@pytest.mark.parametrize("password", ["a/b", "a?b", "a#b", "a[b", "a]b"])
def test_a_password_that_must_be_quoted_is_said_how_and_not_shown(password):
    with pytest.raises(ConfigError, match=r"%2F.*%5B.*%5D") as error:
        address_of(f"redis://:{password}@h:6379/0")

    assert password not in str(error.value)


def test_of_several_urls_no_password_is_taken_for_a_host():
    with pytest.raises(ConfigError, match="several URLs") as error:
        address_of("sentinel://:123/4@a:1/0;sentinel://user:123/4@b:2/0")

    assert "123" not in str(error.value)


def test_a_url_of_sentinels_with_tls_gives_its_options_to_both():
    address = address_of("sentinels://a:1/shop?ssl_cert_reqs=CERT_OPTIONAL&sentinel_password=s")

    assert address.sentinels.tls == {"ssl_cert_reqs": "optional"}
    assert address.options == {"db": 0, "ssl_cert_reqs": "optional"}
    assert address.kind is redis.SSLConnection


def test_the_path_of_a_socket_may_be_of_any_bytes():
    assert os.fsencode(address_of("unix:///a%ff%20b/s?db=0").options["path"]) == b"/a\xff b/s"


def test_each_kind_of_address_has_its_own_trial():
    assert address_of("redis://h:7/1").trial == ""
    assert address_of("sentinel://a:1,b/shop").trial == "redis-cli -h a -p 1 SENTINEL MASTER shop"
    assert address_of("unix:///a%20b/redis.sock").trial == "redis-cli -s '/a b/redis.sock' ping"


def test_the_setting_takes_them_and_shows_no_password():
    url = "sentinel://:hidden@a:1,b:2/shop/0?sentinel_password=hidden"
    conf = Config.load(code={"url": url}, environ={})

    assert conf.url == url
    assert "hidden" not in repr(conf)
    assert mask_url(url) == "sentinel://:***@a:1,b:2/shop/0?sentinel_password=***"


def test_an_error_about_a_url_shows_no_password():
    with pytest.raises(ConfigError) as error:
        address_of("sentinel://:hidden@a:1,b:2?sentinel_password=hidden")

    assert "hidden" not in str(error.value)


def test_sentinels_that_are_away_are_each_named():
    with pytest.raises(NoMaster, match=r"'shop' \(127.0.0.1:1: .*; 127.0.0.1:2: .*\)"):
        Sentinels("shop", (("127.0.0.1", 1), ("127.0.0.1", 2))).master()


@pytest.mark.parametrize("reply", [[b"slave", b"h", 1, b"connected", 0], [b"sentinel", []], []])
def test_who_is_no_master_is_not_used(reply):
    with pytest.raises(NoMaster, match="not the master"):
        check_role(reply)


def test_the_master_is_used():
    check_role([b"master", 0, []])
