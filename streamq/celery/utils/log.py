"""Loggers by Celery's names."""

import logging

from streamq.api import get_task_logger

__all__ = ["get_logger", "get_task_logger", "task_logger"]

#: The logger of all tasks.
task_logger = logging.getLogger("streamq.task")


def get_logger(name: str | logging.Logger) -> logging.Logger:
    """Return a logger by its name."""
    return logging.getLogger(name) if isinstance(name, str) else name
