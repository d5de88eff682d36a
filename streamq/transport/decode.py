"""Decoding of replies: text, numbers, settings and arguments.

The data is not trusted, as anybody may have written it: what cannot be decoded is shown as it
is.
"""

from typing import Any
from urllib.parse import unquote

import msgspec

Text = dict[str, str]


def text(value: Any) -> str:
    """A reply as text; what is not UTF-8 is escaped."""
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def settings_in(data: str) -> dict[str, Any]:
    """The settings of a queue as they were declared."""
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except msgspec.DecodeError:
        return {"unreadable": data}


def millis(digits: str) -> float | None:
    """Seconds out of a field of milliseconds; None if the field has no such number."""
    fits = digits.isascii() and digits.isdecimal() and len(digits) <= 15
    return int(digits) / 1000 if fits else None


def texts(flat: Any) -> Text:
    """A hash from its flat list."""
    pairs = map(text, flat or ())
    return dict(zip(pairs, pairs, strict=True))


def arguments_in(canonical: str) -> dict[str, Any]:
    """The arguments of a binding from ``NAME=VALUE&NAME=VALUE``, as bind.lua writes them."""
    pairs = [pair.partition("=") for pair in canonical.split("&") if pair]
    return {unquote(name): plain(unquote(value)) for name, _, value in pairs}


def plain(canonical: str) -> Any:
    """The value of a tagged text such as ``i:1``; see ``routing.canonical``."""
    tag, _, value = canonical.partition(":")
    try:
        match tag:
            case "i":
                return int(value)
            case "f":
                return float(value)
            case "b":
                return value == "true"
            case "v":
                return None
            case "j":
                return msgspec.json.decode(value)
    except ValueError:
        return canonical
    return value
