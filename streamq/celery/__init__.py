"""Celery's names, for projects that move to streamq: import from here what Celery has.

    from streamq.celery import Celery, shared_task

    app = Celery("shop", broker="redis://localhost:6379/0")

    @shared_task
    def add(x, y):
        return x + y

Apps made here have Celery's defaults: early acknowledgement, no time limit, the queue ``celery``,
the state PENDING for what waits.  Names are loaded when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

#: Public names by the module that defines them.
MODULES = {
    "streamq.celery.app.base": "Celery",
    "streamq.celery.app.task": "Task",
    "streamq.celery.canvas": (
        "Signature chain chord chunks group maybe_signature signature subtask xmap xstarmap"
    ),
    "streamq.celery.current": "current_app current_task",
    "streamq.celery.result": "AsyncResult EagerResult GroupResult ResultSet",
    "streamq.celery.schedules": "crontab schedule",
    "streamq.celery.shared": "shared_task",
    "streamq.celery.utils": "uuid",
}
MODULE_OF = {name: module for module, names in MODULES.items() for name in names.split()}

#: Modules that are attributes once anything was imported: ``celery.signals.task_prerun``.
SUBMODULES = frozenset(
    [
        "app",
        "canvas",
        "contrib",
        "exceptions",
        "kombu",
        "result",
        "schedules",
        "signals",
        "states",
        "utils",
    ]
)

#: The version of Celery whose names and behaviour these are; code compares with it.
__version__ = "5.7.0"
VERSION = (5, 7, 0)

__all__ = [
    "AsyncResult",
    "Celery",
    "EagerResult",
    "GroupResult",
    "ResultSet",
    "Signature",
    "Task",
    "chain",
    "chord",
    "chunks",
    "crontab",
    "current_app",
    "current_task",
    "group",
    "maybe_signature",
    "schedule",
    "shared_task",
    "signature",
    "subtask",
    "uuid",
    "xmap",
    "xstarmap",
]

if TYPE_CHECKING:  # for type checkers, which do not run __getattr__
    from streamq.celery.app.base import Celery
    from streamq.celery.app.task import Task
    from streamq.celery.canvas import (
        Signature,
        chain,
        chord,
        chunks,
        group,
        maybe_signature,
        signature,
        subtask,
        xmap,
        xstarmap,
    )
    from streamq.celery.current import current_app, current_task
    from streamq.celery.result import AsyncResult, EagerResult, GroupResult, ResultSet
    from streamq.celery.schedules import crontab, schedule
    from streamq.celery.shared import shared_task
    from streamq.celery.utils import uuid


def __getattr__(name: str) -> Any:
    """Load a public name or a module when it is first used."""
    if name in SUBMODULES:
        return importlib.import_module(f"streamq.celery.{name}")
    module = MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'streamq.celery' has no attribute {name!r}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, *SUBMODULES, *globals()]
