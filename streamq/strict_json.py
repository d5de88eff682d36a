"""JSON as msgspec writes it, held to what JSON can say.

msgspec writes a NaN as null and the key 1 as "1".  Here that is an error: a value either
arrives as it was, in the form its annotation turns back, or is not sent.
"""

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
    """The value as JSON; raises whatever stands in the way."""
    if value is None:  # what most tasks return
        return b"null"
    data = dump_json(value)
    # No number became null where the output has no null, and no key became text where it
    # has no object: most values need no second look, or a quick one.
    nulls = data.find(b"null") >= 0
    if nulls or OBJECT in data:
        verify(value, LEAVES if nulls else LEAVES_AND_FLOATS)
    return data


OBJECT = ord("{")

#: What JSON cannot get wrong; by far the most values are these.
LEAVES = frozenset(
    {NoneType, bool, int, str, bytes, datetime, date, time, timedelta, Decimal, UUID}
)
LEAVES_AND_FLOATS = LEAVES | {float}


class Unsayable(ValueError):
    """JSON has no word for this, and ``advice`` is what to send instead."""

    def __init__(self, what: str, advice: str) -> None:
        super().__init__(f"JSON has no word for {what}")
        self.what = what
        self.advice = advice


def verify(value: Any, leaves: frozenset[type]) -> None:
    """Raise ``Unsayable`` for a number or a key that JSON would replace by another."""
    todo = [value]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            for key, item in value.items():
                if type(key) is not str and not isinstance(key, str):
                    raise Unsayable(
                        f"the key {brief(key)}", "write str(key), or send a list of pairs"
                    )
                if type(item) not in leaves:
                    todo.append(item)
        elif isinstance(value, (list, tuple, set, frozenset)):
            for item in value:
                if type(item) not in leaves:
                    todo.append(item)
        elif isinstance(value, float):
            if not isfinite(value):
                raise Unsayable(
                    f"{float(value)}", "send None, or use the serializer 'msgpack', which has it"
                )
        elif isinstance(value, Enum):
            todo.append(value.value)
        elif type(value) not in leaves:
            todo.extend(item for _, item in attributes(value))


def plain(value: Any) -> Any:
    """The text, number or time in a subclass that msgspec does not know by itself.

    The base's own method reads it: a subclass may show itself as something else.
    """
    for base, read in PLAIN:
        if isinstance(value, base):
            return read(value)
    raise TypeError(f"objects of type {type(value).__qualname__} cannot be written")


PLAIN: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (datetime, datetime.isoformat),  # before date, which it is a kind of
    (date, date.isoformat),
)


def attributes(value: Any) -> list[tuple[str, Any]]:
    """The fields of a dataclass, a Struct or an attrs object; nothing of anything else."""
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
    """A key as a person would write it, short."""
    if isinstance(key, (str, int, float, bytes, NoneType)) and not isinstance(key, Enum):
        return cut(repr(key), 60)
    return f"an object of type {type(key).__qualname__}"


def cut(text: str, length: int = 300) -> str:
    """Text from outside, short enough for a message and safe to print."""
    text = str(text).encode(errors="backslashreplace").decode()
    return text if len(text) <= length else text[: length - 1] + "…"


dump_json: Callable[[Any], bytes] = msgspec.json.Encoder(enc_hook=plain).encode
read_json: Callable[[bytes], Any] = msgspec.json.Decoder().decode
