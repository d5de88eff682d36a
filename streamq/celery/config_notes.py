"""What a worker's banner says of Celery's settings: its defaults, and what has no effect."""

import difflib
from collections.abc import Iterable
from typing import Any, Protocol

from streamq.celery.config_names import DEFAULTS
from streamq.config.settings import SETTINGS

#: The width of a line, and that of the words before it.
WIDTH, LABEL = 76, 8
#: How much a name must be like a setting to be taken for a mistake; 1 is the same.
ALIKE = 0.88

#: Settings that are none of streamq, and have an effect all the same.
USED = frozenset(
    {"broker_use_ssl", "imports", "task_queue_max_priority", "task_queues", "broker_transport"}
    | {"beat_schedule", "beat_scheduler", "beat_cron_starting_deadline", "task_default_rate_limit"}
)


class Settings(Protocol):
    """What is asked of the settings."""

    def origin(self, name: str) -> str: ...
    def is_effective(self, name: str) -> bool: ...
    def unknown(self) -> list[tuple[str, str]]: ...
    def __getitem__(self, name: str) -> Any: ...


def notes_of(conf: Settings) -> list[str]:
    """The lines: defaults of Celery that count, settings that do nothing, schedules."""
    return [
        *lines("celery", defaults(conf), " · "),
        *lines("unused", sorted(name for name in DEFAULTS if is_unused(conf, name)), ", "),
        *lines("unknown", likely_mistakes(conf), ", "),
        *lines("limits", limits(conf), ", "),
        *lines("beat", schedules(conf), ", "),
    ]


def defaults(conf: Settings) -> list[str]:
    """Celery's defaults that nothing has changed."""
    said = {
        "acks_late": "ack early (Celery's default; acks_late=True is streamq's)",
        "task_time_limit": "no time limit (streamq's is 1h)",
        "task_default_queue": "queue celery (streamq's is default)",
    }
    found = [words for name, words in said.items() if conf.origin(name) == "default"]
    return [*found, "state PENDING for what waits or is unknown"]


def is_unused(conf: Settings, name: str) -> bool:
    """Whether a setting was given, not as its default, and means nothing here."""
    if name in USED or conf.is_effective(name) or conf.origin(name) == "default":
        return False
    return bool(conf[name] != DEFAULTS[name])


def likely_mistakes(conf: Settings) -> list[str]:
    """Names that nobody knows, and that are nearly those of settings."""
    found: list[str] = []
    for written, name in conf.unknown():
        near = difflib.get_close_matches(name, [*SETTINGS, *DEFAULTS], n=1, cutoff=ALIKE)
        found += [f"{written} (is {near[0]} meant?)"] if near else []
    return found


def limits(conf: Settings) -> list[str]:
    """A rate limit, which no task keeps."""
    limited = conf["task_default_rate_limit"]
    return ["rate limits are not in this version: task_default_rate_limit"] if limited else []


def schedules(conf: Settings) -> list[str]:
    """Schedules of another kind, which nobody fires."""
    scheduler = conf["beat_scheduler"]
    if scheduler != DEFAULTS["beat_scheduler"]:
        return [f"not fired: the schedules of {scheduler}; streamq schedules add"]
    return []


def lines(label: str, parts: Iterable[str], separator: str) -> list[str]:
    """Write parts behind a label, as many lines as they need; no part is broken."""
    found: list[str] = []
    for part in parts:
        if found and len(found[-1]) + len(separator) + len(part) <= WIDTH:
            found[-1] += separator + part
        else:
            if found:
                found[-1] += separator.rstrip(" ·")
            found.append((" " * LABEL if found else label.ljust(LABEL)) + part)
    return found
