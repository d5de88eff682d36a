"""Lazy settings: objects are read when a setting is first needed, some of them at each access.

A ``Config`` is a plain object.  One whose objects are still to be read has for that time a class
made here, whose attributes read them first; then it gets its own class back, so that a setting
costs what an attribute costs.
"""

from contextvars import ContextVar
from functools import cache
from typing import Any

from streamq.config.objects import MISSING

#: Settings that are read from their object at each access: tests flip them.
LIVE = ("task_always_eager", "task_eager_propagates")

#: Methods and properties that change settings, or say that they changed: they read no object.
CHANGING = frozenset({"update", "unset", "with_flags", "add_object", "changes"})

#: The configurations whose objects this thread is reading.
reading: "ContextVar[tuple[Any, ...]]" = ContextVar("reading", default=())


@cache
def unread(cls: type) -> type:
    """The class of a configuration with objects that are still to be read."""

    def attribute(config: Any, name: str) -> Any:
        if not name.startswith("_") and name not in CHANGING:
            read_objects(config)
        return object.__getattribute__(config, name)

    added = {"__getattribute__": attribute, "_plain": cls, "_is_unread": True}
    return type(cls.__name__, (cls,), added)


@cache
def live(cls: type) -> type:
    """The class of a configuration with objects, whose ``LIVE`` settings are properties."""
    properties = {name: property(reader(name)) for name in LIVE}
    return type(cls.__name__, (cls,), {**properties, "_plain": cls})


def reader(name: str) -> Any:
    """The getter of a setting: from the objects, unless a layer above them sets it."""

    def read(config: Any) -> Any:
        state = config.__dict__
        if name not in state["_above"]:
            for each in state["_live"].get(name, ()):
                value = each.value()
                if value is True or value is False:
                    return value
                if value is not MISSING:
                    return config._truth(name, value, each)
        return state[name]

    return read


def read_objects(config: Any) -> None:
    """Read the objects of a configuration, unless this thread is doing so.

    A second thread reads them too, instead of waiting: what it imports is locked by Python, and
    it finds the same values.
    """
    if any(each is config for each in reading.get()):
        return  # an object that is being read needs a setting itself
    token = reading.set((*reading.get(), config))
    try:
        config._read_objects()
    finally:
        reading.reset(token)


def plain(cls: type) -> type:
    """The class without what is made here."""
    found: type = getattr(cls, "_plain", cls)
    return found
