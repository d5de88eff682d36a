"""Serializers by kombu's names: ``register`` adds one."""

from collections.abc import Callable
from typing import Any

from streamq.serialization.codec import decode, encode, find_serializer, register_serializer

__all__ = ["dumps", "loads", "register", "unregister"]

#: Encodings of content that is bytes, not text.
BINARY = frozenset({"binary", "ascii-8bit"})


def register(
    name: str,
    encoder: Callable[[Any], Any],
    decoder: Callable[[Any], Any],
    content_type: str,
    content_encoding: str = "utf-8",
) -> None:
    """Add a serializer for task_serializer, result_serializer and accept_content.

    ``encoder`` returns text or bytes.  ``decoder`` gets text in ``content_encoding``, or bytes
    if that is ``binary``.
    """

    def write(value: Any) -> Any:
        data = encoder(value)
        return data.encode(content_encoding) if isinstance(data, str) else data

    def read(data: bytes) -> Any:
        return decoder(data if content_encoding in BINARY else data.decode(content_encoding))

    register_serializer(name, write, read, content_type)


def unregister(name: str) -> None:
    """Do nothing but check the name: a serializer is used only where a setting names it."""
    find_serializer(name)


def dumps(data: Any, serializer: str | None = None) -> tuple[str, str, bytes]:
    """Write a value; return the content type, the encoding and the bytes."""
    found = find_serializer(serializer or "json")
    return found.content_type, "utf-8", encode(data, found.name)


def loads(
    data: bytes | str, content_type: str, content_encoding: str = "utf-8", accept: Any = None
) -> Any:
    """Read what ``dumps`` wrote."""
    return decode(data.encode() if isinstance(data, str) else data, content_type)
