"""Log lines of a worker: for people, or one JSON object each for programs."""

import contextlib
import datetime
import io
import logging
import math
import operator
import os
import sys
from typing import Any

import msgspec

from streamq.context import current_task
from streamq.errors import SoftTimeLimitExceeded, Stopped
from streamq.host import clock
from streamq.serialization.exceptions import trace_of
from streamq.serialization.signing import Seldom

#: What every record has; the rest was given as ``extra``.
USUAL = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"})
#: How deep and how large a value of ``extra`` is taken apart; beyond that it is text.
DEEPEST, LARGEST = 8, 1000
#: Integers that every reader of JSON takes.
LARGEST_NUMBER = 2**63
#: What ends a line for some reader, beyond what JSON writes as an escape anyway.
LINE_ENDS = {0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"}


class ForPeople(logging.Formatter):
    """``12:00:01.204 INFO  tasks.add[01…] ok in 1.4 ms``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback or the stack if there is one."""
        moment = datetime.datetime.fromtimestamp(record.created)
        level = text_of(record.levelname)
        text = f"{moment:%H:%M:%S}.{record.msecs:03.0f} {level:<5} {said_by_task(record)}"
        stack = "" if record.stack_info is None else text_of(record.stack_info)
        parts = [message_in(record), trace_in(record), stack]
        return text + "\n".join(part for part in parts if part)


class ForPrograms(logging.Formatter):
    """One JSON object a line, whatever the record holds."""

    def format(self, record: logging.LogRecord) -> str:
        """Time in UTC, level, logger, message, the task that spoke if one did, and ``extra``."""
        try:
            line = self.fields(record)
            return msgspec.json.encode(line).decode().translate(LINE_ENDS)
        except Exception as error:  # there is no room left on the stack, for instance
            kind = type(error).__name__
            return f'{{"level": "error", "message": "a record could not be written: {kind}"}}'

    def fields(self, record: logging.LogRecord) -> dict[str, object]:
        """What the line says, by name."""
        moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line: dict[str, object] = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": text_of(record.levelname).lower(),
            "logger": text_of(record.name),
            "pid": record.process,
            "message": in_utf8(message_in(record)),
        }
        task = current_task()
        if task is not None:
            line |= {"task": in_utf8(task.request.task), "id": in_utf8(task.request.id)}
        if trace := trace_in(record):
            line["traceback"] = in_utf8(trace)
        if record.stack_info is not None:
            line["stack_info"] = text_of(record.stack_info)
        for given, value in list(vars(record).items()):
            if given not in USUAL:
                name = text_of(given)
                line[f"{name}_" if name in line else name] = sayable(value)
        return line


def message_in(record: logging.LogRecord) -> str:
    """The message; what it was to be made of if the arguments do not fit."""
    try:
        return str(record.getMessage())
    except Stopped:
        raise
    except BaseException:
        return f"{text_of(record.msg)} {' '.join(map(text_of, arguments_of(record)))}"


def arguments_of(record: logging.LogRecord) -> tuple[object, ...]:
    """What was given to be put into the message."""
    return record.args if isinstance(record.args, tuple) else (record.args,)


def trace_in(record: logging.LogRecord) -> str:
    """The traceback that a record carries; empty if it carries none."""
    if record.exc_info and record.exc_info[1] is not None:
        return trace_of(record.exc_info[1], record.exc_info[2]).rstrip("\n")
    return record.exc_text or ""


def sayable(value: Any, depth: int = 0) -> object:
    """What JSON can say of a value, whatever that is and does; numbers that it lacks as text."""
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is int and -LARGEST_NUMBER <= value < LARGEST_NUMBER:
        return value
    if kind is float and math.isfinite(value):
        return value
    if depth < DEEPEST and kind in (dict, list, tuple, set, frozenset) and len(value) <= LARGEST:
        if kind is dict:
            items = list(value.items())
            return {text_of(name): sayable(item, depth + 1) for name, item in items}
        return [sayable(item, depth + 1) for item in list(value)]
    return text_of(value)


def text_of(value: object) -> str:
    """The text of a value; which kind of value it is, if it has none."""
    try:
        return in_utf8(str(value))
    except Stopped:
        raise
    except BaseException as failed:
        kind = type(value).__name__
        return in_utf8(f"<{kind}; its __str__ raised {type(failed).__name__}>")


def in_utf8(text: str) -> str:
    """The text, with what cannot be written as UTF-8 as escapes."""
    return str.encode(text, errors="backslashreplace").decode()


