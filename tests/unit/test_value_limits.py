"""Values that nobody should send are not sent, and not taken from those who do."""

import json
import sys
import time
import tracemalloc
import zlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamq.config.config import Config
from streamq.core.options import checked
from streamq.errors import ContentDisallowed, DecodeError, EncodeError
from streamq.producer.templates import template
from streamq.serialization import strict_json, strict_msgpack
from streamq.serialization.codec import decode, decode_json, encode, encode_json
from streamq.serialization.compression import compress, decompress
from streamq.serialization.payload import LONGEST_HEADERS, MOST_HEADERS, Payloads, check_headers
from streamq.serialization.strict_json import DEEPEST, LARGEST, depth
from streamq.serialization.strict_msgpack import walk

MIB = 1 << 20
FORMATS = ["json", "msgpack"]
#: What both formats can say.
NUMBERS = st.integers(-(2**63), 2**63)


def nested(levels, kind="list"):
    value = 1
    for _ in range(levels):
        value = [value] if kind == "list" else {"a": value}
    return value


def raw(value, format):
    """Bytes of any value, without the bounds of ours."""
    return msgspec.json.encode(value) if format == "json" else msgspec.msgpack.encode(value)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("kind", ["list", "dict"])
def test_values_nest_64_levels_and_no_deeper(format, kind):
    deepest, deeper = nested(DEEPEST, kind), nested(DEEPEST + 1, kind)

    assert decode(encode(deepest, format), format) == deepest
    with pytest.raises(EncodeError, match="nests too deeply"):
        encode(deeper, format)
    with pytest.raises(DecodeError):
        decode(raw(deeper, format), format)


@pytest.mark.parametrize("format", FORMATS)
def test_control_without_the_look_at_its_shape_it_nests_deeper(format, monkeypatch):
    monkeypatch.setattr(strict_json, "check_shape", lambda data: None)
    monkeypatch.setattr(strict_msgpack, "is_suspicious", lambda data: False)

    assert decode(raw(nested(DEEPEST + 1), format), format)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("levels", [300, 5_000, 200_000])
def test_depths_that_would_overflow_a_stack_are_refused(format, levels):
    data = b"[" * levels + b"]" * levels if format == "json" else b"\x91" * levels + b"\x01"

    with pytest.raises(DecodeError):
        decode(data, format)


def test_many_lists_beside_each_other_are_not_deep():
    wide = [[[]] for _ in range(1000)]

    assert decode_json(encode_json(wide)) == wide
    assert depth(encode_json(wide)) == 3


@given(
    st.recursive(
        st.none() | st.text('[]{}",:\\é') | NUMBERS,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('[{}]"\\'), inner),
    )
)
def test_depth_is_told_from_the_bytes_whatever_texts_hold(value):
    def deep(value):
        if isinstance(value, dict):
            return 1 + max(map(deep, value.values()), default=0)
        return 1 + max(map(deep, value), default=0) if isinstance(value, list) else 0

    assert depth(msgspec.json.encode(value)) == deep(value)
    assert depth(json.dumps(value).encode()) == deep(value)
    assert decode_json(json.dumps(value).encode()) == value
    assert decode(raw(value, "msgpack"), "msgpack") == value
    walk(raw(value, "msgpack"))


@pytest.mark.parametrize("format", FORMATS)
def test_collections_have_100_000_items_at_most(format):
    for most in ([1] * LARGEST, {"a": [1] * LARGEST}, {str(n): 1 for n in range(LARGEST)}):
        assert decode(encode(most, format), format) == most
    for more in ([1] * (LARGEST + 1), [{str(n): 1 for n in range(LARGEST + 1)}]):
        with pytest.raises(EncodeError, match=r"(?s)100,001 items.*100,000") as refused:
            encode(more, format)
        assert "cannot represent" not in str(refused.value)
        with pytest.raises(DecodeError, match="100,001 items"):
            decode(raw(more, format), format)


