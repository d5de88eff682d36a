"""Objects of settings: what ``config_from_object`` is given, and how it is read."""

from collections.abc import Iterator
from functools import cached_property
from types import ModuleType
from typing import Any

from streamq.config.importing import NoSuchModule, failed, import_named
from streamq.core.text import nearest, shown
from streamq.errors import ConfigError

#: Not there, where None is a value.
MISSING: Any = object()

CHECK = "check config_from_object(…), and the folder the program is started in"
FORMS = '"package.module", "package.module:attribute", a module, a class, an object or a mapping'


class SettingsObject:
    """A module, class, object or mapping with settings; or the text that names it.

    Nothing is imported before a setting is read.  With a ``namespace`` such as "CELERY", only
    names that begin with ``CELERY_`` are settings.  With ``silent``, its module need not exist.
    Raises ConfigError if ``given`` is nothing of that kind.
    """

    def __init__(
        self, given: object, namespace: str | None = None, *, silent: bool = False
    ) -> None:
        if not isinstance(namespace, str | None):
            raise ConfigError(f"namespace must be text, not {shown(namespace)}")
        plain = given is None or isinstance(given, int | float | bytes | list | tuple | set)
        if plain or (isinstance(given, str) and not given.strip(" :.")):
            raise ConfigError(
                f"config_from_object cannot read {shown(given)}", advice=[f"give it {FORMS}"]
            )
        self.given, self.silent = given, silent
        self.prefix = f"{namespace.upper().removesuffix('_')}_" if namespace else ""

    @property
    def origin(self) -> str:
        """The source of its values, for people."""
        given: Any = self.given
        if isinstance(given, str):
            return given
        if isinstance(given, ModuleType):
            return given.__name__
        cls = given if isinstance(given, type) else type(given)
        return f"config_from_object({cls.__qualname__})"

    @cached_property
    def target(self) -> Any:
        """The object itself.  Raises ConfigError if it is not there or its module fails."""
        if not isinstance(self.given, str):
            return self.given
        name, colon, path = self.given.strip().partition(":")
        if colon:
            return attribute_of(import_named(name, CHECK), path)
        try:
            return import_named(name, CHECK)
        except NoSuchModule as error:
            parent, dot, last = name.rpartition(".")
            if not dot:
                raise
            try:
                module = import_named(parent, CHECK)
            except NoSuchModule:
                raise error from None
            if hasattr(module, "__path__") and not hasattr(module, last):
                raise
            return attribute_of(module, last)

    @property
    def is_mapping(self) -> bool:
        """Whether its settings are items, not attributes."""
        return not isinstance(self.target, type) and hasattr(type(self.target), "keys")

    @property
    def is_complete(self) -> bool:
        """Whether its module has been run to the end; names may be missing until then."""
        module = self.target if isinstance(self.target, ModuleType) else None
        return not getattr(getattr(module, "__spec__", None), "_initializing", False)

    def names(self) -> list[str]:
        """The names in the object.  Raises ConfigError if it cannot tell them."""
        try:
            found = list(self.target.keys()) if self.is_mapping else dir(self.target)
        except ConfigError:
            raise
        except Exception as error:
            raise failed(f"reading the settings of {self.origin}", error) from error
        return [name for name in found if isinstance(name, str) and not name.startswith("_")]

    def read(self, name: str) -> Any:
        """The value of a name now; MISSING if there is none.  Raises ConfigError if it fails."""
        try:
            if self.is_mapping:
                there = name in self.target
                return self.target[name] if there else MISSING
            return getattr(self.target, name, MISSING)
        except ConfigError:
            raise
        except Exception as error:
            raise failed(f"reading {name} of {self.origin}", error) from error

    def below(self) -> Iterator[tuple[str, str]]:
        """Yield the names that begin with the prefix: as they are, and without it in lower case."""
        for name in self.names():
            if name.startswith(self.prefix) and name != self.prefix:
                yield name, name.removeprefix(self.prefix).lower()

    def live(self, names: tuple[str, ...]) -> "LiveSetting":
        """The value of the first of ``names`` that the object has, at each access."""
        return LiveSetting(self, names)


def attribute_of(module: ModuleType, path: str) -> Any:
    """The attribute of a module, also of one of its attributes.  Raises ConfigError if missing."""
    found: Any = module
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            near = nearest(name, dir(found))
            raise ConfigError(
                f"{module.__name__} has no {path!r} to read settings from",
                advice=[f"did you mean {near!r}?" if near else CHECK],
            ) from None
    return found


class LiveSetting:
    """A setting whose value in an object is read at each access.

    Django's settings are an object of that kind: tests flip them.
    """

    __slots__ = ("attributes", "found", "holder", "names", "settled", "source")

    def __init__(self, source: SettingsObject, names: tuple[str, ...]) -> None:
        self.source, self.names = source, names
        self.settled = settled(source.target)
        self.attributes = not source.is_mapping
        if self.settled is not None:
            self.holder = object.__getattribute__(source.target, "__dict__")
            self.found = vars(self.settled)

    def value(self) -> Any:
        """The value now; MISSING if the object has none of the names."""
        if self.settled is not None and self.holder["_wrapped"] is self.settled:
            # Asking Django for a name that is not there takes five times as long.
            for name in self.names:
                if name in self.found:
                    return self.found[name]
            return MISSING
        target = self.source.target
        for name in self.names:
            if self.attributes:
                value = getattr(target, name, MISSING)
                if value is not MISSING:
                    return value
            elif name in target:
                return target[name]
        return MISSING


def settled(target: Any) -> Any:
    """The object that holds all of Django's settings, while no test overrides one; else None."""
    if type(target).__name__ != "LazySettings":
        return None
    wrapped = vars(target).get("_wrapped")
    below = vars(wrapped).get("default_settings") if hasattr(wrapped, "__dict__") else target
    return wrapped if below is None or isinstance(below, ModuleType) else None
