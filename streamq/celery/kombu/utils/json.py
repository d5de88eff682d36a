"""JSON by kombu's names, with the marks of ``streamq.celery.marks``."""

from typing import Any

from streamq.celery.marks import decode_marked, encode_marked, register_type

__all__ = ["dumps", "loads", "register_type"]


def dumps(value: Any, **ignored: Any) -> str:
    """Write a value as JSON."""
    return encode_marked(value).decode()


def loads(data: str | bytes, **ignored: Any) -> Any:
    """Read JSON that ``dumps`` wrote."""
    return decode_marked(data.encode() if isinstance(data, str) else bytes(data))
