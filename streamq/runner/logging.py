"""Log lines of a worker: text for people, or one JSON object a line for programs."""

import contextlib
import datetime
import io
import logging
import math
import operator
import os
import re
import sys
from typing import Any

import msgspec

from streamq.context import current_task
from streamq.core.log_limit import LogLimit
from streamq.core.log_names import is_of_tasks
from streamq.errors import SoftTimeLimitExceeded, Stopped
from streamq.host import clock
from streamq.runner.log_file import LOG_FILE
from streamq.runner.terminal import BOLD, DIM, GREEN, MAGENTA, RED, YELLOW, Style
from streamq.serialization.exceptions import trace_of
from streamq.signals import setup_logging

#: The attributes of every record; all others were given as ``extra``.
STANDARD_FIELDS = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"})
#: Depth and size up to which a value of ``extra`` becomes JSON; beyond that it is text.
DEEPEST, LARGEST = 8, 1000
#: Integers below this are read by every JSON parser.
LARGEST_NUMBER = 2**63
#: Characters that end a line for some readers, and that JSON does not escape anyway.
LINE_ENDS = {0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"}
#: The format that receivers of setup_logging are given, for a formatter of theirs.
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

FOR_FILES = Style()
#: The colours of levels, and of the words by which a line says how a task ended.
LEVELS = {
    logging.DEBUG: DIM,
    logging.INFO: GREEN,
    logging.WARNING: YELLOW,
    logging.ERROR: RED,
    logging.CRITICAL: f"{BOLD};{RED}",
}
STATES = {
    "ok": GREEN,
    "again": YELLOW,
    "rejected": YELLOW,
    "revoked": MAGENTA,
    "failed": RED,
    "went to the dead letters": RED,
    "no such task here": RED,
}
ENDED = re.compile(rf"(\]:? )({'|'.join(STATES)})\b")


class TextFormatter(logging.Formatter):
    """The format for people: ``12:00:01.204 INFO  tasks.add[01…] ok in 1.4 ms``."""

    def __init__(self, style: Style = FOR_FILES) -> None:
        super().__init__()
        self.style = style

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, and the traceback or the stack if there is one."""
        moment = datetime.datetime.fromtimestamp(record.created)
        level = self.style.paint(f"{text_of(record.levelname):<5}", LEVELS.get(record.levelno, ""))
        prefix = self.style.short_ids(task_prefix(record))
        stack = "" if record.stack_info is None else text_of(record.stack_info)
        parts = [self.message_of(record), trace_in(record), stack]
        text = "\n".join(part for part in parts if part)
        return f"{moment:%H:%M:%S}.{record.msecs:03.0f} {level} {prefix}{text}"

    def message_of(self, record: logging.LogRecord) -> str:
        """The message; in lines of ours, ids are short and the state of a task has its colour."""
        message, name = message_in(record), text_of(record.name)
        is_ours = f"{name}.".startswith("streamq.") and not name.startswith("streamq.task")
        if not (self.style.is_terminal and is_ours):
            return message
        first, line_end, rest = message.partition("\n")
        first = ENDED.sub(self.painted_end, self.style.short_ids(first), count=1)
        return first + line_end + rest

    def painted_end(self, found: re.Match[str]) -> str:
        """How a task ended, in the colour of its state."""
        return found[1] + self.style.paint(found[2], STATES[found[2]])


class JsonFormatter(logging.Formatter):
    """The format for programs: one JSON object a line, whatever the record holds."""

    def format(self, record: logging.LogRecord) -> str:
        """Return time (UTC), level, logger, message, the task that logged if any, and ``extra``."""
        try:
            line = self.fields(record)
            return msgspec.json.encode(line).decode().translate(LINE_ENDS)
        except Exception as error:  # for example, the stack is full
            kind = type(error).__name__
            return f'{{"level": "error", "message": "a record could not be written: {kind}"}}'

    def fields(self, record: logging.LogRecord) -> dict[str, object]:
        """Return the fields of the line by name."""
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
            if given not in STANDARD_FIELDS:
                name = text_of(given)
                line[f"{name}_" if name in line else name] = json_value(value)
        return line


def message_in(record: logging.LogRecord) -> str:
    """The message; its format and arguments if they do not fit each other."""
    try:
        return str(record.getMessage())
    except Stopped:
        raise
    except BaseException:
        return f"{text_of(record.msg)} {' '.join(map(text_of, arguments_of(record)))}"


def arguments_of(record: logging.LogRecord) -> tuple[object, ...]:
    """The arguments of the message."""
    return record.args if isinstance(record.args, tuple) else (record.args,)


def trace_in(record: logging.LogRecord) -> str:
    """The traceback that a record carries; empty if it carries none."""
    if record.exc_info and record.exc_info[1] is not None:
        return trace_of(record.exc_info[1], record.exc_info[2]).rstrip("\n")
    return record.exc_text or ""


def json_value(value: Any, depth: int = 0) -> object:
    """Return a value as JSON can write it; all others, and numbers JSON lacks, as text."""
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
            return {text_of(name): json_value(item, depth + 1) for name, item in items}
        return [json_value(item, depth + 1) for item in list(value)]
    return text_of(value)


def text_of(value: object) -> str:
    """The text of a value; its type and error if ``str`` fails."""
    try:
        return in_utf8(str(value))
    except Stopped:
        raise
    except BaseException as failed:
        kind = type(value).__name__
        return in_utf8(f"<{kind}; its __str__ raised {type(failed).__name__}>")


def in_utf8(text: str) -> str:
    """The text, with escapes for what UTF-8 cannot encode."""
    return str.encode(text, errors="backslashreplace").decode()


def task_prefix(record: logging.LogRecord) -> str:
    """The task that logs, as a prefix for the loggers of tasks; empty for others."""
    task = current_task()
    if task is None or not is_of_tasks(text_of(record.name)):
        return ""
    return f"{task.request.task}[{task.request.id}] "


class StderrHandler(logging.Handler):
    """The handler that writes each line to standard error, at once and in one piece.

    A line is lost when the disk is full or the reader has gone; nothing else is affected.
    """

    #: The level of the root logger if no user has set it.
    root_level = logging.WARNING
    #: The level that we gave to streamq's own logger, if any.
    own_level = logging.NOTSET

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line of a record."""
        try:
            write_line(self.format(record))
        except Exception:
            self.handleError(record)


def write_line(text: str) -> None:
    """Write a line to standard error; errors of the descriptor are ignored."""
    with contextlib.suppress(OSError, ValueError):
        LOG_FILE.follow()
        output = error_output()
        left = (text + "\n").encode(errors="backslashreplace")
        while left:  # a signal may interrupt a long write
            left = left[os.write(output, left) :]


def error_output() -> int:
    """The descriptor of standard error, also where ``sys.stderr`` was replaced.

    Tasks and libraries replace it to collect or log what is printed, or close it.
    """
    stream: Any
    for stream in (sys.stderr, sys.__stderr__):
        with contextlib.suppress(AttributeError, OSError, ValueError, TypeError):
            stream.flush()
            return operator.index(stream.fileno())
    return 2


def open_closed_streams() -> None:
    """Open standard streams that are closed: else a socket with that number gets the prints."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # this is the lowest free number
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, io.TextIOWrapper(io.FileIO(number, "r+", closefd=False)))


def read_nothing() -> None:
    """Replace standard input by an empty one, also for programs that tasks start.

    A background process that reads from its terminal would be stopped by SIGTTIN.
    """
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False))


def flush_streams() -> None:
    """Flush the standard streams; what cannot be written is dropped, without an error at exit."""
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except Exception:  # disk full, reader gone, or closed by a task
            setattr(sys, name, io.TextIOWrapper(io.FileIO(os.devnull, "w")))


class AlwaysEnabled(logging.Logger):
    """A logger that a user's configuration cannot disable, and whose errors end no runner.

    ``disable_existing_loggers`` does not disable it; its level can.  When a handler, a filter or a
    record factory raises, the line goes to standard error.
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
            STDERR.emit(logging.LogRecord(self.name, level, "", 0, msg, args, exc_info))
            if LOGGING_FAILURES.due(clock.monotonic()):
                trace = (type(failed), failed, failed.__traceback__)
                text = "logging failed, in a handler, filter or record factory that you have set up"
                STDERR.emit(logging.LogRecord("streamq", logging.ERROR, "", 0, text, (), trace))


STDERR = StderrHandler()
#: Limits the reports of errors in a user's logging to one a minute.
LOGGING_FAILURES = LogLimit(60.0)


def set_up_logging(level: str, format: str, *, loaded: bool = False) -> None:
    """Set up logging to standard error, unless the user has set up handlers of their own.

    Handlers of the user stay, and they alone get the lines; the level of their root logger stays
    too.  ``level`` is then the level of streamq's own lines, unless they have set that as well.
    Call it again when all of the user's modules have been ``loaded``.

    If ``setup_logging`` is connected nothing is set up, and what was is undone.  Its receivers
    are called once all modules are loaded.
    """
    root, own = logging.getLogger(), logging.getLogger("streamq")
    if setup_logging.links:
        leave_logging_to_receivers(level, call=loaded)
        return
    text = TextFormatter(Style.of(error_output()))
    STDERR.setFormatter(JsonFormatter() if format == "json" else text)
    if not root.handlers:
        root.addHandler(STDERR)
    if root.handlers == [STDERR] and root.level == STDERR.root_level:
        root.setLevel(level.upper())
        STDERR.root_level = root.level
    if own.level == logging.NOTSET:
        own.setLevel(level.upper())
        STDERR.own_level = own.level
    keep_all_enabled()


def leave_logging_to_receivers(level: str, *, call: bool) -> None:
    """Undo what ``set_up_logging`` has set up; with ``call``, call receivers of setup_logging."""
    root, own = logging.getLogger(), logging.getLogger("streamq")
    root.removeHandler(STDERR)
    if root.level == STDERR.root_level != StderrHandler.root_level:
        root.setLevel(StderrHandler.root_level)
    if own.level == STDERR.own_level:
        own.setLevel(logging.NOTSET)
    STDERR.root_level, STDERR.own_level = StderrHandler.root_level, StderrHandler.own_level
    keep_all_enabled()  # an error in a handler of theirs must not end a runner
    if call:
        setup_logging.send(
            None,
            loglevel=logging.getLevelNamesMapping()[level.upper()],
            logfile=None,
            format=FORMAT,
            colorize=bool(sys.stderr and sys.stderr.isatty()),
        )


def keep_all_enabled() -> None:
    """Make all loggers of streamq ones that a configuration of the user's cannot disable."""
    for name, logger in list(logging.Logger.manager.loggerDict.items()):
        if f"{name}.".startswith("streamq.") and isinstance(logger, logging.Logger):
            keep_enabled(logger)


def keep_enabled(logger: logging.Logger) -> None:
    """Make a logger one that a configuration which does not name it cannot disable."""
    kind = type(logger)
    if not issubclass(kind, AlwaysEnabled):
        logger.__class__ = type(kind.__name__, (AlwaysEnabled, kind), {})
