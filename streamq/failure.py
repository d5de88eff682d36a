"""Exceptions as data: how a failure is written down, and made an exception again.

Reading one never imports a module and never runs code of a class: the class must already
be loaded, must be an Exception, and its ``__init__`` is not called.
"""

import sys
import traceback as tracebacks
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from streamq.codec import decode_json, encode_json
from streamq.errors import EncodeError, Stopped, StreamqError, TaskError

#: The dotted name of a class is no longer than this.
LONGEST_NAME = 500
#: What is kept of a message and of a traceback, in characters.
LONGEST_MESSAGE = 4096
LONGEST_TRACEBACK = 65536


class RemoteTraceback(StreamqError):
    """Carries the traceback of the worker as ``__cause__``, where Python prints it."""

    def __init__(self, text: str = "") -> None:
        super().__init__(f'\n"""\n{text.rstrip()}\n"""')
        self.text = text


def describe(error: BaseException, *, skip: int = 0) -> dict[str, bytes]:
    """Write an exception as fields of a record; ``skip`` frames of our own are left out.

    Whatever the class of the exception does, nothing is raised but a task's own end.
    """
    try:
        return described(error, skip)
    except Stopped:
        raise
    except BaseException as failed:
        kind = type(error).__name__
        return simple(kind, f"<{kind}; describing it raised {type(failed).__name__}>")


def described(error: BaseException, skip: int) -> dict[str, bytes]:
    trace = error.__traceback__
    for _ in range(skip):
        trace = trace.tb_next if trace is not None and trace.tb_next else trace
    fields = {
        "error_type": type_name(type(error)).encode(),
        "error": message_of(error).encode(errors="backslashreplace"),
        "traceback": trace_of(error, trace).encode(errors="backslashreplace"),
    }
    try:
        arguments = encode_json(list(error.args))
    except EncodeError:
        return fields
    if len(arguments) <= LONGEST_MESSAGE:
        fields["error_args"] = arguments
    return fields


def simple(error_type: str, message: str) -> dict[str, bytes]:
    """Fields for a failure that no code raised, such as a lost worker."""
    return {"error_type": error_type.encode(), "error": message.encode()}


def type_name(cls: type) -> str:
    """The dotted name of a class; builtins go by their bare name."""
    bare = cls.__qualname__
    return bare if cls.__module__ == "builtins" else f"{cls.__module__}.{bare}"


def message_of(error: BaseException) -> str:
    """``str(error)``, whatever that does."""
    try:
        text = str(error)
    except Stopped:
        raise
    except BaseException as failed:
        text = f"<{type(error).__name__}; its __str__ raised {type(failed).__name__}>"
    return text[:LONGEST_MESSAGE]


def trace_of(error: BaseException, trace: Any) -> str:
    """The formatted traceback, its end if it is too long."""
    try:
        text = "".join(tracebacks.format_exception(type(error), error, trace))
    except Stopped:
        raise
    except BaseException:
        text = f"{type(error).__name__}: {message_of(error)}"
    return text if len(text) <= LONGEST_TRACEBACK else "…" + text[-LONGEST_TRACEBACK:]


def rebuild(fields: Mapping[str, bytes]) -> Exception:
    """Make the exception that a failed record tells of.

    The class that failed if it is loaded here, else ``TaskError``; the remote traceback is
    its ``__cause__``.
    """
    name, message, trace = (
        fields.get(key, b"").decode(errors="replace")
        for key in ("error_type", "error", "traceback")
    )
    error = revived(name, message, fields.get("error_args")) or TaskError(name, message, trace)
    if trace:
        BaseException.__setattr__(error, "__cause__", RemoteTraceback(trace))
    return error


def revived(name: str, message: str, arguments: bytes | None) -> Exception | None:
    """An instance of the class, if it is loaded and can be made without its ``__init__``."""
    cls = loaded_class(name)
    if cls is None:
        return None
    maker = next(base for base in cls.__mro__ if base.__module__ == "builtins")
    try:
        short = arguments is not None and len(arguments) <= LONGEST_MESSAGE
        values = decode_json(arguments) if arguments is not None and short else [message]
        error = maker.__new__(cls, *values)
        BaseException.__setattr__(error, "args", tuple(values))  # past any __setattr__ of its own
    except Exception:
        return None
    return error if isinstance(error, Exception) else None


def loaded_class(name: str) -> type[Exception] | None:
    """The Exception class of this dotted name in ``sys.modules``; nothing is imported.

    Looks into the dictionaries of modules and classes only: no ``__getattr__`` runs.
    """
    if len(name) > LONGEST_NAME:
        return None
    parts = name.split(".")
    candidates = [("builtins", parts)] if len(parts) == 1 else []
    candidates += [(".".join(parts[:i]), parts[i:]) for i in range(len(parts) - 1, 0, -1)]
    for module, path in candidates:
        found: Any = sys.modules.get(module)
        for attribute in path:
            found = names_in(found).get(attribute)
        if issubclass(type(found), type) and is_harmless(found):
            harmless: type[Exception] = found
            return harmless
    return None


def names_in(holder: Any) -> Mapping[str, Any]:
    """What a module or a class holds, unasked: modules may be lazy, and objects proxies."""
    if issubclass(type(holder), ModuleType):
        found: Mapping[str, Any] = object.__getattribute__(holder, "__dict__")
        return found
    return type.__getattribute__(holder, "__dict__") if issubclass(type(holder), type) else {}


def is_harmless(cls: type) -> bool:
    """Whether a class is an Exception, and none of those that end a process or a thread."""
    bases = type.mro(cls)
    endings = (SystemExit, KeyboardInterrupt, GeneratorExit)
    return Exception in bases and not any(ending in bases for ending in endings)
