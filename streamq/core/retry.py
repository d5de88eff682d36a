"""When a task is tried again, and after how long: decided here, done elsewhere.

The formulas are Celery's, so that tasks which come from there keep their rhythm: the pause
before the n-th retry (from 0) is ``min(backoff_max, backoff * 2 ** n)``, and with jitter a
whole number of seconds chosen evenly from 0 to that.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from streamq.core.names import type_name

#: Never tried again by themselves: a task raises these to say how its message goes on.
DIRECTIVES = ("streamq.errors.Retry", "streamq.errors.Reject", "streamq.errors.Ignore")

#: Beyond this exponent every pause is at its ceiling; larger powers only cost memory.
HIGHEST_POWER = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How a task is tried again.

    ``max_retries`` None means for ever.  ``autoretry_for`` and ``dont_autoretry_for`` are
    dotted names of exception classes; subclasses count.  ``delay`` is the pause where
    nothing else is asked for, ``backoff`` its beginning where it grows, 0 for not at all.
    """

    max_retries: int | None = 3
    delay: float = 180.0
    autoretry_for: frozenset[str] = frozenset()
    dont_autoretry_for: frozenset[str] = frozenset()
    backoff: float = 0.0
    backoff_max: float = 600.0
    jitter: bool = True

    def changed(self, options: Mapping[str, Any]) -> Self:
        """The same with what these task options say."""
        found = {NAMES[name]: value for name, value in options.items() if name in NAMES}
        return replace(self, **found) if found else self

    def wants(self, error: BaseException) -> bool:
        """Whether a task that raised this is tried again by itself."""
        if not self.autoretry_for:
            return False
        names = ancestors(type(error))
        if not names.isdisjoint(DIRECTIVES) or not names.isdisjoint(self.dont_autoretry_for):
            return False
        return not names.isdisjoint(self.autoretry_for)

    def allows(self, retries: int) -> bool:
        """Whether a task that was tried again so often may be tried once more."""
        return self.max_retries is None or retries < self.max_retries

    def pause(self, retries: int, chance: float) -> float:
        """Seconds before the next try; ``chance`` is in [0, 1)."""
        if not self.backoff:
            return self.delay
        power = 2 ** min(retries, HIGHEST_POWER)
        pause = min(int(self.backoff_max), int(max(1.0, self.backoff)) * power)
        return float(int(chance * (pause + 1))) if self.jitter else float(pause)


#: Task options, and the fields of the policy that they set.
NAMES = {
    "max_retries": "max_retries",
    "default_retry_delay": "delay",
    "autoretry_for": "autoretry_for",
    "dont_autoretry_for": "dont_autoretry_for",
    "retry_backoff": "backoff",
    "retry_backoff_max": "backoff_max",
    "retry_jitter": "jitter",
}


def ancestors(cls: type) -> frozenset[str]:
    """The dotted names of a class and of all that it inherits from."""
    return frozenset(map(type_name, cls.__mro__))


def class_names(classes: Iterable[type]) -> frozenset[str]:
    """The dotted names of exception classes: a message can carry them, and chooses none."""
    return frozenset(map(type_name, classes))
