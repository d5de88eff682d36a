"""What is written is read back, or refused with the place; no bytes can do worse than fail."""

import json
import math
import random
import subprocess
import sys
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamq.errors import (
    ConfigError,
    ContentDisallowed,
    DecodeError,
    EncodeError,
    SoftTimeLimitExceeded,
)
from streamq.result import Result
from streamq.serialization import codec
from streamq.serialization.codec import (
    allowed,
    decode,
    decode_json,
    encode,
    encode_json,
    find_serializer,
    register_serializer,
)

TEXT = st.text(st.characters(exclude_categories=("Cs",)))
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(10**4000), max_value=10**4000),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXT,
)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=20
)


class Colour(Enum):
    RED = "red"
    NOTHING = math.nan


class Size(IntEnum):
    BIG = 3


class Word(str, Enum):  # noqa: UP042 - the older way to write it, still common
    YES = "yes"


@dataclass
class Image:
    width: float
    tags: list[Any] = field(default_factory=list)


class Thing:
    """An object that no plain content type carries."""


@pytest.fixture(autouse=True)
def _own_register(monkeypatch):
    """What a test registers is gone after it."""
    monkeypatch.setattr(codec, "SERIALIZERS", dict(codec.SERIALIZERS))


# ── round trips ──────────────────────────────────────────────────────────────────────


@given(JSON)
def test_what_json_can_say_comes_back_as_it_was(value):
    back = decode_json(encode_json(value))

    assert back == value
    assert repr(back) == repr(value)


@given(JSON)
def test_any_json_reader_understands_what_is_written(value):
    assert json.loads(encode(value)) == value


@given(
    JSON
    | st.sets(st.integers())
    | st.datetimes()
    | st.binary()
    | st.uuids()
    | st.decimals(allow_nan=False)
)
def test_pickle_brings_back_the_same_value_and_type(value):
    back = decode(encode(value, "pickle"), "pickle")

    assert back == value
    assert type(back) is type(value)


MSGPACK = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | TEXT | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(TEXT | st.integers(0, 9), inner),
    max_leaves=20,
)


@given(MSGPACK)
def test_msgpack_also_carries_nan_bytes_and_number_keys(value):
    assert repr(decode(encode(value, "msgpack"), "msgpack")) == repr(value)


YAML = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("aé€'\"\n#:-", max_size=8) | st.dates(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc", max_size=3), inner),
    max_leaves=10,
)


@given(YAML)
def test_yaml_brings_back_plain_data_in_its_order(value):
    back = decode(encode(value, "yaml"), "yaml")

    assert back == value
    assert repr(back) == repr(value)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), b'"2026-01-02T03:04:05Z"'),
        (date(2026, 1, 2), b'"2026-01-02"'),
        (UUID(int=1), b'"00000000-0000-0000-0000-000000000001"'),
        (Decimal("1.10"), b'"1.10"'),
        (Colour.RED, b'"red"'),
        (Size.BIG, b"3"),
        (b"\x00\xff", b'"AP8="'),
        ((4, 4), b"[4,4]"),
        ({1}, b"[1]"),
        (frozenset({1}), b"[1]"),
        (Image(1.5, [None]), b'{"width":1.5,"tags":[null]}'),
        ({Word.YES: Word.YES}, b'{"yes":"yes"}'),
        (OrderedDict(b=1, a=2), b'{"b":1,"a":2}'),
        (type("Safe", (str,), {})("text"), b'"text"'),
        (type("Count", (int,), {})(3), b"3"),
        (type("Ratio", (float,), {})(1.5), b"1.5"),
        (type("Moment", (datetime,), {})(2026, 1, 2), b'"2026-01-02T00:00:00"'),
        (type("Day", (date,), {})(2026, 1, 2), b'"2026-01-02"'),
        (2**64, b"18446744073709551616"),
        ([None, "null {}"], b'[null,"null {}"]'),
    ],
)
def test_json_carries_everyday_types(value, written):
    assert encode_json(value) == encode(value) == encode(value, "application/json") == written


def test_a_subclass_is_written_as_what_it_holds_not_as_what_it_shows():
    class Password(str):
        def __str__(self) -> str:
            return "****"

    assert encode(Password("secret")) == b'"secret"'


