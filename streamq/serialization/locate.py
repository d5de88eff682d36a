"""Errors of encoding and decoding: what is wrong, and where in the value."""

from collections.abc import Callable, Coroutine, Iterator, MappingView
from typing import Any

from streamq.errors import ConfigError, DecodeError, EncodeError, SoftTimeLimitExceeded
from streamq.serialization.strict_json import NotRepresentable, attributes, brief, cut

#: Errors that are not about the value: they are raised unchanged.
PASSING = (ConfigError, SoftTimeLimitExceeded)

#: The most levels to search for the part that fails: deeper nesting is itself the error.
DEEPEST = 200


def unwritable(
    value: Any, name: str, encode: Callable[[Any], bytes], error: Exception
) -> EncodeError:
    """Make the error of a value that ``encode`` refused, with the smallest part it refuses."""
    path, part = "$", value
    if not isinstance(error, RecursionError):
        path, part, error = locate(value, encode, error)
    return EncodeError(
        f"cannot write {description(part, error)} at {cut(path)} as {name}",
        known={"reason": reason(error)},
        advice=[advice_for(name, part, error)],
    )


def locate(
    value: Any, encode: Callable[[Any], bytes], error: Exception
) -> tuple[str, Any, Exception]:
    """Find the path, the value and the error of the smallest part that fails on its own."""
    path = "$"
    for _ in range(DEEPEST):
        for step, part in parts(value):
            if failure := error_of(encode, part):
                path, value, error = path + step, part, failure
                break
        else:
            break
    return path, value, error


def error_of(encode: Callable[[Any], bytes], part: Any) -> Exception | None:
    """The exception that ``encode`` raises for this part; None if it can be encoded."""
    try:
        encode(part)
    except PASSING:
        raise
    except Exception as error:
        return error
    return None


def parts(value: Any) -> Iterator[tuple[str, Any]]:
    """The parts of a container, each with its step in a path."""
    if isinstance(value, dict):
        for key, item in value.items():
            is_identifier = isinstance(key, str) and key.isidentifier()
            yield (f".{key}" if is_identifier else f"[{brief(key)}]"), item
    elif isinstance(value, (list, tuple, set, frozenset)):
        for index, item in enumerate(value):
            yield f"[{index}]", item
    else:
        for name, item in attributes(value):
            yield f".{name}", item


def description(part: Any, error: Exception) -> str:
    """Describe the part that cannot be written."""
    match error:
        case RecursionError():
            return "a value that contains itself or nests too deeply"
        case UnicodeEncodeError():
            return "text with a lone surrogate"
        case NotRepresentable():
            return error.what
        case _ if isinstance(part, dict):  # its values are fine, else one of them were the part
            return "a key of the dict"
        case _:
            return f"an object of type {type(part).__qualname__}"


def advice_for(name: str, part: Any, error: Exception) -> str:
    """The advice for a part that cannot be written."""
    match error:
        case RecursionError():
            return "send a flatter value, or an id by which the task finds it"
        case UnicodeEncodeError():
            return "send bytes, or text read with errors='replace'"
        case NotRepresentable():
            return error.advice
        case _ if isinstance(part, dict):
            return "use text as keys, or send a list of pairs"
        case _ if own := advice_of(part) or advice_for_django(part):
            return own
        case _ if name == "pickle":
            return "send plain data, an id or a path"
        case _:
            return (
                "send plain data, an id or a path; or use the serializer 'pickle' and "
                "accept_content=['json', 'pickle']"
            )


def advice_of(part: Any) -> str | None:
    """The advice for values of some types: what to send instead; None for any other.

    A class of streamq has it as ``SEND_INSTEAD``.
    """
    if isinstance(part, Coroutine):
        return "await it, or asyncio.run(…), and send what it returns"
    if isinstance(part, Iterator | MappingView | range):
        return f"use list(…) of the {type(part).__name__}"
    advice = getattr(type(part), "SEND_INSTEAD", None)
    return advice if isinstance(advice, str) else None


#: What to send instead of an object of Django, by the class that it inherits from.
OF_DJANGO = {
    "django.db.models.base.Model": "send its pk, and let the task read the object anew",
    "django.db.models.query.QuerySet": "send the pks: list(queryset.values_list('pk', flat=True))",
    "django.db.models.query.RawQuerySet": "send the pks: [row.pk for row in queryset]",
    "django.db.models.manager.BaseManager": (
        "send the pks: list(manager.values_list('pk', flat=True))"
    ),
    "django.utils.functional.LazyObject": "send the pk of what it stands for: request.user.pk",
    "django.utils.functional.Promise": "write str(…) around text that is translated lazily",
    "django.http.request.HttpRequest": "send the values of the request that the task needs",
}


def advice_for_django(part: Any) -> str | None:
    """The advice for an object of Django, which need not be installed; None for any other."""
    names = (f"{each.__module__}.{each.__qualname__}" for each in type(part).__mro__)
    return next((OF_DJANGO[name] for name in names if name in OF_DJANGO), None)


def unreadable(data: bytes, name: str, error: Exception) -> DecodeError:
    """Make the error of bytes that the serializer of this name could not read."""
    return DecodeError(
        f"{len(data)} bytes cannot be read as {name}",
        known={"reason": reason(error), "begins": repr(bytes(data[:40]))},
    )


def reason(error: Exception) -> str:
    """Write an error as one short line, whatever its ``__str__`` does."""
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = ""
    if isinstance(error, NotRepresentable) and text:  # ours: its name says nothing
        return cut(text)
    name = type(error).__name__
    return cut(f"{name}: {text}" if text else name)
