"""Loggers by Celery's names."""

import logging

from streamq.core.log_names import TASK_LOGGERS

__all__ = ["get_logger", "get_task_logger", "task_logger"]

#: The logger of all tasks.
task_logger = logging.getLogger("streamq.task")


def get_logger(name: str | logging.Logger) -> logging.Logger:
    """Return a logger by its name."""
    return logging.getLogger(name) if isinstance(name, str) else name


def get_task_logger(name: str) -> logging.Logger:
    """Return the logger of this name; in a worker its lines carry the task's name and id.

    It keeps its name, so that the ``LOGGING`` of a project finds it.
    """
    TASK_LOGGERS.add(name)
    return logging.getLogger(name)
