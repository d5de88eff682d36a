"""The registry: the tasks of an app by name, and the discovery of modules with tasks."""

import gc
import importlib
import logging
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Self

from streamq.config.config import environment
from streamq.config.importing import NoSuchModule, failed, import_named
from streamq.core.functions import check_has_name
from streamq.core.text import count, nearest
from streamq.core.units import text, texts
from streamq.errors import ConfigError, TaskNotFound
from streamq.host.modules import module_of
from streamq.producer.definitions import Definition, ModuleRun, difference, is_shared
from streamq.tasks import Task

logger = logging.getLogger("streamq")


class Registry(Mapping[str, Task[..., Any]]):
    """The tasks of an app by name."""

    def __init__(self) -> None:
        #: The tasks registered so far; the registry itself first imports what is to be discovered.
        self.tasks: dict[str, Task[..., Any]] = {}
        self.runs: dict[str, ModuleRun] = {}
        self.discoveries: list[Discovery] = []

    def add(self, task: Task[..., Any]) -> None:
        """Register a task; it replaces the one of its name if that is defined again.

        Raises ConfigError if another task has that name.
        """
        new, known = Definition(task, ModuleRun.here()), self.tasks.get(task.name)
        if known is not None and known.function is not task.function:
            old = Definition(known, self.runs[task.name])
            places, again = difference(old, new), new.repeats(old)
            if again is None and not is_shared(known):
                held = weakref.ref(known)
                del known, old
                again = self.is_dropped(held, task)
            if not again:
                raise name_taken(task, places)
            logger.warning("task %s is defined again: %s replaces %s", task.name, *places[::-1])
        self.tasks[task.name] = task
        self.runs[task.name] = new.run

    def is_dropped(self, held: "weakref.ref[Task[..., Any]]", task: Task[..., Any]) -> bool:
        """Whether only this registry refers to a task, so that another may take its name."""
        self.tasks[task.name] = task
        gc.collect()  # a task and its calls refer to each other
        known = held()
        if known is not None:
            self.tasks[task.name] = known
        return known is None

    def discover(self) -> None:
        """Import the modules that are still to be discovered.

        Raises ConfigError for one that fails; it is tried again next time.  A second thread
        imports the same modules, and so waits for the first; a module that is imported may
        itself read the registry.
        """
        while self.discoveries:
            left = [each for each in list(self.discoveries) if each not in importing.get()]
            if not left:
                return
            token = importing.set((*importing.get(), left[0]))
            try:
                left[0].run()
            finally:
                importing.reset(token)
            with suppress(ValueError):  # another thread has removed it
                self.discoveries.remove(left[0])

    def __getitem__(self, name: str) -> Task[..., Any]:
        """The task of this name.  Raises TaskNotFound, with the nearest name."""
        self.discover()
        try:
            return self.tasks[name]
        except KeyError:
            raise self.missing(name) from None

    def missing(self, name: str) -> TaskNotFound:
        """Make the TaskNotFound of a name, with the nearest name."""
        hint = nearest(name, list(self.tasks))
        modules = sorted({module_of(task.function) or "a prompt" for task in self.tasks.values()})
        registered = f"{count(len(self.tasks), 'task')} from {', '.join(modules) or 'nowhere'}"
        return TaskNotFound(
            f"no task named {name!r}",
            known={"registered": registered},
            advice=[f"did you mean {hint!r}?"]
            if hint
            else ["import the module that defines it: -I MODULE, or include=[…]"],
        )

    def __contains__(self, name: object) -> bool:
        self.discover()
        return name in self.tasks

    def __iter__(self) -> Iterator[str]:
        self.discover()
        return iter(self.tasks)

    def __len__(self) -> int:
        self.discover()
        return len(self.tasks)


class NameTaken(ConfigError):
    """A task with the name of another task."""


def name_taken(task: Task[..., Any], places: tuple[str, str]) -> NameTaken:
    """Make the error of a name that has a task already."""
    advice = ["give one of them a name: @app.task(name=…)"]
    if "<locals>" in getattr(task.function, "__qualname__", ""):
        advice.append("or let the decorator that is around them use functools.wraps")
    one, other = places
    return NameTaken(
        f"two tasks are named {task.name!r}", known={"one": one, "other": other}, advice=advice
    )


