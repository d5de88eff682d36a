"""What a URL says about where Redis is."""

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


@pytest.mark.parametrize("password", ["a/b", "a?b", "a#b", "a[b"])
def test_a_password_that_must_be_quoted_is_said_how_and_not_shown(password):
    with pytest.raises(ConfigError, match="%2F") as error:
        address_of(f"redis://:{password}@h:6379/0")

    assert password not in str(error.value)


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