def test_collections_of_the_size_allowed_may_stand_beside_each_other():
    value = [[1] * LARGEST, [1] * LARGEST]

    assert decode_json(encode_json(value)) == value


@pytest.mark.parametrize("format", FORMATS)
def test_integers_that_are_sent_have_4300_digits_at_most(format):
    with pytest.raises(EncodeError):
        encode([10**4300], format)


def test_integers_that_are_read_have_4300_digits_at_most_whatever_python_is_told():
    told = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        assert decode_json(b"[" + b"9" * 4300 + b"]") == [10**4300 - 1]
        with pytest.raises(DecodeError):
            decode_json(b"[" + b"9" * 4301 + b"]")
    finally:
        sys.set_int_max_str_digits(told)


TWICE = [
    b'{"a":1,"a":1}',
    b'{"a":1,"\\u0061":2}',
    b'[{"b":{"a":[],"a":[]}}]',
    b'[{"x:y":"a:b","a":1, "a":1}]',
    b'[[{"a":1,"a":1}],{"c":2}]',
    b'{"":0,"":0}',
    b'[{"a":1.0,"a":1e0}]',
]


@pytest.mark.parametrize("data", TWICE)
def test_a_name_given_twice_is_refused(data):
    with pytest.raises(DecodeError, match="is repeated"):
        decode_json(data)


def test_control_without_the_look_the_last_one_wins():
    assert [strict_json.read_json(data) for data in TWICE[:1]] == [{"a": 1}]


def test_a_key_given_twice_is_refused_in_msgpack():
    for data in (
        b"\x82\xa1a\x01\xa1a\x02",
        b"\x91\x82\xd9\x01a\x01\xa1a\x02",
        b"\x82\x01\x01\x01\x01",
    ):
        with pytest.raises(DecodeError, match="is repeated"):
            decode(data, "msgpack")


@pytest.mark.parametrize(
    "data",
    [
        b'{"a": 1, "b": 2}',
        b'[{"t":"12:30:00","u":"http://x"}, {"a":{"b":{"c":1}}}]',
        b'{"a":1e2,"b":2}',
    ],
)
def test_other_ways_of_writing_are_read(data):
    assert decode_json(data) == json.loads(data)


@pytest.mark.parametrize(
    "data",
    [
        b"[NaN]",
        b"[Infinity]",
        b"[-Infinity]",
        b"[nan]",
        b"[1e400]",
        b'["\xff"]',
        b"\xff\xfe[\x001\x00",
    ],
)
def test_json_holds_no_nan_no_infinity_and_nothing_but_utf_8(data):
    with pytest.raises(DecodeError):
        decode_json(data)


def test_foreign_msgpack_is_read_however_wide_it_writes():
    one, key, float32 = b"\xcd\x00\x01", b"\xdb\x00\x00\x00\x01a", b"\xca\x3f\x80\x00\x00"
    wide = b"\xdd\x00\x00\x00\x02" + one + b"\xdf\x00\x00\x00\x01" + key + float32

    assert decode(wide, "msgpack") == [1, {"a": 1.0}]


# Headers and messages


def send(headers):
    conf = Config.load({}, None, {}, None)
    return template("t", checked({"headers": headers}), [], conf)


def test_headers_are_64_and_8_kib_at_most():
    assert send({f"h{n}": n for n in range(MOST_HEADERS)})
    with pytest.raises(EncodeError, match="65 headers"):
        send({f"h{n}": n for n in range(MOST_HEADERS + 1)})
    with pytest.raises(EncodeError, match="1 header of"):
        send({"a": "x" * LONGEST_HEADERS})


def test_headers_of_others_are_bounded_too():
    check_headers(json.dumps({f"h{n}": "a:b" for n in range(MOST_HEADERS)}).encode())
    check_headers(b'{"a":"' + b":" * 1000 + b'"}')
    for data in (
        json.dumps({f"h{n}": n for n in range(MOST_HEADERS + 1)}).encode(),
        b"x" * (LONGEST_HEADERS + 1),
        b'{"a":[' + b":" * 100,
    ):
        with pytest.raises(DecodeError):
            check_headers(data)