def said_by_task(record: logging.LogRecord) -> str:
    """Which task speaks, for the loggers of tasks."""
    task = current_task()
    if task is None or not text_of(record.name).startswith("streamq.task"):
        return ""
    return f"{task.request.task}[{task.request.id}] "


class Lines(logging.Handler):
    """Writes each line to standard error, at once and in one piece.

    A disk that is full or a reader that has gone costs the line, and nothing else.
    """

    #: The level of the root logger if no user has set it.
    root_level = logging.WARNING

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        try:
            write_line(self.format(record))
        except Exception:
            self.handleError(record)


def write_line(text: str) -> None:
    """Write to standard error, whatever has become of it."""
    with contextlib.suppress(OSError, ValueError):
        output = error_output()
        left = (text + "\n").encode(errors="backslashreplace")
        while left:  # a signal may cut a long one short
            left = left[os.write(output, left) :]


def error_output() -> int:
    """The descriptor of standard error, also where ``sys.stderr`` is something else by now.

    Tasks and libraries collect there what is printed, send it to a logger, or close it.
    """
    stream: Any
    for stream in (sys.stderr, sys.__stderr__):
        with contextlib.suppress(AttributeError, OSError, ValueError, TypeError):
            stream.flush()
            return operator.index(stream.fileno())
    return 2


def open_closed_streams() -> None:
    """Open what we were started without: a socket with its number would get what is printed."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free is this one
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, io.TextIOWrapper(io.FileIO(number, "r+", closefd=False)))


def read_nothing() -> None:
    """Have whatever reads standard input, here or in a program that a task starts, find none.

    Who reads from a terminal in the background is stopped by it, without a word.
    """
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False))


def flush_streams() -> None:
    """Write what was printed, if that can be done; else it is lost, and spoils no ending."""
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except Exception:  # the disk is full, the reader has gone, a task has closed it
            setattr(sys, name, io.TextIOWrapper(io.FileIO(os.devnull, "w")))


class AlwaysHeard(logging.Logger):
    """A logger whose lines are seen and harm nobody, whatever a user's configuration does.

    ``disable_existing_loggers`` does not silence it; its level can.  A handler, a filter or a
    factory of records that raises costs no runner its life: the line goes to standard error.
    """

    @property
    def disabled(self) -> bool:
        return False

    @disabled.setter
    def disabled(self, value: object) -> None:
        """``dictConfig`` and ``fileConfig`` disable what they do not name, unless told not to."""

    def _log(
        self, level: int, msg: object, args: Any, exc_info: Any = None, extra: Any = None,
        stack_info: bool = False, stacklevel: int = 1,
    ) -> None:  # fmt: skip
        if exc_info is True:
            exc_info = sys.exc_info()
        try:
            super()._log(level, msg, args, exc_info, extra, stack_info, stacklevel + 1)
        except (Stopped, SoftTimeLimitExceeded):
            raise
        except (Exception, SystemExit) as failed:
            if isinstance(exc_info, BaseException):
                exc_info = (type(exc_info), exc_info, exc_info.__traceback__)
            LINES.emit(logging.LogRecord(self.name, level, "", 0, msg, args, exc_info))
            if UNHEARD.due(clock.monotonic()):
                trace = (type(failed), failed, failed.__traceback__)
                said = "logging failed, in a handler, filter or record factory that you have set up"
                LINES.emit(logging.LogRecord("streamq", logging.ERROR, "", 0, said, (), trace))


LINES = Lines()
#: What a user's logging raises is told once a minute.
UNHEARD = Seldom(60.0)


def set_up_logging(level: str, format: str) -> None:
    """Write log lines to standard error.

    Handlers that the user has set up stay and get the lines alone, and so does the level of
    their root logger: ``level`` is then that of streamq's own lines, unless they have set that
    too.  To be called again when more modules of the user's have been loaded.
    """
    root, own = logging.getLogger(), logging.getLogger("streamq")
    LINES.setFormatter(ForPrograms() if format == "json" else ForPeople())
    if not root.handlers:
        root.addHandler(LINES)
    if root.handlers == [LINES] and root.level == LINES.root_level:
        root.setLevel(level.upper())
        LINES.root_level = root.level
    if own.level == logging.NOTSET:
        own.setLevel(level.upper())
    for name, logger in list(logging.Logger.manager.loggerDict.items()):
        if f"{name}.".startswith("streamq.") and isinstance(logger, logging.Logger):
            keep_enabled(logger)


def keep_enabled(logger: logging.Logger) -> None:
    """Have a logger speak, whatever is configured without naming it."""
    kind = type(logger)
    if not issubclass(kind, AlwaysHeard):
        logger.__class__ = type(kind.__name__, (AlwaysHeard, kind), {})
