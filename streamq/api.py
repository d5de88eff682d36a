"""The default app of the process, and the module-level functions that use it."""

import logging
from collections.abc import Callable
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, overload

from streamq.app import App, apps
from streamq.context import Running
from streamq.core.log_names import TASKS
from streamq.errors import ConfigError
from streamq.result import Result
from streamq.tasks import Call, Signature, Task, asend, send

P = ParamSpec("P")
R = TypeVar("R")

#: The app of ``set_default``: at most one.
chosen: list[App] = []


def set_default(app: App) -> None:
    """Make this the default app, for ``streamq.enqueue`` and ``@streamq.task``."""
    chosen[:] = [app]


def default_app() -> App:
    """Return the app of ``set_default``, else the only app; makes one if there is none.

    Raises ConfigError if there are several and none was chosen.
    """
    if chosen:
        return chosen[0]
    found = list(apps)
    if len(found) > 1:
        raise ConfigError(
            f"there are {len(found)} apps; which one is meant?",
            known={"apps": ", ".join(sorted(app.name for app in found))},
            advice=["streamq.set_default(app), or use the app's own methods"],
        )
    if not found:
        set_default(App("default"))
        return chosen[0]
    return found[0]


@overload
def enqueue(what: Task[P, R] | Call[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Result[R]: ...
@overload
def enqueue(what: Signature | str, /, *args: Any, **kwargs: Any) -> Result[Any]: ...


def enqueue(what: Any, /, *args: Any, **kwargs: Any) -> Result[Any]:
    """Send a call: a task, a task with options, a signature or a task's name, then arguments.

    A task is sent by its own app, a name by the default app.  See ``Task.enqueue`` for
    what is raised.
    """
    match what:
        case Task() | Call():
            return what.enqueue(*args, **kwargs)
        case Signature(task=Task() as task):
            return send(what.with_args(args, kwargs), task.sender)
    return default_app().enqueue(what, *args, **kwargs)


@overload
async def aenqueue(
    what: Task[P, R] | Call[P, R], /, *args: P.args, **kwargs: P.kwargs
) -> Result[R]: ...
@overload
async def aenqueue(what: Signature | str, /, *args: Any, **kwargs: Any) -> Result[Any]: ...


async def aenqueue(what: Any, /, *args: Any, **kwargs: Any) -> Result[Any]:
    """Send a call from asyncio; see ``enqueue``."""
    match what:
        case Task() | Call():
            return await what.aenqueue(*args, **kwargs)
        case Signature(task=Task() as task):
            return await asend(what.with_args(args, kwargs), task.sender)
    return await default_app().aenqueue(what, *args, **kwargs)


@overload
def task(function: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(
    *, bind: Literal[True], **options: Any
) -> Callable[[Callable[Concatenate[Running, P], R]], Task[P, R]]: ...
@overload
def task(**options: Any) -> Callable[[Callable[P, R]], Task[P, R]]: ...


def task(function: Any = None, /, **options: Any) -> Any:
    """Make a function a task of the default app; see ``App.task``."""
    app = default_app()
    return app.task(**options) if function is None else app.task(function)


def get_task_logger(name: str) -> logging.Logger:
    """Return a logger for task code; in a worker its lines carry the task's name and id."""
    return logging.getLogger(name if name.startswith(TASKS) else f"{TASKS}.{name}")
