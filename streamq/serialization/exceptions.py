"""Exceptions as data: how a failure is written down, and made an exception again.

Reading one never imports a module and never runs code of a class: the class must already
be loaded, must be an Exception, and its ``__init__`` is not called.  What it shows is the text
that was written down, whatever the class makes of attributes that only its ``__init__`` gives.
"""

import builtins
import copyreg
import os
import traceback as tracebacks
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from streamq.core.names import type_name
from streamq.errors import EncodeError, Stopped, StreamqError, TaskError
from streamq.host.modules import found_in, loaded
from streamq.serialization.codec import decode_json, encode_json

#: The dotted name of a class is no longer than this.
LONGEST_NAME = 500
#: What is kept of a message and of a traceback, in characters.
LONGEST_MESSAGE = 4096
LONGEST_TRACEBACK = 65536
#: Of how many classes the subclass is remembered that shows what was recorded.
MOST_SUBCLASSES = 1000

#: Exceptions that mean something to Python itself where they are raised: they end a process, a
#: thread, or the loop of whoever asked for the result.
ENDINGS = (SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, StopAsyncIteration)
#: Python's own exceptions, by identity: a class may say anything of itself, also when it is
#: asked for its hash.
OF_PYTHON = {
    id(found)
    for found in vars(builtins).values()
    if isinstance(found, type) and issubclass(found, BaseException)
}

# What Python itself knows of an object: asked for by name, a class or its metaclass may answer.
MRO, BASE, NAMESPACE, NAME, QUALNAME, MODULE = (
    vars(type)[name]
    for name in ("__mro__", "__base__", "__dict__", "__name__", "__qualname__", "__module__")
)
ARGS, CAUSE, TRACE, ATTRIBUTES = (
    vars(BaseException)[name] for name in ("args", "__cause__", "__traceback__", "__dict__")
)
#: The attribute in which an exception keeps the text that was recorded.
TEXT = "_recorded_text"


class RemoteTraceback(StreamqError):
    """Carries the traceback of the worker as ``__cause__``, where Python prints it."""

    def __init__(self, text: str = "") -> None:
        super().__init__(f'\n"""\n{text.rstrip()}\n"""')
        self.text = text

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteTraceback, (self.text,)


def describe(error: BaseException, *, skip: int = 0) -> dict[str, bytes]:
    """Write an exception as fields of a record; ``skip`` frames of our own are left out.

    Whatever the class of the exception does, nothing is raised but a task's own end.
    """
    try:
        return described(error, skip)
    except Stopped:
        raise
    except BaseException as failed:
        kind = name = NAME.__get__(type(error))
        with suppress(BaseException):
            name = type_name(type(error))
        return simple(name, f"<{kind}; describing it raised {type(failed).__name__}>")


def described(error: BaseException, skip: int) -> dict[str, bytes]:
    trace, args = error.__traceback__, ARGS.__get__(error)
    for _ in range(skip):
        trace = trace.tb_next if trace is not None and trace.tb_next else trace
    fields = {
        "error_type": type_name(type(error)).encode(),
        "error": message_of(error).encode(errors="backslashreplace"),
        "traceback": trace_of(error, trace).encode(errors="backslashreplace"),
    }
    for arguments in (arguments_of(error, args), args):
        try:
            written = encode_json(list(arguments))
        except EncodeError:
            continue  # a file name may be bytes that are no text
        if len(written) <= LONGEST_MESSAGE:
            fields["error_args"] = written
            break
    return fields


def arguments_of(error: BaseException, args: Sequence[Any]) -> tuple[Any, ...]:
    """What an exception is made of: its ``args``, and the file names that OSError takes out."""
    if issubclass(type(error), OSError) and len(args) == 2:
        names = [vars(OSError)[name].__get__(error) for name in ("filename", "filename2")]
        one, two = (os.fspath(name) if isinstance(name, os.PathLike) else name for name in names)
        if isinstance(one, str | int):
            return (*args, one) if two is None else (*args, one, None, two)
    return tuple(args)


