"""Periodic tasks as Celery's users declare them: entries of ``beat_schedule``."""

from collections.abc import Callable, Mapping, Sequence

from streamq.core.text import nearest, shown
from streamq.core.ticks import LONGEST_NAME
from streamq.errors import ConfigError
from streamq.producer.scheduling import Schedule
from streamq.routing import FORBIDDEN

#: The keys of an entry; ``relative`` changes nothing: intervals are counted from the epoch.
KEYS = ("task", "schedule", "args", "kwargs", "options", "relative")

#: What makes a schedule: ``Schedules.make``.
Make = Callable[..., Schedule]


def schedules_of(entries: object, make: Make) -> list[Schedule]:
    """The schedules of ``beat_schedule``.  Raises ConfigError for one that is wrong."""
    if not isinstance(entries, Mapping):
        raise ConfigError(f"beat_schedule maps names to entries, not {shown(entries)}")
    return [schedule_of(str(name), entry, make) for name, entry in entries.items()]


def schedule_of(name: str, entry: object, make: Make) -> Schedule:
    """The schedule of one entry of ``beat_schedule``."""
    if not isinstance(entry, Mapping):
        raise ConfigError(f"beat_schedule: {name} is {shown(entry)}, not a mapping")
    for key in entry:
        if key not in KEYS:
            near = nearest(str(key), KEYS)
            raise ConfigError(
                f"beat_schedule: {name} has the key {key!r}, which means nothing",
                known={"keys": ", ".join(KEYS)},
                advice=[f"did you mean {near}?"] if near else [],
            )
    for key in ("task", "schedule"):
        if key not in entry:
            raise ConfigError(f"beat_schedule: {name} has no {key}")
    args, kwargs = entry.get("args") or (), entry.get("kwargs") or {}
    options = entry.get("options") or {}
    for key, value in (("kwargs", kwargs), ("options", options)):
        if not isinstance(value, Mapping):
            raise ConfigError(f"beat_schedule: {key} of {name} is {shown(value)}, not a mapping")
    if not isinstance(args, Sequence) or isinstance(args, str | bytes):
        raise ConfigError(f"beat_schedule: args of {name} is {shown(args)}, not a tuple or a list")
    return make(usable(name), entry["task"], entry["schedule"], args, kwargs, **options)


def usable(name: str) -> str:
    """The name of an entry as a schedule may have it: what names cannot hold becomes ``-``."""
    kept = "".join("-" if char in FORBIDDEN or char < " " else char for char in name)
    return kept.encode()[:LONGEST_NAME].decode(errors="ignore") or "-"
