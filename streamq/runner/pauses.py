"""How long to wait before Redis is tried again: all of it, or what it could not settle."""

import logging
from collections import deque
from collections.abc import Iterable

from streamq.core.outcome import Outcome
from streamq.errors import BrokerUnavailable
from streamq.host import clock

logger = logging.getLogger("streamq.worker")

#: Seconds after which what could not be settled is tried again.
ASIDE = 30.0


class Aside:
    """Outcomes that could not be settled because a key that they need holds something else."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[float, Outcome]] = deque()
        self.said: set[str] = set()

    def __len__(self) -> int:
        return len(self.waiting)

    @property
    def outcomes(self) -> list[Outcome]:
        """What waits here."""
        return [outcome for _, outcome in self.waiting]

    def put(self, outcomes: Iterable[Outcome], reason: str) -> None:
        """Keep these for a while; say why, unless that has been said."""
        again = clock.monotonic() + ASIDE
        self.waiting += [(again, outcome) for outcome in outcomes]
        if reason not in self.said:
            self.said.add(reason)
            logger.error("what has ended cannot be settled, and is tried again: %s", reason)

    def due(self) -> list[Outcome]:
        """Take those that are to be tried again now."""
        now, found = clock.monotonic(), []
        while self.waiting and self.waiting[0][0] <= now:
            found.append(self.waiting.popleft()[1])
        return found

    def forget(self) -> None:
        """If nothing waits, what comes next is news again."""
        if not self.waiting:
            self.said.clear()


class Pauses:
    """How long to wait before Redis is tried again, and saying so once."""

    FIRST, LONGEST = 0.05, 1.0

    def __init__(self) -> None:
        self.tries = 0
        self.since = 0.0
        self.away = False

    def next(self, error: Exception) -> float:
        """Seconds to wait after this failure."""
        if not self.tries:
            self.since, self.away = clock.monotonic(), isinstance(error, BrokerUnavailable)
            logger.warning("%s; trying again", str(error).partition("\n")[0])
        self.tries += 1
        return float(min(self.FIRST * 2 ** (self.tries - 1), self.LONGEST))

    def over(self) -> None:
        """Redis works again."""
        if self.tries:
            what = "Redis is back" if self.away else "work goes on"
            logger.warning("%s after %.1f s", what, clock.monotonic() - self.since)
            self.tries = 0