# ── refusals ─────────────────────────────────────────────────────────────────────────

CYCLE: list[Any] = []
CYCLE.append({"again": CYCLE})

DEEP: list[Any] = []
for _ in range(200_000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (math.nan, "cannot write nan at $ as json"),
        ({"thumb": [1, 2, 3, math.nan]}, "cannot write nan at $.thumb[3] as json"),
        ([[None], {"a b": -math.inf}], "cannot write -inf at $[1]['a b'] as json"),
        (({math.inf},), "cannot write inf at $[0][0] as json"),
        ([type("Ratio", (float,), {})("nan")], "cannot write nan at $[0] as json"),
        ([Colour.NOTHING], "cannot write nan at $[0] as json"),
        ({"image": Image(math.nan)}, "cannot write nan at $.image.width as json"),
        ({1: "one"}, "cannot write the key 1 at $ as json"),
        ([{"a": {None: 1}}], "cannot write a key of the dict at $[0].a as json"),
        ([{b"a": 1}], "cannot write the key b'a' at $[0] as json"),
        ([{Colour.RED: 1}], "cannot write the key an object of type Colour at $[0] as json"),
        ([{(1, 2): 1}], "at $[0] as json"),
        ([{UUID(int=1): 1}], "at $[0] as json"),
        ({"thumb": Thing()}, "cannot write an object of type Thing at $.thumb as json"),
        ([Image(1.5, ["a", Thing()])], "an object of type Thing at $[0].tags[1] as json"),
        ([Thing], "cannot write an object of type type at $[0] as json"),
        ([["ok", "\ud800"]], "cannot write text with a lone surrogate at $[0][1] as json"),
        ({"\ud800": 1}, "cannot write text with a lone surrogate at $ as json"),
        ([10**5000], "cannot write an object of type int at $[0] as json"),
        (CYCLE, "contains itself or nests too deeply at $ as json"),
        (DEEP, "contains itself or nests too deeply at $ as json"),
        ([*range(3), iter(())], "at $[3] as json"),
    ],
)
def test_json_refuses_what_it_would_have_to_change_and_names_the_place(value, what):
    with pytest.raises(EncodeError) as refused:
        encode_json(value)

    assert what in str(refused.value)
    assert "→ " in str(refused.value)
    assert refused.value.__cause__ is not None
    str(refused.value).encode()


@pytest.mark.parametrize("serializer", ["json", "msgpack", "yaml", "pickle"])
def test_every_serializer_names_the_place_of_what_it_cannot_write(serializer):
    value = {"thumb": ["fine", threading.Lock()]}

    with pytest.raises(EncodeError, match=rf"type lock at \$\.thumb\[1\] as {serializer}"):
        encode(value, serializer)


def test_a_fault_below_any_reasonable_depth_is_still_an_encode_error():
    value: Any = {1: math.nan}
    for _ in range(300):
        value = {"in": value}

    with pytest.raises(EncodeError, match="the key 1 at"):
        encode_json(value)


def test_a_time_limit_that_strikes_while_encoding_is_not_mistaken_for_a_bad_value():
    class Slow:
        def __reduce__(self):
            raise SoftTimeLimitExceeded

    with pytest.raises(SoftTimeLimitExceeded):
        encode([Slow()], "pickle")


def test_a_time_limit_that_comes_while_the_value_is_located_is_not_swallowed():
    class Second:
        asked = 0

        def __reduce__(self):
            Second.asked += 1
            raise SoftTimeLimitExceeded if Second.asked > 1 else TypeError("first")

    with pytest.raises(SoftTimeLimitExceeded):
        encode([Second()], "pickle")


# ── unreadable bytes ─────────────────────────────────────────────────────────────────

SAMPLES = {
    "json": [
        encode({"args": [1, -2.5, "é", None, True], "kwargs": {"a": {"b": [[]]}}}),
        encode([10**100, "x" * 50]),
    ],
    "msgpack": [encode({"a": [1, -2.5, "é", None, b"\x00"], "k": {"b": 2**63}}, "msgpack")],
    "yaml": [encode({"a": [1, -2.5, "é", None, b"\x00", date(2026, 1, 2)]}, "yaml")],
}


