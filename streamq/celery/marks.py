"""Marks in JSON: types that JSON lacks, written and read as kombu does.

    datetime(2026, 1, 2)  <->  {"__type__": "datetime", "__value__": "2026-01-02T00:00:00"}

So a task gets a datetime back without annotations, and Celery's own programs read it as well.
"""

import sys
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from streamq.errors import DecodeError, EncodeError
from streamq.serialization.codec import decode_json, encode_json
from streamq.serialization.payload import Payloads

TYPE, VALUE = "__type__", "__value__"
#: What JSON with a mark in it surely has.
IN_JSON = b'"__type__"'
JSON = ("json", "application/json")

#: Types that JSON has.
PLAIN = frozenset({type(None), bool, int, float, str})

#: The type of the keys of mappings in JSON, and what stands there for others.
TEXT = frozenset({str})
KEYS: dict[Any, str] = {True: "true", False: "false", None: "null"}

#: Types with marks: type → name (None for none) and what writes a value.  The first that fits is
#: taken: datetime stands before its base, date.
writers: dict[type, tuple[str | None, Callable[[Any], Any]]] = {}
#: What reads a value, by the name in its mark.
readers: dict[str, Callable[[Any], Any]] = {
    "bytes": str.encode,
    "base64": b64decode,
}


def register_type(
    type: type,
    marker: str | None,
    encoder: Callable[[Any], Any],
    decoder: Callable[[Any], Any] = lambda value: value,
) -> None:
    """Let JSON carry values of a type: ``encoder`` makes what JSON has, ``decoder`` turns it back.

    With ``marker=None`` the value arrives as what ``encoder`` returned.
    """
    writers[type] = (marker, encoder)
    if marker is not None:
        readers[marker] = decoder


register_type(datetime, "datetime", datetime.isoformat, datetime.fromisoformat)
register_type(date, "date", date.isoformat, lambda text: datetime.fromisoformat(text).date())
register_type(time, "time", time.isoformat, time.fromisoformat)
register_type(Decimal, "decimal", str, Decimal)
register_type(UUID, "uuid", lambda value: {"hex": value.hex}, lambda found: UUID(**found))


def with_marks(value: Any) -> Any:
    """Write marks in place of what JSON lacks; the same object if there is nothing of it."""
    kind = type(value)
    if kind in PLAIN:
        return value
    if kind is list or kind is tuple:
        if PLAIN.issuperset(map(type, value)):
            return value
        found = [with_marks(item) for item in value]
        same = all(new is old for new, old in zip(found, value, strict=True))
        return value if same else found
    if isinstance(value, dict):
        if not TEXT.issuperset(map(type, value)):
            value = {key_text(key): item for key, item in value.items()}
        if PLAIN.issuperset(map(type, value.values())):
            return value
        written = {key: with_marks(item) for key, item in value.items()}
        return value if all(written[key] is value[key] for key in value) else written
    return marked(value)


def key_text(key: Any) -> Any:
    """The key of a mapping as JSON has it: numbers, truths and None become text, as with Celery."""
    kind = type(key)
    if kind is int or kind is float:
        return repr(key)
    return KEYS[key] if kind is bool or key is None else key


def marked(value: Any) -> Any:
    """Write one value with its mark; a value without one stays as it is."""
    reduce = getattr(type(value), "__json__", None)
    if reduce is not None:
        return with_marks(reduce(value))
    lazy = getattr(sys.modules.get("django.utils.functional"), "Promise", None)
    if lazy is not None and isinstance(value, lazy):
        return str(value)
    for kind, (name, write) in writers.items():
        if isinstance(value, kind):
            written = write(value)
            return written if name is None else {TYPE: name, VALUE: written}
    if isinstance(value, bytes):
        try:
            return {TYPE: "bytes", VALUE: value.decode()}
        except UnicodeDecodeError:
            return {TYPE: "base64", VALUE: b64encode(value).decode()}
    if isinstance(value, list | tuple):
        return [with_marks(item) for item in value]
    return value


def without_marks(value: Any) -> Any:
    """Turn marked values back, inside of lists and mappings too."""
    if type(value) is list:
        return [without_marks(item) for item in value]
    if type(value) is not dict:
        return value
    if value.keys() == {TYPE, VALUE}:
        read = readers.get(value[TYPE])
        if read is not None:
            return read(without_marks(value[VALUE]))
    return {key: without_marks(item) for key, item in value.items()}


def encode_marked(value: Any) -> bytes:
    """Write a value as JSON with marks.  Raises EncodeError."""
    kind = type(value)
    if (kind is not tuple and kind is not list) or not PLAIN.issuperset(map(type, value)):
        value = marked_for_json(value)
    return encode_json(value)


def marked_for_json(value: Any) -> Any:
    """Write marks in place of what JSON lacks.  Raises EncodeError."""
    try:
        return with_marks(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise EncodeError(f"cannot be written as JSON: {error}") from error


def decode_marked(data: bytes) -> Any:
    """Read JSON, and turn marked values back.  Raises DecodeError."""
    value = decode_json(data)
    return turned_back(value) if IN_JSON in data else value


def turned_back(value: Any) -> Any:
    """Turn marked values back.  Raises DecodeError for one that cannot be read."""
    try:
        return without_marks(value)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise DecodeError(f"a marked value cannot be read: {error}") from error


class MarkedPayloads(Payloads):
    """The reader and writer of values whose JSON has marks."""

    __slots__ = ()
    to_json = staticmethod(encode_marked)
    from_json = staticmethod(decode_marked)

    def write(self, value: Any, serializer: str, compression: str | None, what: str) -> bytes:
        """Encode and compress a value, with marks if it becomes JSON."""
        if serializer in JSON:
            value = marked_for_json(value)
        return Payloads.write(self, value, serializer, compression, what)

    def read(self, data: bytes, content_type: str | None, compression: str | None) -> Any:
        """Decompress and decode bytes, and turn marked values of JSON back."""
        value = Payloads.read(self, data, content_type, compression)
        is_json = content_type is None or content_type in JSON
        return turned_back(value) if is_json else value
