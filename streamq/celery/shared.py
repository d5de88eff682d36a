"""Shared tasks: tasks of every app of the process, also of those made later.

``shared_task`` makes no app: its task is made when it is first used, for the app that is current
then, and for every app whose tasks are needed.
"""

from collections.abc import Callable
from typing import Any

from streamq.celery.current import CurrentApp, Proxy, celery_apps, get_current_app, known_app

#: Registers a shared task with an app, unless the app has it.
MakeTask = Callable[[Any], Any]

#: The makers of all shared tasks of the process, the oldest first.  A function that is defined
#: again, as by a reload of its module, takes the place of the one before.
makers: dict[Any, MakeTask] = {}


def share(key: Any, make: MakeTask) -> None:
    """Share a task with all apps: now with those whose tasks were needed already, else then."""
    makers[key] = make
    for app in list(celery_apps):
        if app.finalized:
            make(app)


class OfFunction(str):
    """The module or docstring of a shared task: that of its function."""

    __slots__ = ("name",)
    name: str

    @classmethod
    def attribute(cls, name: str) -> "OfFunction":
        """Make the attribute of this name; the class itself has its own."""
        found = cls(getattr(SharedTask, name))
        found.name = name
        return found

    def __get__(self, task: Any, owner: Any = None) -> Any:
        return self if task is None else getattr(task._function, self.name)


class SharedTask(Proxy):
    """A function that is a task of each app: it stands for that of the current one."""

    __slots__ = ("_function", "_last", "_options")
    _function: Callable[..., Any]
    _options: dict[str, Any]
    #: The app that was current at the last use, and its task.
    _last: tuple[Any, Any]

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        put = object.__setattr__  # others set attributes of the task
        put(self, "_function", function)
        put(self, "_options", options)
        put(self, "_last", (None, None))

    def _make(self, app: Any) -> Any:
        """The task of an app; it is registered if the app does not have it."""
        return app._task_from_fun(self._function, **self._options)

    def _get_current_object(self) -> Any:
        """The task of the current app."""
        app, task = self._last
        current = CurrentApp.app or get_current_app()
        if current is not app:
            app, task = current, self._make(current)
            object.__setattr__(self, "_last", (app, task))
        return app.tasks.tasks.get(task.name, task)

    def __getattr__(self, name: str) -> Any:
        # Looking at a module must make no app: a function tells these of itself.
        if name == "__wrapped__" and known_app() is None:
            return self._function
        if name[:2] == "__" and (name in OF_FUNCTION or known_app() is None):
            return getattr(self._function, name)
        return getattr(self._get_current_object(), name)

    # What is used most: Python finds it without the way over ``__getattr__``.

    @property
    def delay(self) -> Any:
        """The method ``delay`` of the task."""
        return self._get_current_object().delay

    @property
    def apply_async(self) -> Any:
        """The method ``apply_async`` of the task."""
        return self._get_current_object().apply_async

    @property
    def __class__(self) -> Any:
        return type(self) if known_app() is None else type(self._get_current_object())

    @__class__.setter
    def __class__(self, other: Any) -> None:
        raise TypeError("the class of a shared task cannot be changed")

    def __reduce__(self) -> Any:
        """Pickle the task by reference, as functions are."""
        return self._function.__qualname__

    def __repr__(self) -> str:
        if known_app() is None:
            return f"<shared task {self.__qualname__}>"
        return repr(self._get_current_object())


#: Attributes that are the function's, whatever the app.
OF_FUNCTION = frozenset({"__name__", "__qualname__", "__annotations__"})


for _name in ("__doc__", "__module__"):
    type.__setattr__(SharedTask, _name, OfFunction.attribute(_name))


def shared_task(*args: Any, **options: Any) -> Any:
    """Make a function a task of every app: ``@shared_task`` or ``@shared_task(queue="mail")``.

    Options are those of ``app.task``.  Makes no app, and needs none until the task is used.
    """

    def make(function: Callable[..., Any]) -> Any:
        task = SharedTask(function, options)
        key = (function.__module__, function.__qualname__, options.get("name"))
        share(key, task._make)
        return task

    if len(args) == 1 and callable(args[0]):
        return make(args[0])
    if args:
        raise TypeError("shared_task takes a function, or options by name")
    return make