def mutated(sample: bytes, chance: random.Random) -> bytes:
    """Bytes with some of them flipped, cut, doubled or replaced."""
    data = bytearray(sample)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(4):
            case 0:
                data[at : at + 1] = chance.randbytes(1)
            case 1:
                del data[at : at + chance.randint(1, 8)]
            case 2:
                data[at:at] = data[at : at + chance.randint(1, 8)]
            case 3:
                data[at:at] = chance.choice([b"[", b"{", b'"', b"\\u", b"&a", b"*a", b"!!", b"9"])
    return bytes(data)


@pytest.mark.parametrize(
    ("serializer", "rounds"), [("json", 10_000), ("msgpack", 10_000), ("yaml", 1_000)]
)
def test_no_bytes_do_worse_than_a_decode_error(serializer, rounds):
    chance = random.Random(7)
    refused = 0

    for _ in range(rounds):
        if chance.random() < 0.3:
            data = chance.randbytes(chance.randrange(64))
        else:
            data = mutated(chance.choice(SAMPLES[serializer]), chance)
        try:
            decode(data, serializer)
        except DecodeError as error:
            refused += 1
            str(error).encode()

    assert refused > rounds / 10


@pytest.mark.parametrize("sample", SAMPLES["json"])
def test_every_flipped_bit_of_json_is_read_or_refused(sample):
    refused = 0
    for at in range(len(sample)):
        for bit in range(8):
            data = bytearray(sample)
            data[at] ^= 1 << bit
            try:
                decode_json(bytes(data))
            except DecodeError:
                refused += 1

    assert refused > 0


def test_every_shortened_pickle_is_a_decode_error():
    data = encode({"args": [1, 2.5, "text", date(2026, 1, 2)]}, "pickle")

    for length in range(len(data)):
        with pytest.raises(DecodeError):
            decode(data[:length], "pickle")


@pytest.mark.parametrize(
    ("data", "serializer"),
    [
        (b"[" * 200_000 + b"]" * 200_000, "json"),
        (b'{"a":' * 200_000 + b"1" + b"}" * 200_000, "json"),
        (b"1" * 5000, "json"),
        (b"1e999", "json"),
        (b"NaN", "json"),
        (b"-Infinity", "json"),
        (b'"\\ud800"', "json"),
        (b'"\xed\xa0\x80"', "json"),
        (b"\xff\xfe", "json"),
        (b"", "json"),
        (b"1 2", "json"),
        (b"[1,]", "json"),
        (b"\x91" * 200_000, "msgpack"),
        (b"\xdd\xff\xff\xff\xff", "msgpack"),
        (b"\x81\x80\x01", "msgpack"),
        (b"\x01\x01", "msgpack"),
        (b"[" * 2_000, "yaml"),
        (b"!!python/object/apply:os.getcwd []", "yaml"),
        (b"2026-99-99", "yaml"),
        (b"{[]: 1}", "yaml"),
        (b"cno_such_module\nanything\n.", "pickle"),
        (b"cbuiltins\nlen\n(I1\ntR.", "pickle"),
        (b"", "pickle"),
    ],
)
def test_known_traps_are_decode_errors(data, serializer):
    with pytest.raises(DecodeError, match=f"{len(data)} bytes cannot be read as {serializer}"):
        decode(data, serializer)


def test_a_decode_error_says_where_and_how_the_bytes_begin():
    with pytest.raises(DecodeError) as refused:
        decode_json(b'{"a": nope}')

    assert "byte 10" in str(refused.value)
    assert """b'{"a": nope}'""" in str(refused.value)


def test_an_error_that_cannot_even_be_printed_is_a_decode_error():
    class Worse(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    def read(data: bytes) -> Any:
        raise Worse

    register_serializer("worse", repr, read, "application/x-worse")  # type: ignore[arg-type]

    with pytest.raises(DecodeError, match="Worse"):
        decode(b"", "worse")


# ── what is accepted ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("content", "accept"),
    [
        ("json", ["json"]),
        ("application/json", ["json"]),
        ("json", ["application/json"]),
        ("application/x-python-serialize", {"json", "pickle"}),
        ("application/x-yaml", ("yaml",)),
        ("application/x-msgpack", ("msgpack",)),
    ],
)
def test_a_name_and_its_content_type_are_the_same_thing(content, accept):
    assert allowed(content, accept) is None
    assert find_serializer(content).name in map(codec.canonical, accept)


