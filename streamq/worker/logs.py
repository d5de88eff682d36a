"""Log lines of a worker: for people, or one JSON object each for programs."""

import datetime
import logging
import sys

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


def set_up_logging(level: str, format: str) -> None:
    """Write log lines to standard error.

    Handlers that the user has set up stay, and get the lines alone.
    """
    root = logging.getLogger()
    if not root.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(ForPrograms() if format == "json" else ForPeople())
        root.addHandler(handler)
    root.setLevel(level.upper())
    logging.getLogger("streamq").setLevel(level.upper())
