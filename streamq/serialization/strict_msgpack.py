"""Strict MessagePack: with the limits of strict JSON.

NaN and the infinities are allowed: MessagePack can represent them.
"""

from types import NoneType
from typing import Any

import msgspec

from streamq.serialization.strict_json import (
    DEEPEST,
    LARGEST,
    LEAVES_AND_FLOATS,
    TooManyItems,
    plain,
    verify,
)

#: Types of keys that MessagePack reads back unchanged.
KEYS = (str, int, float, bytes, tuple, NoneType)

write: Any = msgspec.msgpack.Encoder(enc_hook=plain).encode
read: Any = msgspec.msgpack.Decoder().decode


def write_msgpack(value: Any) -> bytes:
    """Write a value as MessagePack.  Raises NotRepresentable, RecursionError or msgspec's error."""
    data: bytes = write(value)
    if type(value) not in LEAVES_AND_FLOATS:
        verify(value, LEAVES_AND_FLOATS, KEYS, nan=True)
    if is_suspicious(data):  # what readers refuse is not written
        walk(data)
    return data


def read_msgpack(data: bytes) -> Any:
    """Read a value.  Raises ``ValueError`` for a repeated key, or too deep or large a value."""
    value = read(data)
    # Input that is written again unchanged has no repeated key.
    if (is_suspicious(data) or write(value) != data) and walk(data) != members(value):
        raise ValueError("a key is repeated in one map")
    return value


def is_suspicious(data: bytes) -> bool:
    """Whether a value may be too deep or too large, so that every byte must be checked."""
    if len(data) > LARGEST:
        return True
    return len(data) > DEEPEST and len(data.translate(None, NO_HEADERS)) > DEEPEST


#: The bytes that begin no list and no map.
NO_HEADERS = bytes(set(range(256)) - {*range(0x80, 0xA0), *range(0xDC, 0xE0)})

#: By first byte: how many bytes of length follow it (LENGTHS), or of content (FIXED).
LENGTHS = {
    0xC4: 1, 0xC5: 2, 0xC6: 4,  # bytes
    0xD9: 1, 0xDA: 2, 0xDB: 4,  # text
    0xC7: 1, 0xC8: 2, 0xC9: 4,  # extension, with one byte more for its type
    0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4,  # lists and maps
}  # fmt: skip
FIXED = {
    0xC0: 0, 0xC2: 0, 0xC3: 0,  # nil, false, true
    0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8,
    0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17,
}  # fmt: skip
LISTS, MAPS, EXTENSIONS = (0xDC, 0xDD), (0xDE, 0xDF), (0xC7, 0xC8, 0xC9)


def walk(data: bytes) -> int:
    """The number of members that all maps announce.  Raises for too deep, large or cut input."""
    at, end, announced = 0, len(data), 0
    open_items = [1]  # how many values are still to come, for each level
    while open_items:
        if not open_items[-1]:
            open_items.pop()
            continue
        open_items[-1] -= 1
        if at >= end:
            raise ValueError("the end is missing")
        at, items, pairs = header(data, at)
        if items is None:
            continue
        if items > LARGEST * (2 if pairs else 1):
            raise TooManyItems(items // 2 if pairs else items)
        if len(open_items) > DEEPEST:
            raise RecursionError(f"more than {DEEPEST} lists or maps inside each other")
        announced += items // 2 if pairs else 0
        open_items.append(items)
    return announced


def header(data: bytes, at: int) -> tuple[int, int | None, bool]:
    """The position after a header, the items it announces (None for no container), if a map."""
    first = data[at]
    at += 1
    if first < 0x80 or first >= 0xE0:
        return at, None, False
    if first < 0x90:
        return at, 2 * (first & 0x0F), True
    if first < 0xA0:
        return at, first & 0x0F, False
    if first < 0xC0:
        return at + (first & 0x1F), None, False
    if first in LENGTHS:
        size = LENGTHS[first]
        length = int.from_bytes(data[at : at + size], "big")
        at += size
        if first in LISTS:
            return at, length, False
        if first in MAPS:
            return at, 2 * length, True
        return at + length + (first in EXTENSIONS), None, False
    if first not in FIXED:
        raise ValueError(f"no value begins with the byte {first:#x}")
    return at + FIXED[first], None, False


def members(value: Any) -> int:
    """The number of members of all maps in a value, also in keys."""
    found, level = 0, [value]
    while level:
        below: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                found += len(each)
                below += [key for key in each if isinstance(key, tuple)]
                below += each.values()
            elif isinstance(each, list | tuple):
                below += each
        level = [each for each in below if isinstance(each, dict | list | tuple)]
    return found
