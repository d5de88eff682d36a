"""Strict JSON: msgspec's JSON without its silent changes of values.

msgspec writes a NaN as null, the key 1 as "1" and an Enum's tuple as a list.  Here that is an
error: a value arrives as it was, or in the form that its annotation turns back, or not at all.
"""

import json
import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from math import isfinite
from types import NoneType
from typing import Any
from uuid import UUID

import msgspec


def write_json(value: Any) -> bytes:
    """Write a value as JSON.  Raises NotRepresentable, RecursionError or what msgspec raises."""
    if value is None:  # what most tasks return
        return b"null"
    data = dump_json(value)
    kind = type(value)
    few = kind in LISTS and len(value) <= FEW
    if not (kind in LEAVES or (few and LEAVES.issuperset(map(type, value)))):
        # The output shows what may have changed: NaN became null, keys became text in objects,
        # and other values became lists.  Output without these needs no second check.
        nulls = b"null" in data
        listed = LIST in (data[1:] if kind is tuple else data)
        if nulls or OBJECT in data or (listed and hides_lists(data, value)):
            verify(value, LEAVES if nulls else LEAVES_AND_FLOATS)
    if len(data) > SMALL and (OBJECT in data or data.find(b"[", 1) > 0 or len(data) > WIDE):
        check_shape(data)  # what readers refuse is not written
    return data


OBJECT = ord("{")
LIST = ord("[")
COLON = ord(":")
LISTS = frozenset({list, tuple})
#: The most items of a list that are checked one by one; for more, checking the JSON is faster.
FEW = 16

#: The deepest nesting of values, and the most items of one list or mapping.
DEEPEST = 64
LARGEST = 100_000
#: Bytes up to which a value cannot be deeper than that, or not larger.
SMALL, WIDE = 2 * DEEPEST, 2 * LARGEST

#: Text in JSON; then the bytes that are removed and replaced to measure the nesting.
TEXTS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
AS_BRACKETS = bytes.maketrans(b"{}", b"[]")

#: Types that arrive unchanged or that annotations turn back; most values are of these.
LEAVES = frozenset(
    {NoneType, bool, int, str, bytes, datetime, date, time, timedelta, Decimal, UUID}
)
LEAVES_AND_FLOATS = LEAVES | {float}
#: Types of an Enum's value whose JSON text or number leads back to the member.
ENUM_VALUES = (str, int, float, bytes, datetime, date, time, timedelta, Decimal, UUID)


class NotRepresentable(ValueError):
    """A value that JSON cannot represent; ``advice`` is what to send instead."""

    def __init__(self, what: str, advice: str) -> None:
        super().__init__(f"JSON cannot represent {what}")
        self.what = what
        self.advice = advice


class EnumNotRepresentable(NotRepresentable):
    """An Enum whose value is neither text nor a number, nor written as one."""

    def __init__(self, member: Enum) -> None:
        super().__init__(
            f"{type(member).__qualname__}.{member.name}, whose value is no text and no number,",
            f"send its name, which {type(member).__qualname__}[name] turns back",
        )


class TooManyItems(NotRepresentable):
    """A list or mapping with more items than are allowed."""

    def __init__(self, items: int) -> None:
        self.what = f"a list or mapping of {items:,} items, more than the {LARGEST:,} that may be,"
        self.advice = "send less at once, or a reference (a key, a path) instead of the data"
        ValueError.__init__(self, f"{items:,} items in one list or mapping; at most {LARGEST:,}")


def hides_lists(data: bytes, value: Any) -> bool:
    """Whether JSON has more lists than the value and its items: others became lists."""
    seen = 0
    if type(value) in LISTS:
        seen = 1 + len([True for item in value if type(item) in LISTS])
    return data.count(b"[") != seen


def verify(
    value: Any, leaves: frozenset[type], keys: tuple[type, ...] = (str,), *, nan: bool = False
) -> None:
    """Raise ``NotRepresentable`` for a value that would arrive as something else.

    ``keys`` are the types of keys of the format, ``nan`` says that it has NaN.
    """
    todo = [value]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            for key, item in value.items():
                if type(key) is not str and not is_key(key, keys):
                    raise NotRepresentable(
                        f"the key {brief(key)}", "write str(key), or send a list of pairs"
                    )
                if type(item) not in leaves:
                    todo.append(item)
        elif isinstance(value, Enum):
            if not isinstance(value.value, ENUM_VALUES):
                raise EnumNotRepresentable(value)
            todo.append(value.value)
        elif isinstance(value, (list, tuple)):
            for item in value:
                if type(item) not in leaves:
                    todo.append(item)
        elif isinstance(value, (set, frozenset)):
            for item in value:
                if is_named_tuple(item):
                    raise NotRepresentable(
                        f"a {type(item).__qualname__} in a set", "send a list or tuple of them"
                    )
                todo.append(item)
        elif isinstance(value, float):
            if not nan and not isfinite(value):
                raise NotRepresentable(
                    f"{float(value)}", "send None, or use the serializer 'msgpack', which has it"
                )
        elif type(value) not in leaves:
            todo.extend(item for _, item in attributes(value))


