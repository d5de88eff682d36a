"""Retry policies: whether a task is tried again, and after how many seconds.

The formulas are Celery's, so that tasks which move from there keep their pauses: the pause
before the n-th retry (from 0) is ``min(backoff_max, backoff * 2 ** n)``, and with jitter a
whole number of seconds chosen evenly from 0 to that.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from streamq.core.backoff import Backoff
from streamq.core.names import type_name

#: Never retried automatically: a task raises these to decide what follows its message.
DIRECTIVES = ("streamq.errors.Retry", "streamq.errors.Reject", "streamq.errors.Ignore")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """A retry policy: how often and after which pauses a task is tried again.

    ``max_retries`` None means for ever.  ``autoretry_for`` and ``dont_autoretry_for`` are
    dotted names of exception classes; subclasses count.  ``delay`` is the default pause in
    seconds, ``backoff`` the first one where pauses grow; 0 means that they do not.
    """

    max_retries: int | None = 3
    delay: float = 180.0
    autoretry_for: frozenset[str] = frozenset()
    dont_autoretry_for: frozenset[str] = frozenset()
    backoff: float = 0.0
    backoff_max: float = 600.0
    jitter: bool = True
    #: Arguments of the retries that ``autoretry_for`` makes (``retry_kwargs``).
    details: Mapping[str, Any] = field(default_factory=dict)

    def changed(self, options: Mapping[str, Any]) -> Self:
        """Return the policy with these task options applied."""
        found = {NAMES[name]: value for name, value in options.items() if name in NAMES}
        return replace(self, **found) if found else self

    def wants(self, error: BaseException) -> bool:
        """Whether a task that raised this is retried automatically."""
        if not self.autoretry_for:
            return False
        names = ancestors(type(error))
        if not names.isdisjoint(DIRECTIVES) or not names.isdisjoint(self.dont_autoretry_for):
            return False
        return not names.isdisjoint(self.autoretry_for)

    def allows(self, retries: int) -> bool:
        """Whether a task with so many retries may be tried once more."""
        return self.max_retries is None or retries < self.max_retries

    def pause(self, retries: int, chance: float) -> float:
        """Seconds before the next try; ``chance`` is in [0, 1)."""
        if not self.backoff:
            return self.delay
        whole = Backoff(first=int(max(1.0, self.backoff)), longest=int(self.backoff_max))
        pause = whole.pause(retries)
        return float(int(chance * (pause + 1))) if self.jitter else pause


#: Task options, and the fields of the policy that they set.
NAMES = {
    "max_retries": "max_retries",
    "default_retry_delay": "delay",
    "autoretry_for": "autoretry_for",
    "dont_autoretry_for": "dont_autoretry_for",
    "retry_backoff": "backoff",
    "retry_backoff_max": "backoff_max",
    "retry_jitter": "jitter",
    "retry_kwargs": "details",
}


def ancestors(cls: type) -> frozenset[str]:
    """The dotted names of a class and of all that it inherits from."""
    return frozenset(map(type_name, cls.__mro__))


def class_names(classes: Iterable[type]) -> frozenset[str]:
    """The dotted names of exception classes: a message carries them without importing any."""
    return frozenset(map(type_name, classes))
