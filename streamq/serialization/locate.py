"""Errors of encoding and decoding that say what is wrong, and where in the value."""

from collections.abc import Callable, Iterator
from typing import Any

from streamq.errors import ConfigError, DecodeError, EncodeError, SoftTimeLimitExceeded
from streamq.serialization.strict_json import Unsayable, attributes, brief, cut

#: Not a complaint about the value: these pass through the translation of errors.
PASSING = (ConfigError, SoftTimeLimitExceeded)

#: No deeper than this is a culprit looked for: deeper values are themselves the fault.
DEEPEST = 200


def unwritable(
    value: Any, name: str, encode: Callable[[Any], bytes], error: Exception
) -> EncodeError:
    """The error for a value that ``encode`` refused, with the smallest part it refuses."""
    path, culprit = "$", value
    if not isinstance(error, RecursionError):
        path, culprit, error = locate(value, encode, error)
    return EncodeError(
        f"cannot write {complaint(culprit, error)} at {cut(path)} as {name}",
        known={"reason": reason(error)},
        advice=[remedy(name, culprit, error)],
    )


def locate(
    value: Any, encode: Callable[[Any], bytes], error: Exception
) -> tuple[str, Any, Exception]:
    """Follow the first part that fails alone, down to one whose parts are all fine."""
    path = "$"
    for _ in range(DEEPEST):
        for step, part in parts(value):
            if failure := failing(encode, part):
                path, value, error = path + step, part, failure
                break
        else:
            break
    return path, value, error


def failing(encode: Callable[[Any], bytes], part: Any) -> Exception | None:
    """What ``encode`` raises for this part, if it does."""
    try:
        encode(part)
    except PASSING:
        raise
    except Exception as error:
        return error
    return None


def parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What a container holds, each with its step in a path."""
    if isinstance(value, dict):
        for key, item in value.items():
            plainly = isinstance(key, str) and key.isidentifier()
            yield (f".{key}" if plainly else f"[{brief(key)}]"), item
    elif isinstance(value, (list, tuple, set, frozenset)):
        for index, item in enumerate(value):
            yield f"[{index}]", item
    else:
        for name, item in attributes(value):
            yield f".{name}", item


def complaint(culprit: Any, error: Exception) -> str:
    """What it is that cannot be written."""
    match error:
        case RecursionError():
            return "a value that contains itself or nests too deeply"
        case UnicodeEncodeError():
            return "text with a lone surrogate"
        case Unsayable():
            return error.what
        case _ if isinstance(culprit, dict):  # what it holds is fine, or would be the culprit
            return "a key of the dict"
        case _:
            return f"an object of type {type(culprit).__qualname__}"


def remedy(name: str, culprit: Any, error: Exception) -> str:
    """What to do about it."""
    match error:
        case RecursionError():
            return "send a flatter value, or an id by which the task finds it"
        case UnicodeEncodeError():
            return "send bytes, or text read with errors='replace'"
        case Unsayable():
            return error.advice
        case _ if isinstance(culprit, dict):
            return "use text as keys, or send a list of pairs"
        case _ if name == "pickle":
            return "send plain data, an id or a path"
        case _:
            return (
                "send plain data, an id or a path; or use the serializer 'pickle' and "
                "accept_content=['json', 'pickle']"
            )


def unreadable(data: bytes, name: str, error: Exception) -> DecodeError:
    """The error for bytes that the serializer of this name could not read."""
    return DecodeError(
        f"{len(data)} bytes cannot be read as {name}",
        known={"reason": reason(error), "begins": repr(bytes(data[:40]))},
    )


def reason(error: Exception) -> str:
    """An error in one short line, whatever its class does when asked."""
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = ""
    name = type(error).__name__
    return cut(f"{name}: {text}" if text else name)