def is_key(key: Any, keys: tuple[type, ...]) -> bool:
    """Whether a format with keys of these types keeps this key as it is."""
    if isinstance(key, str):
        return True
    return isinstance(key, keys) and not isinstance(key, Enum) and not is_named_tuple(key)


def is_named_tuple(value: Any) -> bool:
    return isinstance(value, tuple) and hasattr(value, "_fields")


def plain(value: Any) -> Any:
    """Convert an instance of a subclass of text, number or time, which msgspec does not take.

    The base class's own method reads it, as the subclass may override that.
    """
    for base, read in PLAIN:
        if isinstance(value, base):
            return read(value)
    raise TypeError(f"objects of type {type(value).__qualname__} cannot be written")


PLAIN: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (datetime, datetime.isoformat),  # before date, its base
    (date, date.isoformat),
)


def attributes(value: Any) -> list[tuple[str, Any]]:
    """The fields of a dataclass, a Struct or an attrs object; none of other values."""
    if isinstance(value, type):
        return []
    if is_dataclass(value):
        names = [field.name for field in fields(value)]
    elif isinstance(value, msgspec.Struct):
        names = list(value.__struct_fields__)
    else:
        names = [field.name for field in getattr(type(value), "__attrs_attrs__", ())]
    return [(name, getattr(value, name)) for name in names if hasattr(value, name)]


def brief(key: Any) -> str:
    """Write a key as in Python source, at most 60 characters."""
    if isinstance(key, (str, int, float, bytes, NoneType)) and not isinstance(key, Enum):
        return cut(repr(key), 60)
    return f"an object of type {type(key).__qualname__}"


def cut(text: str, length: int = 300) -> str:
    """Shorten foreign text for a message, and make it safe to print."""
    text = str(text).encode(errors="backslashreplace").decode()
    return text if len(text) <= length else text[: length - 1] + "…"


def check_json(data: bytes, value: Any) -> None:
    """Raise ``ValueError`` if JSON repeats a name in an object, or is too deep or too large.

    Cheap for most input: brackets, commas and colons are counted in the bytes, and only if
    there are too many of them is the value checked.
    """
    if len(data) > SMALL and (OBJECT in data or data.find(b"[", 1) > 0 or len(data) > WIDE):
        check_shape(data)
    if COLON in data:
        colons = data.count(b":")
        # As many members as colons: no name is repeated.  Else there are colons in texts, or
        # objects in objects; input that is written again unchanged has no repeated name either.
        if colons > 1:
            found = len(value) if type(value) is dict else members(value)
            if found != colons and dump_json(value) != data:
                json.loads(data, object_pairs_hook=once_each)


def check_shape(data: bytes) -> None:
    """Raise for valid JSON that nests too deeply or holds too many items."""
    # Finding that a byte is absent costs a fifth of counting it.
    openings = data.count(b"[") if data.find(b"[", 1) > 0 else 1
    if OBJECT in data:
        openings += data.count(b"{")
    if openings > DEEPEST and depth(data) > DEEPEST:
        raise RecursionError(f"more than {DEEPEST} lists or mappings inside each other")
    if len(data) > WIDE and data.count(b",") >= LARGEST:
        check_sizes(read_json(data))


def depth(data: bytes) -> int:
    """The nesting depth of valid JSON, counted up to just above ``DEEPEST``.

    Only the brackets are kept, and innermost pairs are removed until none are left: visiting
    each value would take longer than reading them all.
    """
    if b'"' in data:
        plain = b"\\" not in data
        data = b"".join(data.split(b'"')[::2]) if plain else TEXTS.sub(b"", data)
    left, levels = data.translate(AS_BRACKETS, NO_BRACKETS), 0
    while left and levels <= DEEPEST:
        left, levels = left.replace(b"[]", b""), levels + 1
    return levels


def check_sizes(value: Any) -> None:
    """Raise ``NotRepresentable`` if a list or mapping in what was read holds too many items."""
    level = [value]
    while level:
        holders = [each for each in level if type(each) in (list, dict)]
        largest = max(map(len, holders), default=0)
        if largest > LARGEST:
            raise TooManyItems(largest)
        level = [
            item
            for each in holders
            for item in (each if type(each) is list else each.values())
            if type(item) in (list, dict)
        ]


def members(value: Any) -> int:
    """The number of members of the objects that are direct items of a list."""
    if type(value) is list:
        return sum([len(item) for item in value if type(item) is dict])
    return 0


def once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a mapping of the members of an object.  Raises ``ValueError`` for a repeated name."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise ValueError(f"the name {brief(twice)} is repeated in one object")
    return found


dump_json: Callable[[Any], bytes] = msgspec.json.Encoder(enc_hook=plain).encode
read_json: Callable[[bytes], Any] = msgspec.json.Decoder().decode
