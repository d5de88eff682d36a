"""Classes of tasks: a task of a class of the user's, with the options that the class sets."""

from collections.abc import Callable, Mapping
from typing import Any, cast

from streamq.core.options import DECORATOR_OPTIONS, checked
from streamq.errors import ConfigError
from streamq.producer.registry import task_name
from streamq.routing import check_name
from streamq.tasks import Sender, Task


def class_options(cls: type[Task[..., Any]]) -> dict[str, Any]:
    """The options that a class of tasks sets as attributes, with those that it inherits."""
    own = cls.__mro__[: cls.__mro__.index(Task)]
    return {
        name: value
        for base in reversed(own)
        for name, value in vars(base).items()
        if name in DECORATOR_OPTIONS and not hasattr(type(value), "__get__")
    }


def make_task(
    cls: Any,
    function: Callable[..., Any],
    sender: Sender,
    options: Mapping[str, Any],
    task: Any = None,
) -> Task[..., Any]:
    """Make a task of this class; ``options`` win over those of the class.

    ``task`` was made before of the same function: it becomes one of this class.  Raises ConfigError
    for an unknown option, or what is no class of tasks.
    """
    check_class(cls)
    of_class = class_options(cls)
    own_options = checked({**of_class, **options}, decorator=True)
    name = check_name(own_options.get("name") or task_name(function), "task name")
    if task is None:
        task = cls.__new__(cls)
    else:
        task.__class__ = cls
    Task.__init__(task, function, name, sender, own_options)
    for option in options.keys() & of_class.keys():  # else the class's own would be read
        vars(task)[option] = options[option]
    if cls.__init__ is not Task.__init__:
        cls.__init__(task)
    return cast(Task[..., Any], task)


def check_class(cls: Any) -> None:
    """Raise ConfigError for what is no class of tasks."""
    if isinstance(cls, type) and issubclass(cls, Task):
        return
    raise ConfigError(
        f"{cls!r} is no class of tasks",
        known={"given as": "base= of the task, or app.task_class"},
        advice=["class Base(streamq.Task): …"],
    )
