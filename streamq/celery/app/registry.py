"""The tasks of an app of streamq.celery by name: they may be assigned, and include shared ones."""

from collections.abc import Callable, MutableMapping
from typing import Any

from streamq.core.text import shown
from streamq.errors import ConfigError
from streamq.producer.registry import Registry
from streamq.routing import check_name
from streamq.tasks import Task


class CeleryRegistry(Registry, MutableMapping[str, Task[..., Any]]):
    """The tasks of an app; reading it first completes them by ``finalize``."""

    def __init__(self, finalize: Callable[[], None]) -> None:
        super().__init__()
        self.finalize = finalize

    def discover(self) -> None:
        """Import the modules that are still to be discovered, and take in the shared tasks."""
        super().discover()
        self.finalize()

    def __setitem__(self, name: str, task: Any) -> None:
        """Register a task under one more name, such as an old one.

        Raises ConfigError for what is no task.
        """
        found = actual(task)
        if not isinstance(found, Task):
            raise ConfigError(
                f"app.tasks[{name!r}] takes a task, not {shown(task)}",
                advice=["decorate the function with @app.task or @shared_task"],
            )
        self.tasks[check_name(name, "task name")] = found

    def __delitem__(self, name: str) -> None:
        del self.tasks[name]

    def register(self, task: Any) -> None:
        """Register a task under its own name."""
        found = actual(task)
        self[found.name] = found

    def unregister(self, name: Any) -> None:
        """Remove a task, given it or its name.  Raises NotRegistered if it is not there."""
        known = getattr(name, "name", name)
        if known not in self.tasks:
            raise self.missing(str(known))
        del self.tasks[known]

    def pop(self, name: str, *default: Any) -> Any:
        """Remove a task by name, and return it."""
        return self.tasks.pop(name, *default)

    def regular(self) -> dict[str, Task[..., Any]]:
        """All tasks by name."""
        return dict(self.items())

    def periodic(self) -> dict[str, Task[..., Any]]:
        """None: periodic tasks are entries of the setting beat_schedule."""
        return {}


def actual(task: Any) -> Any:
    """The task that a proxy stands for; a task itself."""
    find = getattr(type(task), "_get_current_object", None)
    return task if find is None else find(task)