def simple(error_type: str, message: str) -> dict[str, bytes]:
    """Fields for a failure that no code raised, such as a lost worker."""
    return {"error_type": error_type.encode(), "error": message.encode()}


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
    cls = loaded_class(name)
    if cls is TaskError:  # of a task that waited for another one
        name, _, message = message.partition(": ")
    error = revived(cls, message, fields.get("error_args"))
    if error is None:  # the truth of an exception may be anything
        error = TaskError(name, message, trace)
    if trace:
        CAUSE.__set__(error, RemoteTraceback(trace))
    return error


def revived(cls: type[Exception] | None, message: str, arguments: bytes | None) -> Exception | None:
    """An instance of the class, if it is loaded and can be made without its ``__init__``."""
    if cls is None or cls is TaskError:
        return None
    short = arguments is not None and len(arguments) <= LONGEST_MESSAGE
    try:
        values = decode_json(arguments) if arguments is not None and short else [message]
        return shown_as(cls, values, message)
    except Exception:
        return None


def shown_as(cls: type[Exception], values: Sequence[Any], text: str) -> Exception:
    """An instance of the class that shows this text, made of these arguments.

    One of the class itself, if that shows the text and has nothing of its own to say, which may
    want attributes that only its ``__init__`` gives; else of a subclass.  Raises what Python
    raises where a class cannot be made like this, or allows no subclass.
    """
    error = made(cls, values, text)
    silent = not any(of_its_own(cls, name) for name in (*SPEAKING, "__len__"))
    if silent and owner(cls, "__str__").__str__(error) == text:
        if not is_made_otherwise(cls):
            return error
        if all(owner(type(cls), name) in (type, object) for name in ("__hash__", "__eq__")):
            ATTRIBUTES.__get__(error)[TEXT] = text
            copyreg.pickle(cls, reduced_if_ours)
            return error
    error = made(subclass_of(cls), values, text)
    ATTRIBUTES.__get__(error)[TEXT] = text
    return error


def is_made_otherwise(cls: type[Exception]) -> bool:
    """Whether calling a class is anything else than making an exception of these arguments."""
    called = owner(type(cls), "__call__") is not type
    return called or of_its_own(cls, "__init__") or of_its_own(cls, "__new__")


def made(cls: type[Exception], values: Sequence[Any], text: str) -> Exception:
    """An instance, by what Python itself has for the class: ``__new__`` and ``__init__`` in C."""
    maker: Any = cls
    while id(maker) not in OF_PYTHON:
        maker = BASE.__get__(maker)
    if issubclass(maker, BaseExceptionGroup):  # is never empty, and its parts are not recorded
        values = [text, [TaskError(NAME.__get__(cls), text)]]
    error: Exception = maker.__new__(cls, *values)
    try:
        maker.__init__(error, *values)
    except Exception:  # bytes have become text, for instance
        BaseException.__init__(error, *values)
    return error


def subclass_of(cls: type[Exception]) -> type[Exception]:
    """The subclass of a class, of the same name, that shows what was recorded.

    Raises TypeError where that cannot be made without asking the class.
    """
    found = SUBCLASSES.get(id(cls))
    if found is None:
        kind = type(cls)
        if owner(kind, "mro") is not type:
            raise TypeError("its metaclass has a say in what its classes inherit")
        names: dict[str, Any] = {
            name: method for name, method in SPEAKING.items() if of_its_own(cls, name)
        }
        names |= {"__str__": recorded_text, "__reduce__": reduced, "__slots__": ()}
        if of_its_own(cls, "__len__"):  # which decides on the truth, too
            names["__bool__"] = always
        names |= {"__module__": MODULE.__get__(cls), "__qualname__": QUALNAME.__get__(cls)}
        bases = (cls,) if owner(cls, "__init_subclass__") is object else (Unasked, cls)
        found = type.__new__(kind, NAME.__get__(cls), bases, names)
        if len(SUBCLASSES) >= MOST_SUBCLASSES:
            SUBCLASSES.clear()
        SUBCLASSES[id(cls)] = found  # which holds the class: its number stays its own
    return found


