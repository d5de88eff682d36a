"""Log lines of a worker: for people, or one JSON object each for programs."""

import contextlib
import datetime
import io
import logging
import os
import sys
from typing import Any

import msgspec

from streamq.context import current_task


class ForPeople(logging.Formatter):
    """``12:00:01.204 INFO  tasks.add[01…] ok in 1.4 ms``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback if there is one."""
        moment = datetime.datetime.fromtimestamp(record.created)
        text = (
            f"{moment:%H:%M:%S}.{record.msecs:03.0f} {record.levelname:<5} {said_by_task(record)}"
        )
        text += record.getMessage()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


class ForPrograms(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Time in UTC, level, logger, message, and the task that spoke if one did."""
        moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line: dict[str, object] = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
        }
        task = current_task()
        if task is not None:
            line |= {"task": task.request.task, "id": task.request.id}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def said_by_task(record: logging.LogRecord) -> str:
    """Which task speaks, for the loggers of tasks."""
    task = current_task()
    if task is None or not record.name.startswith("streamq.task"):
        return ""
    return f"{task.request.task}[{task.request.id}] "


class Lines(logging.Handler):
    """Writes each line to standard error, at once and in one piece.

    A disk that is full or a reader that has gone costs the line, and nothing else.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        try:
            write_line(self.format(record))
        except Exception:
            self.handleError(record)


def write_line(text: str) -> None:
    """Write to standard error, whatever has become of it."""
    with contextlib.suppress(OSError, ValueError):
        stream: Any = sys.stderr
        stream.flush()
        os.write(stream.fileno(), (text + "\n").encode(errors="backslashreplace"))


def open_closed_streams() -> None:
    """Open what we were started without: a socket with its number would get what is printed."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free is this one
        if getattr(sys, name) is None:
            setattr(sys, name, io.TextIOWrapper(io.FileIO(number, "r+", closefd=False)))


def flush_streams() -> None:
    """Write what was printed, if that can be done; else it is lost, and spoils no ending."""
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except Exception:  # the disk is full, the reader has gone, a task has closed it
            setattr(sys, name, io.TextIOWrapper(io.FileIO(os.devnull, "w")))


def set_up_logging(level: str, format: str) -> None:
    """Write log lines to standard error.

    Handlers that the user has set up stay, and get the lines alone.
    """
    root = logging.getLogger()
    if not root.handlers:
        handler = Lines()
        handler.setFormatter(ForPrograms() if format == "json" else ForPeople())
        root.addHandler(handler)
    root.setLevel(level.upper())
    logging.getLogger("streamq").setLevel(level.upper())
