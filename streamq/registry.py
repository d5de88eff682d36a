"""Which task has which name, and where tasks are found."""

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from streamq.errors import ConfigError, TaskNotFound
from streamq.tasks import Task
from streamq.units import count, nearest


class Registry(Mapping[str, Task[..., Any]]):
    """The tasks of an app by name."""

    def __init__(self) -> None:
        self.tasks: dict[str, Task[..., Any]] = {}

    def add(self, task: Task[..., Any]) -> None:
        """Register a task.  Raises ConfigError if another function has that name."""
        known = self.tasks.get(task.name)
        if known is not None and not same_function(known, task):
            raise ConfigError(
                f"two tasks are named {task.name!r}",
                known={"one": place(known), "other": place(task)},
                advice=["give one of them a name: @app.task(name=…)"],
            )
        self.tasks[task.name] = task

    def __getitem__(self, name: str) -> Task[..., Any]:
        """The task of this name; TaskNotFound, naming the nearest, if there is none."""
        try:
            return self.tasks[name]
        except KeyError:
            raise self.missing(name) from None

    def missing(self, name: str) -> TaskNotFound:
        """Say that a task is not here, and which may have been meant."""
        hint = nearest(name, list(self.tasks))
        modules = sorted({task.function.__module__ for task in self.tasks.values()})
        registered = f"{count(len(self.tasks), 'task')} from {', '.join(modules) or 'nowhere'}"
        return TaskNotFound(
            f"no task named {name!r}",
            known={"registered": registered},
            advice=[f"did you mean {hint!r}?"]
            if hint
            else ["import the module that defines it: -I MODULE, or include=[…]"],
        )

    def __contains__(self, name: object) -> bool:
        return name in self.tasks

    def __iter__(self) -> Iterator[str]:
        return iter(self.tasks)

    def __len__(self) -> int:
        return len(self.tasks)


#: How the names of files begin whose lines say nothing about a mistake in a user's module.
MACHINERY = ("<frozen", *(f"{Path(file).parent}/" for file in (__file__, importlib.__file__)))


def same_function(one: Task[..., Any], other: Task[..., Any]) -> bool:
    """Whether both are the same code, loaded again (``__main__`` and its module, a reload)."""
    a, b = one.function.__code__, other.function.__code__
    return (a.co_filename, a.co_firstlineno) == (b.co_filename, b.co_firstlineno)


def place(task: Task[..., Any]) -> str:
    """Where a task is defined."""
    code = task.function.__code__
    return f"{code.co_filename}:{code.co_firstlineno}"


def task_name(function: Any) -> str:
    """``module.qualname``; for a script that is run, the module is the file's stem."""
    module = function.__module__
    if module == "__main__":
        file = getattr(sys.modules["__main__"], "__file__", None)
        module = Path(file).stem if file else "__main__"
    return f"{module}.{function.__qualname__}"


def import_modules(names: tuple[str, ...]) -> None:
    """Import the modules that define tasks; ConfigError says which one failed, and why."""
    for name in names:
        if name.startswith("."):
            raise ConfigError(f"cannot import {name!r}: name the module in full, as in shop.tasks")
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
                raise broken(name, error) from error
            raise ConfigError(
                f"cannot import {name!r}: no module named {error.name!r}",
                advice=["check include=[…] or -I, and the folder the worker is started in"],
            ) from error
        except ConfigError as error:
            say_where(error)
            raise
        except (Exception, SystemExit) as error:  # a module that is a script may end itself
            raise broken(name, error) from error


def broken(name: str, error: BaseException) -> ConfigError:
    """Say that a module of the user's fails while it is imported, and where."""
    return ConfigError(
        f"importing {name!r} failed: {type(error).__name__}: {error}",
        known={"at": place_of(error)},
        advice=["-v shows the whole traceback"],
    )


def say_where(error: ConfigError) -> None:
    """Let an error about a declaration in a module say where that stands."""
    if not error.in_code:
        return
    what, *rest = str(error).split("\n")
    fact = f"  at  {place_of(error)}"
    if fact.strip() != "at" and not any(line.startswith("  at ") for line in rest):
        error.args = ("\n".join([what, fact, *rest]),)


def place_of(error: BaseException) -> str:
    """The innermost line of an import that is neither ours nor the machinery's; '' if none."""
    if isinstance(error, SyntaxError) and error.filename:  # that line was never run
        return f"{error.filename}:{error.lineno}"
    place, frame = "", error.__traceback__
    while frame is not None:
        file = frame.tb_frame.f_code.co_filename
        if not file.startswith(MACHINERY):
            place = f"{file}:{frame.tb_lineno}"
        frame = frame.tb_next
    return place


def import_related(packages: list[str], related: str) -> None:
    """Import ``PACKAGE.related`` wherever there is one, as autodiscovery does."""
    for package in packages:
        importlib.import_module(package)
        name = f"{package}.{related}"
        if importlib.util.find_spec(name) is not None:
            importlib.import_module(name)