class Unasked:
    """Stands before a class that says something of its subclasses, which it is not asked."""

    __slots__ = ()

    def __init_subclass__(cls) -> None:
        pass


def recorded_text(error: BaseException) -> str:
    """``__str__``: what the worker has written down."""
    text: str = ATTRIBUTES.__get__(error)[TEXT]
    return text


def reduced(error: BaseException, protocol: object = None) -> tuple[Any, ...]:
    """``__reduce__`` and ``__reduce_ex__``: made once more as it was made here."""
    return remade(BASE.__get__(type(error)), error)


def reduced_if_ours(error: BaseException) -> Any:
    """The same for an instance of the class itself; one of somebody else's as ever."""
    if TEXT in ATTRIBUTES.__get__(error):
        return remade(type(error), error)
    return error.__reduce_ex__(4)  # with this ``copy`` asks, and for exceptions all are the same


def remade(cls: type, error: BaseException) -> tuple[Any, ...]:
    """What makes an exception once more that shows a recorded text."""
    kept = dict(ATTRIBUTES.__get__(error))
    text, values = kept.pop(TEXT), arguments_of(error, ARGS.__get__(error))
    return (shown_as, (cls, values, text), kept) if kept else (shown_as, (cls, values, text))


def always(error: BaseException) -> bool:
    """``__bool__``: an exception is there."""
    return True


def absent(error: BaseException, name: str) -> Any:
    """``__getattr__``: say why there is no such attribute."""
    raise AttributeError(
        f"{NAME.__get__(type(error))!r} has no attribute {name!r}: it was raised in a worker, "
        "and only its text and arguments are kept",
        name=name,
    )


#: The methods that show, compare or copy an exception, and what stands for those that a class has
#: of its own: they may want what only its ``__init__`` gives.
SPEAKING: dict[str, Any] = {
    "__str__": recorded_text,
    "__repr__": BaseException.__repr__,
    "__format__": object.__format__,
    "__eq__": object.__eq__,
    "__ne__": object.__ne__,
    "__hash__": object.__hash__,
    "__bool__": always,
    "__reduce__": reduced,
    "__reduce_ex__": reduced,
    "__copy__": None,  # not there
    "__deepcopy__": None,
    "__setstate__": BaseException.__setstate__,
    "__getattribute__": BaseException.__getattribute__,
    "__getattr__": absent,
    "__setattr__": BaseException.__setattr__,
    "args": ARGS,
    "__cause__": CAUSE,
    "__traceback__": TRACE,
    "__context__": vars(BaseException)["__context__"],
}
SUBCLASSES: dict[int, type[Exception]] = {}


def owner(cls: type, name: str) -> Any:
    """The class in whose namespace a method of a class stands; None if there is none."""
    return next((base for base in MRO.__get__(cls) if name in NAMESPACE.__get__(base)), None)


def of_its_own(cls: type, name: str) -> bool:
    """Whether a class has such a method from elsewhere than from Python's own exceptions."""
    found = owner(cls, name)
    return not (found is None or found is object or id(found) in OF_PYTHON)


def loaded_class(name: str) -> type[Exception] | None:
    """The Exception class of this dotted name that is loaded; nothing is imported.

    A class of the program that runs, ``__main__.MyError`` of ``mm.py``, is ``mm.MyError``.
    Looks into the dictionaries of modules and classes only: no ``__getattr__`` runs.
    """
    if len(name) > LONGEST_NAME:
        return None
    parts = name.split(".")
    candidates = [("builtins", parts)] if len(parts) == 1 else []
    candidates += [(".".join(parts[:i]), parts[i:]) for i in range(len(parts) - 1, 0, -1)]
    for module, path in candidates:
        for holder in loaded(module):
            found = found_in(holder, path)
            if issubclass(type(found), type) and is_harmless(found):
                harmless: type[Exception] = found
                return harmless
    return None


def is_harmless(cls: type) -> bool:
    """Whether a class is an Exception, and none of those that mean something to Python."""
    return issubclass(cls, Exception) and not issubclass(cls, ENDINGS)
