"""The codec: values to bytes and back, by content type.

A sender chooses a serializer by name; the message carries its content type; the receiver
refuses content types that it does not accept before decoding a byte.  Every failure is an
``EncodeError`` with the place in the value, or a ``DecodeError``.
"""

import difflib
import importlib
import pickle
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from streamq.errors import ConfigError, ContentDisallowed, SoftTimeLimitExceeded
from streamq.host.extras import not_installed
from streamq.serialization.locate import PASSING, unreadable, unwritable
from streamq.serialization.strict_json import COLON, SMALL, check_json, cut, read_json, write_json
from streamq.serialization.strict_msgpack import read_msgpack, write_msgpack


def encode(value: Any, serializer: str = "json") -> bytes:
    """Write ``value`` with the serializer of this name or content type.

    Raises ``EncodeError`` with the place of the part that cannot be written, such as
    ``$.thumb[3]``; ``ConfigError`` for an unknown serializer.
    """
    if serializer == "json":
        return encode_json(value)
    writer = find_serializer(serializer)
    try:
        return writer.encode(value)
    except PASSING:
        raise
    except Exception as error:
        raise unwritable(value, writer.name, writer.encode, error) from error


def decode(data: bytes, serializer: str = "json") -> Any:
    """Read what ``encode`` wrote.  Raises ``DecodeError`` for anything unreadable.

    Check with ``allowed`` first: reading a pickle can run any code of its sender.
    """
    if serializer == "json":
        return decode_json(data)
    reader = find_serializer(serializer)
    try:
        return reader.decode(data)
    except PASSING:
        raise
    except Exception as error:
        raise unreadable(data, reader.name, error) from error


def encode_json(value: Any) -> bytes:
    """``encode(value, "json")`` without the lookup of the serializer."""
    try:
        return write_json(value)
    except SoftTimeLimitExceeded:
        raise
    except Exception as error:
        raise unwritable(value, "json", write_json, error) from error


def decode_json(data: bytes) -> Any:
    """``decode(data, "json")`` without the lookup of the serializer."""
    try:
        value = read_json(data)
        if COLON in data or len(data) > SMALL:  # else there is nothing to check
            check_json(data, value)
        return value
    except SoftTimeLimitExceeded:
        raise
    except Exception as error:
        raise unreadable(data, "json", error) from error


def allowed(content: str, accept: Collection[str]) -> None:
    """Raise ``ContentDisallowed`` unless ``content`` is among the accepted.

    Either side may be a name or a content type.
    """
    if content in accept:
        return
    names = [canonical(each) for each in accept]
    name = canonical(content)
    if name in names:
        return
    advice = "send what is accepted"
    if content in SERIALIZERS:
        advice += f", or accept it here: accept_content={[*names, name]!r}"
    raise ContentDisallowed(
        f"content type {cut(content)!r} is not accepted",
        known={"accepted": ", ".join(names) or "nothing"},
        advice=[advice],
    )


# ── the serializers ──────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Serializer:
    """A serializer, with its name and content type."""

    name: str
    content_type: str
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


#: Every serializer, once under its name and once under its content type.
SERIALIZERS: dict[str, Serializer] = {}


def register_serializer(
    name: str,
    encode: Callable[[Any], bytes],
    decode: Callable[[bytes], Any],
    content_type: str,
) -> None:
    """Add a serializer, for ``task_serializer``, ``result_serializer`` and ``accept_content``.

    ``encode`` takes a value and returns bytes, ``decode`` takes those bytes and returns the
    value; both may raise anything.  Senders and workers must both register it.
    Registering a name again replaces it, except for streamq's own serializers.
    """
    for key in (name, content_type):
        if not isinstance(key, str) or not key:
            raise ConfigError(f"a serializer's name and content type are text, not {key!r}")
        holder = SERIALIZERS.get(key)
        if key in BUILT_IN or (holder and holder.name != name):
            raise ConfigError(f"{key!r} already belongs to a serializer", advice=["take another"])
    if replaced := SERIALIZERS.get(name):
        del SERIALIZERS[replaced.content_type]
    add(Serializer(name, content_type, bytes_of(encode), decode))


def bytes_of(encode: Callable[[Any], Any]) -> Callable[[Any], bytes]:
    """Check the output of a registered encoder: text becomes UTF-8, all else must be bytes."""

    def checked(value: Any) -> bytes:
        data = encode(value)
        if isinstance(data, str):
            return data.encode()
        if not isinstance(data, bytes):
            raise TypeError(f"the serializer returned {type(data).__qualname__}, not bytes")
        return data

    return checked


def find_serializer(content: str) -> Serializer:
    """Return the serializer of this name or content type.  Raises ``ConfigError`` for none."""
    try:
        return SERIALIZERS[content]
    except KeyError:
        pass
    names = sorted({each.name for each in SERIALIZERS.values()})
    near = difflib.get_close_matches(str(content), SERIALIZERS, n=1)
    raise ConfigError(
        f"no serializer named {cut(content)!r}",
        known={"there are": ", ".join(names)},
        advice=[f"did you mean {near[0]!r}?"] if near else ["streamq.register_serializer adds one"],
    )


def canonical(content: str) -> str:
    """The name of a serializer given by name or content type; an unknown one as it is."""
    known = SERIALIZERS.get(content)
    return known.name if known else content


def load_yaml() -> Any:
    """Import PyYAML when the first value needs it: it is an optional package."""
    try:
        return importlib.import_module("yaml")
    except ImportError as error:
        raise not_installed("PyYAML, which the yaml serializer needs,", "yaml") from error


# PyYAML's own parser, not libyaml's: the latter nests in C without a bound and crashes.
def write_yaml(value: Any) -> bytes:
    text: str = load_yaml().safe_dump(value, sort_keys=False)
    if "? " in text:  # a tuple as a key is written as a list, which is no key
        load_yaml().safe_load(text)
    return text.encode()


def read_yaml(data: bytes) -> Any:
    return load_yaml().safe_load(data)


def write_pickle(value: Any) -> bytes:
    return pickle.dumps(value, protocol=5)  # the newest that every supported Python reads


def add(serializer: Serializer) -> None:
    SERIALIZERS[serializer.name] = SERIALIZERS[serializer.content_type] = serializer


for _each in (
    Serializer("json", "application/json", write_json, read_json),
    Serializer("pickle", "application/x-python-serialize", write_pickle, pickle.loads),
    Serializer("yaml", "application/x-yaml", write_yaml, read_yaml),
    Serializer(
        "msgpack",
        "application/x-msgpack",
        write_msgpack,
        read_msgpack,
    ),
):
    add(_each)

#: Names and content types of streamq's own serializers, which cannot be replaced.
BUILT_IN = frozenset(SERIALIZERS)
