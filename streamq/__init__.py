"""streamq: a task queue for Python, native to Redis Streams.

    import streamq

    app = streamq.App("shop", url="redis://localhost:6379/0")

    @app.task
    def add(x: int, y: int) -> int:
        return x + y

    add.enqueue(2, 3).get(timeout=5)

Names are loaded when they are first used: the command line starts fast, and gevent can
patch the standard library before anything else is imported.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

#: Public names by the module that defines them.
MODULES = {
    "streamq.api": "aenqueue default_app enqueue get_task_logger set_default task",
    "streamq.app": "App",
    "streamq.serialization.codec": "register_serializer",
    "streamq.context": "Request Running current_task",
    "streamq.errors": (
        "BrokerFull BrokerUnavailable ConfigError ContentDisallowed DecodeError EncodeError "
        "Ignore MaxRetriesExceeded NotConfirmed OutOfIds PartlyPublished PublishUnknown QueueFull "
        "Reject ResultTimeout Retry Revoked SignatureInvalid SoftTimeLimitExceeded StreamqError "
        "TaskError TaskNotFound TimeLimitExceeded Unroutable WorkerLost"
    ),
    "streamq.middleware": "Middleware",
    "streamq.producer.completion": "as_completed",
    "streamq.result": "Result",
    "streamq.routing": "Binding Exchange Queue",
    "streamq.schedule": "at cron crontab every",
    "streamq.states": "State",
    "streamq.tasks": "Call Signature Task",
}
MODULE_OF = {name: module for module, names in MODULES.items() for name in names.split()}

#: Names of a later version.
LATER = frozenset({"chain", "chord", "group"})

__all__ = [
    "App",
    "Binding",
    "BrokerFull",
    "BrokerUnavailable",
    "Call",
    "ConfigError",
    "ContentDisallowed",
    "DecodeError",
    "EncodeError",
    "Exchange",
    "Ignore",
    "MaxRetriesExceeded",
    "Middleware",
    "NotConfirmed",
    "OutOfIds",
    "PartlyPublished",
    "PublishUnknown",
    "Queue",
    "QueueFull",
    "Reject",
    "Request",
    "Result",
    "ResultTimeout",
    "Retry",
    "Revoked",
    "Running",
    "Signature",
    "SignatureInvalid",
    "SoftTimeLimitExceeded",
    "State",
    "StreamqError",
    "Task",
    "TaskError",
    "TaskNotFound",
    "TimeLimitExceeded",
    "Unroutable",
    "WorkerLost",
    "__version__",
    "aenqueue",
    "as_completed",
    "at",
    "cron",
    "crontab",
    "current_task",
    "default_app",
    "enqueue",
    "every",
    "get_task_logger",
    "register_serializer",
    "set_default",
    "task",
]

if TYPE_CHECKING:  # for type checkers, which do not run __getattr__
    from streamq.api import (
        aenqueue,
        default_app,
        enqueue,
        get_task_logger,
        set_default,
        task,
    )
    from streamq.app import App
    from streamq.context import Request, Running, current_task
    from streamq.errors import (
        BrokerFull,
        BrokerUnavailable,
        ConfigError,
        ContentDisallowed,
        DecodeError,
        EncodeError,
        Ignore,
        MaxRetriesExceeded,
        NotConfirmed,
        OutOfIds,
        PartlyPublished,
        PublishUnknown,
        QueueFull,
        Reject,
        ResultTimeout,
        Retry,
        Revoked,
        SignatureInvalid,
        SoftTimeLimitExceeded,
        StreamqError,
        TaskError,
        TaskNotFound,
        TimeLimitExceeded,
        Unroutable,
        WorkerLost,
    )
    from streamq.middleware import Middleware
    from streamq.producer.completion import as_completed
    from streamq.result import Result
    from streamq.routing import Binding, Exchange, Queue
    from streamq.schedule import at, cron, crontab, every
    from streamq.serialization.codec import register_serializer
    from streamq.states import State
    from streamq.tasks import Call, Signature, Task


def __getattr__(name: str) -> Any:
    """Load a public name from the module that defines it."""
    module = MODULE_OF.get(name)
    if module is None:
        if name in LATER:
            later = f"not in this version: {name}"
            if sys._getframe(1).f_code.co_name == "_handle_fromlist":  # from streamq import …
                raise ImportError(later, name=__name__)
            raise AttributeError(later)
        raise AttributeError(f"module 'streamq' has no attribute {name!r}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, *globals()]