def test_what_is_not_accepted_is_refused_with_what_would_accept_it():
    with pytest.raises(ContentDisallowed) as refused:
        allowed("application/x-python-serialize", ["application/json"])

    message = str(refused.value)
    assert "'application/x-python-serialize' is not accepted" in message
    assert "accepted  json" in message
    assert "accept_content=['json', 'pickle']" in message


@pytest.mark.parametrize("content", ["", "JSON", "nonsense", "\ud800", "x" * 100_000])
def test_an_unknown_content_type_is_refused_in_a_printable_line(content):
    with pytest.raises(ContentDisallowed) as refused:
        allowed(content, ["json"])

    assert len(str(refused.value).encode()) < 1000


def test_nothing_at_all_may_be_accepted():
    with pytest.raises(ContentDisallowed, match="nothing"):
        allowed("json", [])


# ── the register ─────────────────────────────────────────────────────────────────────


def test_a_registered_serializer_is_found_by_name_and_content_type():
    register_serializer("upper", lambda value: value.upper(), bytes.decode, "text/x-upper")

    assert encode("ab", "upper") == encode("ab", "text/x-upper") == b"AB"
    assert decode(b"AB", "upper") == "AB"
    allowed("text/x-upper", ["upper"])


def test_registering_a_name_again_replaces_it():
    register_serializer("twice", lambda value: b"1", bytes.decode, "text/x-first")
    register_serializer("twice", lambda value: b"2", bytes.decode, "text/x-second")

    assert encode(None, "twice") == b"2"
    with pytest.raises(ConfigError):
        find_serializer("text/x-first")


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("json", "text/x-own"),
        ("own", "application/json"),
        ("application/json", "text/x-own"),
        ("", "text/x-own"),
        ("own", None),
    ],
)
def test_what_streamq_brings_cannot_be_replaced_nor_names_left_out(name, content_type):
    with pytest.raises(ConfigError):
        register_serializer(name, repr, bytes.decode, content_type)

    with pytest.raises(ConfigError):
        find_serializer("own")


def test_a_content_type_belongs_to_one_serializer():
    register_serializer("mine", lambda value: b"", bytes.decode, "text/x-mine")

    with pytest.raises(ConfigError, match="already belongs"):
        register_serializer("yours", lambda value: b"", bytes.decode, "text/x-mine")


def test_a_serializer_that_does_not_return_bytes_is_an_encode_error():
    register_serializer("wrong", lambda value: value, bytes.decode, "text/x-wrong")

    with pytest.raises(EncodeError, match="returned int, not bytes"):
        encode(1, "wrong")


def test_an_unknown_serializer_is_answered_with_a_suggestion():
    with pytest.raises(ConfigError, match="did you mean 'pickle'") as refused:
        encode(1, "pickel")

    assert "there are  json, msgpack, pickle, yaml\n" in str(refused.value)
    with pytest.raises(ConfigError):
        decode(b"1", "pickel")


def test_yaml_is_imported_by_its_first_use_and_its_absence_says_what_to_install():
    code = """
import sys
from streamq import errors
from streamq.serialization import codec
assert "yaml" not in sys.modules
codec.encode([1], "json")
assert "yaml" not in sys.modules
sys.modules["yaml"] = None
for act in (lambda: codec.encode(1, "yaml"), lambda: codec.decode(b"1", "yaml")):
    try:
        act()
    except errors.ConfigError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.count('→ pip install "streamq[yaml]"') == 2


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        ((i for i in "ab"), "use list(…) of the generator"),
        (map(str, [1]), "use list(…) of the map"),
        ({"a": 1}.keys(), "use list(…) of the dict_keys"),
        (Result("a", None, None), "send result.id;"),
    ],
)
def test_advice_names_what_the_value_should_be_turned_into(value, advice):
    with pytest.raises(EncodeError) as refused:
        encode({"part": value})

    assert "at $.part" in str(refused.value)
    assert advice in str(refused.value)
    assert "pickle" not in str(refused.value)


def test_a_reason_of_ours_names_no_class():
    with pytest.raises(EncodeError, match="reason  JSON cannot represent the key 1"):
        encode({1: 2})
