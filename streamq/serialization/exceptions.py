"""Exceptions as data: written into fields of a record, and rebuilt from them.

Rebuilding never imports a module and never runs code of a class: the class must already be
loaded, must be an Exception, and its ``__init__`` is not called.  Its ``str`` is the recorded
text, as the class's own ``__str__`` may need attributes that only ``__init__`` sets.
"""

import builtins
import copyreg
import os
import traceback as tracebacks
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

from streamq.core.names import type_name
from streamq.errors import EncodeError, Stopped, StreamqError, TaskError
from streamq.host.modules import found_in, loaded
from streamq.serialization.codec import decode_json, encode_json

#: The most characters of a dotted class name.
LONGEST_NAME = 500
#: The most characters of a message and of a traceback that are kept.
LONGEST_MESSAGE = 4096
LONGEST_TRACEBACK = 65536
#: The most subclasses (see ``subclass_of``) in the cache.
MOST_SUBCLASSES = 1000

#: Exceptions with a meaning for Python itself: they would end the process, the thread or the loop
#: that asked for the result.
CONTROL_FLOW = (SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, StopAsyncIteration)
#: Python's own exceptions, by identity: even hashing a class may run code of its metaclass.
OF_PYTHON = {
    id(found)
    for found in vars(builtins).values()
    if isinstance(found, type) and issubclass(found, BaseException)
}

# Python's own descriptors: normal attribute access may run code of a class or its metaclass.
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
    """The traceback from the worker, set as ``__cause__`` so that Python prints it."""

    def __init__(self, text: str = "") -> None:
        super().__init__(f'\n"""\n{text.rstrip()}\n"""')
        self.text = text

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteTraceback, (self.text,)


def describe(error: BaseException, *, skip: int = 0) -> dict[str, bytes]:
    """Write an exception as fields of a record, without the first ``skip`` frames (streamq's).

    Whatever the exception's class does, this raises nothing but ``Stopped``.
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
    """Do the work of ``describe``; raises what the exception's class raises."""
    trace, args = error.__traceback__, ARGS.__get__(error)
    for _ in range(skip):
        trace = trace.tb_next if trace is not None and trace.tb_next else trace
    if skip:
        trace = below_ours(trace)
    fields = {
        "error_type": type_name(type(error)).encode(),
        "error": message_of(error).encode(errors="backslashreplace"),
        "traceback": trace_of(error, trace).encode(errors="backslashreplace"),
    }
    for arguments in (arguments_of(error, args), args):
        try:
            written = encode_json(list(arguments))
        except EncodeError:
            continue  # such as a file name in bytes that are no text
        if len(written) <= LONGEST_MESSAGE:
            fields["error_args"] = written
            break
    return fields


def below_ours(trace: TracebackType | None) -> TracebackType | None:
    """A traceback without its first frames that are streamq's, as those of a class of tasks.

    The whole of it if all are: streamq itself has raised.
    """
    step = trace
    while step is not None and str(step.tb_frame.f_globals.get("__name__")).startswith("streamq."):
        step = step.tb_next
    return trace if step is None else step


def arguments_of(error: BaseException, args: Sequence[Any]) -> tuple[Any, ...]:
    """The arguments of an exception: ``args``, and the file names that OSError removes from it."""
    if issubclass(type(error), OSError) and len(args) == 2:
        names = [vars(OSError)[name].__get__(error) for name in ("filename", "filename2")]
        one, two = (os.fspath(name) if isinstance(name, os.PathLike) else name for name in names)
        if isinstance(one, str | int):
            return (*args, one) if two is None else (*args, one, None, two)
    return tuple(args)


def simple(error_type: str, message: str) -> dict[str, bytes]:
    """Make the fields of a failure that no code raised, such as a lost worker."""
    return {"error_type": error_type.encode(), "error": message.encode()}


