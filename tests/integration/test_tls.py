"""TLS: a certificate that is not accepted is explained, and Sentinels may speak it too."""

import asyncio

import pytest
import trustme

from streamq.transport.address import address_of
from streamq.transport.connection import Connection
from streamq.transport.replies import Disconnected
from tests.tls import before, listening, sentinel


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def trusted(authority, tmp_path_factory):
    """The part of a URL that names the authority of the servers here."""
    path = tmp_path_factory.mktemp("tls") / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return f"ssl_ca_certs={path}"


def refused(url, patience=5):
    """What is said of a server that is not accepted."""
    with pytest.raises(Disconnected) as error:
        Connection(url, patience=patience).ask("PING")
    return str(error.value)


def test_a_certificate_of_an_unknown_authority_is_said_with_what_to_name(server_url, authority):
    with listening(authority, before(server_url)) as port:
        said = refused(f"rediss://localhost:{port}/0")

    assert "its certificate is refused: " in said
    assert "?ssl_ca_certs=FILE" in said
    assert "is it up?" not in said


def test_a_certificate_of_another_name_is_said_with_that_name(server_url, authority, trusted):
    with listening(authority, before(server_url), "redis.shop.example") as port:
        said = refused(f"rediss://localhost:{port}/0?{trusted}")

    assert "certificate is not valid for 'localhost'" in said
    assert "ssl_check_hostname=false" in said


def test_a_server_without_tls_is_said_to_have_none(redis, proxy):
    said = refused(proxy.url.replace("redis://", "rediss://"), patience=0.5)

    assert "redis://… is for a port without TLS" in said


@pytest.mark.parametrize("word", ["none", "CERT_NONE"])
def test_a_url_may_ask_for_no_certificate_at_all(server_url, redis, authority, word):
    with listening(authority, before(server_url)) as port:
        connection = Connection(f"rediss://localhost:{port}/0?ssl_cert_reqs={word}")
        assert connection.ask("PING") == b"PONG"
        connection.drop()


def test_sentinels_and_their_master_may_speak_tls(server_url, redis, authority, trusted, make_app):
    with (
        listening(authority, before(server_url)) as master,
        listening(authority, sentinel(master)) as port,
    ):
        app = make_app(url=f"sentinels://localhost:{port}/shop/0?{trusted}")
        assert app.enqueue("any.task").state == "QUEUED"

        async def send():
            result = await app.aenqueue("any.task")
            await app.aclose()
            return result

        assert asyncio.run(send()).id
        app.close()


def test_a_sentinel_whose_certificate_is_not_known_is_named(authority, server_url):
    with listening(authority, sentinel(1)) as port:
        url = f"sentinels://localhost:{port}/shop/0"
        said = refused(url)

    assert f"(localhost:{port}: its certificate is refused: " in said
    assert "?ssl_ca_certs=FILE" in said
    assert address_of(url).trial == f"redis-cli -h localhost -p {port} --tls SENTINEL MASTER shop"
