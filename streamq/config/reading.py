"""The part of a Config that reads objects: ``config_from_object``."""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

from streamq.config.given import GivenValue
from streamq.config.importing import NoSuchModule
from streamq.config.lazy import LIVE, live, plain, read_objects, unread
from streamq.config.objects import MISSING, LiveSetting, SettingsObject
from streamq.config.settings import ALIASES, SETTINGS, is_foreign
from streamq.errors import ConfigError

#: Types of values that settings have; a setting may also be set in Python only, to anything.
PLAIN = (type(None), str, int, float, list, tuple, set, frozenset, timedelta)


class ObjectReader:
    """The settings that come from objects; the base of ``Config``.

    ``_unread`` are the objects that are still to be read, ``_objects`` those that were.
    ``_live`` are the settings that are read from objects at each access, by name, the last
    object first; ``_above`` are those of them that a layer above objects sets.
    """

    _unread: list[SettingsObject]
    _objects: list[SettingsObject]
    _live: dict[str, list[LiveSetting]]
    _above: set[str]
    _changes: int
    _is_unread = False

    def _give(self, layer: str, settings: Iterable[GivenValue]) -> None:
        raise NotImplementedError

    def add_object(
        self, given: object, namespace: str | None = None, *, silent: bool = False
    ) -> None:
        """Read the settings of an object when one is first needed; see ``config_from_object``.

        Objects add up; where two have a setting, that of the later counts.  With ``silent``, a
        module that does not exist is left out.
        """
        state, source = vars(self), SettingsObject(given, namespace, silent=silent)
        state["_unread"] = [*self._unread, source]
        state["_changes"] += 1
        self._await_reading()

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Copy and pickle the values of now; the objects they came from stay here."""
        here = [getattr(self, name) for name in LIVE]
        state = vars(self) | dict(zip(LIVE, here, strict=True))
        state.update(_unread=[], _objects=[], _live={})
        return restored, (plain(type(self)), state)

    def _await_reading(self) -> None:
        """Read objects again before the next setting."""
        self._become(unread(plain(type(self))))

    def _need(self) -> None:
        """Read the objects that are still to be read."""
        if self._is_unread:
            read_objects(self)

    def _become(self, cls: type) -> None:
        object.__setattr__(self, "__class__", cls)

    def _read_objects(self) -> None:
        """Take the settings of the objects that are still to be read, the first first.

        What they change here is the same if two threads do it.
        """
        state = vars(self)
        while given := self._unread:
            found = [source for source in given if self._read_object(source)]
            if not all(source.is_complete for source in found):
                return  # its module imports, just now, who needs a setting
            added = [source for source in found if source not in self._objects]
            state["_objects"] = [*self._objects, *added]
            state["_unread"] = [source for source in self._unread if source not in given]
        state["_live"] = {
            name: [each.live(self._spellings(name, each)) for each in reversed(self._objects)]
            for name in LIVE
        }
        cls = plain(type(self))
        self._become(live(cls) if self._objects else cls)

    def _read_object(self, source: SettingsObject) -> bool:
        """Take the settings of an object; return whether it is there."""
        try:
            found = [each for each in self._of_object(source) if each.value is not MISSING]
            self._give("object", [each for each in found if each.name not in LIVE])
        except NoSuchModule:
            if source.silent:
                return False
            raise
        except ConfigError as error:
            error.in_code = False
            raise
        return True

    def _of_object(self, source: SettingsObject) -> Iterator[GivenValue]:
        """Yield the settings in an object.

        All names below its namespace are settings; without one, an object may have others, such
        as modules it imports, and a mapping names that are not in lower case.
        """
        if source.prefix:
            for written, name in source.below():
                value = source.read(written)
                yield GivenValue(name, value, source.origin, source.prefix, written)
            return
        for name in source.names():
            if name in SETTINGS or name in ALIASES or is_foreign(name):
                value = source.read(name)
                if source.is_mapping or not is_helper(name, value):
                    yield GivenValue(name, value, source.origin)
            elif source.is_mapping and name.islower():
                yield GivenValue(name, source.read(name), source.origin)

    def _spellings(self, name: str, source: SettingsObject) -> tuple[str, ...]:
        """How a setting may be named in an object."""
        return (f"{source.prefix}{name.upper()}" if source.prefix else name,)

    def _live_origin(self, name: str) -> str:
        """The object that has a setting now, if it is read at each access; else ''."""
        for each in () if name in self._above else self._live.get(name, []):
            if each.value() is not MISSING:
                return each.source.origin
        return ""

    def _truth(self, name: str, value: object, where: LiveSetting) -> bool:
        """Read a value that is true or false, and no bool."""
        truth: bool = SETTINGS[name].kind.read(value, f"{where.names[0]} ({where.source.origin})")
        return truth


def is_helper(name: str, value: object) -> bool:
    """Whether a value in a module is none that its setting may have: a module, an app."""
    setting = SETTINGS.get(ALIASES.get(name, name))
    takes_any = setting is None or setting.kind.in_python_only
    return not takes_any and not isinstance(value, PLAIN)


def restored(cls: type, state: dict[str, Any]) -> Any:
    """Make a configuration of its state, when it was copied or unpickled."""
    config: Any = object.__new__(cls)
    vars(config).update(state)
    return config