def message_of(error: BaseException) -> str:
    """``str(error)``, also if its ``__str__`` raises."""
    try:
        text = str(error)
    except Stopped:
        raise
    except BaseException as failed:
        text = f"<{type(error).__name__}; its __str__ raised {type(failed).__name__}>"
    return text[:LONGEST_MESSAGE]


def trace_of(error: BaseException, trace: Any) -> str:
    """The formatted traceback; only its end if it is too long."""
    try:
        text = "".join(tracebacks.format_exception(type(error), error, trace))
    except Stopped:
        raise
    except BaseException:
        text = f"{type(error).__name__}: {message_of(error)}"
    return text if len(text) <= LONGEST_TRACEBACK else "…" + text[-LONGEST_TRACEBACK:]


def rebuild(fields: Mapping[str, bytes]) -> Exception:
    """Rebuild the exception of a failed record.

    It is of the recorded class if that is loaded here, else ``TaskError``; the remote
    traceback is its ``__cause__``.
    """
    name, message, trace = (
        fields.get(key, b"").decode(errors="replace")
        for key in ("error_type", "error", "traceback")
    )
    cls = loaded_class(name)
    if cls is TaskError:  # the task had waited for another one
        name, _, message = message.partition(": ")
    error = instance_or_none(cls, message, fields.get("error_args"))
    if error is None:  # not its truth, which a class may define
        error = TaskError(name, message, trace)
    if trace:
        CAUSE.__set__(error, RemoteTraceback(trace))
    return error


def instance_or_none(
    cls: type[Exception] | None, message: str, arguments: bytes | None
) -> Exception | None:
    """Make an instance of a loaded class; None if that is impossible without its code."""
    if cls is None or cls is TaskError:
        return None
    short = arguments is not None and len(arguments) <= LONGEST_MESSAGE
    try:
        values = decode_json(arguments) if arguments is not None and short else [message]
        return shown_as(cls, values, message)
    except Exception:
        return None


def shown_as(cls: type[Exception], values: Sequence[Any], text: str) -> Exception:
    """Make an instance of the class with these arguments, whose ``str`` is this text.

    An instance of the class itself if its ``str`` is the text and it overrides no method of
    ``OVERRIDES``, which may need attributes that only its ``__init__`` sets; else of a subclass.
    Raises what Python raises for a class that cannot be instantiated or subclassed like this.
    """
    error = made(cls, values, text)
    plain = not any(of_its_own(cls, name) for name in (*OVERRIDES, "__len__"))
    if plain and owner(cls, "__str__").__str__(error) == text:
        if not is_made_otherwise(cls):
            return error
        if all(owner(type(cls), name) in (type, object) for name in ("__hash__", "__eq__")):
            ATTRIBUTES.__get__(error)[TEXT] = text
            copyreg.pickle(cls, reduced_if_rebuilt)
            return error
    error = made(subclass_of(cls), values, text)
    ATTRIBUTES.__get__(error)[TEXT] = text
    return error


def is_made_otherwise(cls: type[Exception]) -> bool:
    """Whether calling the class does more than make an exception of its arguments."""
    called = owner(type(cls), "__call__") is not type
    return called or of_its_own(cls, "__init__") or of_its_own(cls, "__new__")


def made(cls: type[Exception], values: Sequence[Any], text: str) -> Exception:
    """Make an instance with ``__new__`` and ``__init__`` of the class's built-in base only."""
    maker: Any = cls
    while id(maker) not in OF_PYTHON:
        maker = BASE.__get__(maker)
    if issubclass(maker, BaseExceptionGroup):  # must not be empty; its parts are not recorded
        values = [text, [TaskError(NAME.__get__(cls), text)]]
    error: Exception = maker.__new__(cls, *values)
    try:
        maker.__init__(error, *values)
    except Exception:  # such as bytes that became text
        BaseException.__init__(error, *values)
    return error


