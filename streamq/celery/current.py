"""The current app of the process, and proxies: ``current_app`` and ``current_task``.

The current app is the last one made, unless one was chosen with ``app.set_current()``.
"""

import weakref
from collections.abc import Callable
from typing import Any

from streamq.config.importing import import_named
from streamq.context import current_task as running_task

#: Every app of streamq.celery in this process.
celery_apps: "weakref.WeakSet[Any]" = weakref.WeakSet()


class CurrentApp:
    """The current app of the process, and the one that is current where no other is."""

    app: Any = None
    default: Any = None


def known_app() -> Any:
    """The current app; None if the process has none yet."""
    return CurrentApp.app if CurrentApp.app is not None else CurrentApp.default


def get_current_app() -> Any:
    """The current app; makes one named ``default`` if the process has none."""
    if CurrentApp.app is not None:
        return CurrentApp.app
    if CurrentApp.default is None:
        # By name: the module of apps imports this one.
        celery = import_named("streamq.celery.app.base").Celery
        CurrentApp.default = celery("default", set_as_current=False)
    return CurrentApp.default


def get_current_task() -> Any:
    """The task that is running here; None outside of one."""
    running = running_task()
    return running if running is None else getattr(running, "task", running)


def app_or_default(app: Any = None) -> Any:
    """The given app, else the current one."""
    return get_current_app() if app is None else app


class Proxy:
    """An object that stands for another, which is looked up at each use."""

    __slots__ = ("__weakref__", "_find")

    def __init__(self, find: Callable[[], Any]) -> None:
        object.__setattr__(self, "_find", find)

    def _get_current_object(self) -> Any:
        """The object that this one stands for now."""
        return object.__getattribute__(self, "_find")()

    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        return self._get_current_object().__dict__

    def __getattr__(self, name: str) -> Any:
        return getattr(self._get_current_object(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._get_current_object(), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._get_current_object(), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._get_current_object()(*args, **kwargs)

    def __enter__(self) -> Any:
        return self._get_current_object().__enter__()

    def __exit__(self, *error: Any) -> Any:
        return self._get_current_object().__exit__(*error)

    def __bool__(self) -> bool:
        return bool(self._get_current_object())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Proxy):
            other = other._get_current_object()
        return bool(self._get_current_object() == other)

    def __hash__(self) -> int:
        return hash(self._get_current_object())

    def __dir__(self) -> list[str]:
        return dir(self._get_current_object())

    def __reduce__(self) -> Any:
        """Pickle the proxy: there it stands for what is current there."""
        return type(self), (object.__getattribute__(self, "_find"),)

    def __repr__(self) -> str:
        return repr(self._get_current_object())


current_app: Any = Proxy(get_current_app)
current_task: Any = Proxy(get_current_task)