# Bombs


@pytest.mark.parametrize("name", ["zlib", "zstd"])
def test_a_stream_takes_no_more_memory_than_its_content_may(name):
    bomb = compress(bytes(200 * MIB), name)

    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):
            decompress(bomb, name, limit=8 * MIB, ratio=100)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 32 * MIB


def test_a_window_larger_than_the_content_may_be_is_refused():
    zstd = pytest.importorskip("backports.zstd")
    options = {zstd.CompressionParameter.window_log: 27}
    compressor = zstd.ZstdCompressor(options=options)
    data = compressor.compress(b"little") + compressor.flush()

    with pytest.raises(DecodeError, match="zstd"):
        decompress(data, "zstd", limit=8 * MIB, ratio=100)
    assert decompress(data, "zstd", limit=1 << 27, ratio=10**9) == b"little"


# Fuzz

BOTH = Payloads(accept=("json", "msgpack"), limit=MIB, decompressed_limit=8 * MIB, ratio=100)
CONTENT = st.sampled_from([None, "application/json", "application/x-msgpack", "pickle", "x/y"])
PACKED = st.sampled_from([None, "zlib", "zstd", "gzip"])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | NUMBERS
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc", max_size=3), inner),
    max_leaves=20,
)


def harmless(data, content, compression):
    """Read bytes; check that nothing but our errors comes of it, soon and with little memory."""
    began = time.process_time()
    try:
        return BOTH.read(data, content, compression)
    except (DecodeError, ContentDisallowed):
        return None
    finally:
        assert time.process_time() - began < 0.25  # the collector may run meanwhile


@settings(max_examples=1000, deadline=None)
@given(st.binary(max_size=2000), CONTENT, PACKED)
def test_any_bytes_end_as_a_value_or_an_error_of_ours(data, content, compression):
    harmless(data, content, compression)


@settings(max_examples=1000, deadline=None)
@given(VALUES, st.sampled_from(FORMATS), PACKED.filter(lambda name: name != "gzip"), st.data())
def test_damaged_values_end_as_a_value_or_an_error_of_ours(value, format, compression, chance):
    data = bytearray(BOTH.write(value, format, compression, "it"))
    for _ in range(chance.draw(st.integers(1, 3))):
        bit = chance.draw(st.integers(0, 8 * len(data) - 1))
        data[bit // 8] ^= 1 << bit % 8

    harmless(bytes(data), format, compression)


WICKED = [
    b"[" * MIB,
    b"[[],".ljust(0) * (MIB // 4),
    b'{"a":' * (MIB // 5),
    b"9" * MIB,
    b"[" + b"9" * 4300 + b"," * (MIB // 2),
    b'"' + b"\\u0000" * (MIB // 6),
    b'{"' + b'":1,"' * (MIB // 5),
    b"\xdd\xff\xff\xff\xff" + b"\x01" * 100,
    b"\xdf\xff\xff\xff\xff" * 60,
    b"\xdc\xff\xff" * (MIB // 3),
    b"\xc6\xff\xff\xff\xff",
    b"\x91" * MIB,
    b"1e" + b"9" * MIB,
    b"0." + b"0" * MIB,
]


@pytest.mark.parametrize("content", FORMATS)
@pytest.mark.parametrize("place", range(len(WICKED)))
def test_what_was_made_to_hurt_takes_neither_time_nor_memory(content, place):
    tracemalloc.start()
    try:
        harmless(WICKED[place], content, None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 64 * MIB


@pytest.mark.parametrize(
    "packed", [zlib.compress(bytes(64 * MIB)), compress(bytes(64 * MIB), "zstd")]
)
def test_bombs_end_soon(packed):
    name = "zlib" if packed[:1] == b"\x78" else "zstd"

    assert harmless(packed, None, name) is None