def subclass_of(cls: type[Exception]) -> type[Exception]:
    """Make a subclass of the same name whose ``str`` is the recorded text; cached.

    Raises TypeError if that would run code of the class.
    """
    found = SUBCLASSES.get(id(cls))
    if found is None:
        kind = type(cls)
        if owner(kind, "mro") is not type:
            raise TypeError("its metaclass has its own method resolution order")
        names: dict[str, Any] = {
            name: method for name, method in OVERRIDES.items() if of_its_own(cls, name)
        }
        names |= {"__str__": recorded_text, "__reduce__": reduced, "__slots__": ()}
        if of_its_own(cls, "__len__"):  # which also defines the truth
            names["__bool__"] = always
        names |= {"__module__": MODULE.__get__(cls), "__qualname__": QUALNAME.__get__(cls)}
        bases = (cls,) if owner(cls, "__init_subclass__") is object else (NoInitSubclass, cls)
        found = type.__new__(kind, NAME.__get__(cls), bases, names)
        if len(SUBCLASSES) >= MOST_SUBCLASSES:
            SUBCLASSES.clear()
        SUBCLASSES[id(cls)] = found  # refers to the class, so that its id is not reused
    return found


class NoInitSubclass:
    """A base put first so that ``__init_subclass__`` of the other base does not run."""

    __slots__ = ()

    def __init_subclass__(cls) -> None:
        pass


def recorded_text(error: BaseException) -> str:
    """``__str__``: the text that the worker recorded."""
    text: str = ATTRIBUTES.__get__(error)[TEXT]
    return text


def reduced(error: BaseException, protocol: object = None) -> tuple[Any, ...]:
    """``__reduce__`` and ``__reduce_ex__``: rebuild it as it was built here."""
    return remade(BASE.__get__(type(error)), error)


def reduced_if_rebuilt(error: BaseException) -> Any:
    """Reduce a rebuilt instance of the class itself; other instances as before."""
    if TEXT in ATTRIBUTES.__get__(error):
        return remade(type(error), error)
    return error.__reduce_ex__(4)  # the protocol that ``copy`` uses; exceptions ignore it


def remade(cls: type, error: BaseException) -> tuple[Any, ...]:
    """The arguments of ``__reduce__`` that rebuild an exception with its recorded text."""
    kept = dict(ATTRIBUTES.__get__(error))
    text, values = kept.pop(TEXT), arguments_of(error, ARGS.__get__(error))
    return (shown_as, (cls, values, text), kept) if kept else (shown_as, (cls, values, text))


def always(error: BaseException) -> bool:
    """``__bool__``: an exception is true."""
    return True


def absent(error: BaseException, name: str) -> Any:
    """``__getattr__``: raise AttributeError that says why the attribute is missing."""
    raise AttributeError(
        f"{NAME.__get__(type(error))!r} has no attribute {name!r}: it was raised in a worker, "
        "and only its text and arguments are kept",
        name=name,
    )


#: The methods that show, compare or copy an exception, with the replacements of a class's own:
#: those may need attributes that only its ``__init__`` sets.
OVERRIDES: dict[str, Any] = {
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
    """The class that defines a method of a class; None if none does."""
    return next((base for base in MRO.__get__(cls) if name in NAMESPACE.__get__(base)), None)


def of_its_own(cls: type, name: str) -> bool:
    """Whether a class has this method from a class outside of Python's own exceptions."""
    found = owner(cls, name)
    return not (found is None or found is object or id(found) in OF_PYTHON)


def loaded_class(name: str) -> type[Exception] | None:
    """Find the loaded Exception class of this dotted name, without importing; else None.

    A class of the program that runs, ``__main__.MyError`` of ``mm.py``, is ``mm.MyError``.
    Reads the dictionaries of modules and classes only: no ``__getattr__`` runs.
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
    """Whether a class is an Exception without a meaning for Python itself."""
    return issubclass(cls, Exception) and not issubclass(cls, CONTROL_FLOW)