def task_name(function: Any) -> str:
    """Make the default name: ``module.qualname``, with the module's name in a worker.

    Raises ConfigError for an object that has no name of its own.
    """
    check_has_name(function)
    return f"{module_of(function) or function.__module__}.{function.__qualname__}"


def import_modules(names: Iterable[str]) -> None:
    """Import modules that define tasks.  Raises ConfigError for the first that fails."""
    for name in names:
        import_named(name)


# ── discovery ────────────────────────────────────────────────────────────────────────

#: The discoveries that this thread is running.
importing: "ContextVar[tuple[Discovery, ...]]" = ContextVar("importing", default=())

#: Packages with tasks, a function that returns them later, or None for the apps of Django.
Packages = Iterable[str] | Callable[[], Iterable[str]] | None


@dataclass(frozen=True, slots=True)
class Discovery:
    """One call of ``autodiscover_tasks``: where to look for modules with tasks."""

    packages: tuple[str, ...] | Callable[[], Iterable[str]]
    related: str | None

    @classmethod
    def of(cls, packages: Packages, related: str | None) -> Self:
        """Check the arguments of ``autodiscover_tasks``.  Raises ConfigError if they are wrong."""
        if related is not None:
            text(related, "related_name")
        if packages is None:
            return cls(django_apps, related)
        return cls(packages if callable(packages) else names_of(packages), related)

    def run(self) -> None:
        """Import the modules that exist.  Raises ConfigError for one that fails."""
        if self.packages is not django_apps:
            set_up_if_of_django()
        import_related(self.named(), self.related)

    def named(self) -> tuple[str, ...]:
        """The packages; a function that returns them is called now."""
        if not callable(self.packages):
            return self.packages
        try:
            return names_of(self.packages())
        except ConfigError:
            raise
        except (Exception, SystemExit) as error:
            raise failed("asking for the packages of autodiscover_tasks", error) from error


def names_of(packages: Any) -> tuple[str, ...]:
    """Read the names of packages, also from a generator."""
    known = isinstance(packages, str | list | tuple | set | frozenset)
    return texts(
        packages if known or not isinstance(packages, Iterable) else [*packages], "packages"
    )


def import_related(packages: Iterable[str], related: str | None) -> None:
    """Import ``PACKAGE.related`` where it exists; with None, only the packages."""
    for name in packages:
        package = import_package(name)
        if related and hasattr(package, "__path__"):  # nothing is below a plain module
            with suppress(NoSuchModule):
                import_named(f"{package.__name__}.{related}")


def import_package(name: str) -> ModuleType:
    """Import a package; for the class of a Django app (``shop.apps.ShopConfig``) its package."""
    try:
        return import_named(name)
    except NoSuchModule:
        parent, _, attribute = name.rpartition(".")
        module = sys.modules.get(parent)
        config = getattr(module, attribute, None)
        if module is None or not isinstance(config, type):
            raise
        return import_named(getattr(config, "name", None) or module.__package__ or parent)


def django_apps() -> list[str]:
    """The names of the apps of this process's Django project, which is set up if needed."""
    conf = sys.modules.get("django.conf")
    if environment("DJANGO_SETTINGS_MODULE") is None and not (conf and conf.settings.configured):
        logger.warning(
            "autodiscover_tasks() without packages looks through the apps of Django, and there "
            "is no DJANGO_SETTINGS_MODULE here: nothing is imported. Name the packages"
        )
        return []
    apps = set_up_django()
    try:
        return [config.name for config in apps.get_app_configs()]
    except (Exception, SystemExit) as error:
        raise failed("setting up Django", error) from error


def is_of_django() -> bool:
    """Whether this process belongs to a Django project, which its tasks need set up."""
    settings = environment("DJANGO_SETTINGS_MODULE")
    if settings is None:
        return False
    with suppress(ImportError, ValueError):
        return all(find_spec(name) for name in ("django", settings.partition(".")[0]))
    return False


def set_up_if_of_django() -> None:
    """Set up Django where this process belongs to a project of it: its tasks may use models."""
    if is_of_django():
        set_up_django()


def set_up_django() -> Any:
    """Set up Django unless it is or is being set up; return its registry of apps."""
    try:
        apps: Any = importlib.import_module("django.apps").apps
        if not apps.apps_ready and not getattr(apps, "loading", False):
            importlib.import_module("django").setup()
        return apps
    except (Exception, SystemExit) as error:
        raise failed("setting up Django", error) from error
