"""Values on their way: bounded when written, looked at only if accepted when read."""

import zlib

import pytest

from streamq.errors import ContentDisallowed, DecodeError, EncodeError
from streamq.serialization.payload import Payloads, as_text

PICKLE = "application/x-python-serialize"


def payloads(**changes):
    given = {"accept": ("json",), "limit": 1000, "decompressed_limit": 5000, "ratio": 100}
    return Payloads(**(given | changes))


@pytest.mark.parametrize("serializer", ["json", "pickle", "msgpack", "yaml"])
@pytest.mark.parametrize("compression", [None, "zlib", "zstd"])
def test_what_is_written_is_read(serializer, compression):
    both = payloads(accept=("json", "pickle", "msgpack", "yaml"))
    content = {
        "json": None,
        "pickle": PICKLE,
        "msgpack": "application/x-msgpack",
        "yaml": "application/x-yaml",
    }[serializer]

    data = both.write([1, {"a": "b"}], serializer, compression, "value")

    assert both.read(data, content, compression) == [1, {"a": "b"}]


def test_what_is_over_the_limit_is_refused():
    with pytest.raises(EncodeError, match="the arguments of 1,002 bytes is over the limit"):
        payloads().write("x" * 1000, "json", None, "the arguments")
    assert len(payloads().write("x" * 998, "json", None, "it")) == 1000


def test_the_limit_is_for_what_travels():
    assert payloads().write("x" * 4000, "json", "zlib", "it")


def test_a_type_that_is_not_accepted_is_never_decoded():
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("it was decoded",))

    data = payloads().write(Trap(), "pickle", None, "it")

    with pytest.raises(ContentDisallowed):
        payloads().read(data, PICKLE, None)


def test_plain_json_is_not_accepted_either_where_it_is_not_named():
    with pytest.raises(ContentDisallowed):
        payloads(accept=("pickle",)).read(b"1", None, None)


def test_a_bomb_is_not_unpacked():
    bomb = zlib.compress(b'"' + b"x" * 10_000_000 + b'"')

    with pytest.raises(DecodeError):
        payloads().read(bomb, None, "zlib")


def test_what_nobody_would_unpack_is_not_sent():
    with pytest.raises(EncodeError, match="would not be decompressed"):
        payloads(limit=10**7).write("x" * 10_000_000, "json", "zlib", "it")


def test_repetitive_text_below_the_limits_travels():
    generous = payloads(limit=10**7, decompressed_limit=10**7)
    text = "ab" * 200_000

    assert generous.read(generous.write(text, "json", "zlib", "it"), None, "zlib") == text


@pytest.mark.parametrize(
    ("data", "content", "compression"),
    [
        (b"{[", None, None),
        (b"\xff", None, None),
        (b"1", None, "zlib"),
        (b"1", None, "nozip"),
        (b"", None, None),
    ],
)
def test_bytes_that_are_not_what_they_claim_are_a_decode_error(data, content, compression):
    with pytest.raises(DecodeError):
        payloads().read(data, content, compression)


def test_a_field_that_is_no_text_is_a_decode_error():
    assert as_text(None, "x") is None
    assert as_text("ü".encode(), "x") == "ü"
    with pytest.raises(DecodeError, match="content_type is not UTF-8"):
        as_text(b"\xff", "content_type")
