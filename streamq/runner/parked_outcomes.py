"""Parked outcomes: they could not be settled, and are tried again later."""

import logging
from collections import deque
from collections.abc import Iterable

from streamq.core.outcome import Outcome
from streamq.host import clock

logger = logging.getLogger("streamq.worker")

#: Seconds after which a parked outcome is tried again.
RETRY_PARKED = 30.0


class ParkedOutcomes:
    """The outcomes that could not be settled, because a key that they need is of the wrong type."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[float, Outcome]] = deque()
        #: The reasons that were logged since anything was parked.
        self.logged: set[str] = set()

    def __len__(self) -> int:
        return len(self.waiting)

    @property
    def outcomes(self) -> list[Outcome]:
        """The outcomes that are parked."""
        return [outcome for _, outcome in self.waiting]

    def put(self, outcomes: Iterable[Outcome], reason: str) -> None:
        """Park outcomes for ``RETRY_PARKED`` seconds; log the reason once."""
        again = clock.monotonic() + RETRY_PARKED
        self.waiting += [(again, outcome) for outcome in outcomes]
        if reason not in self.logged:
            self.logged.add(reason)
            logger.error("outcomes cannot be settled, and are tried again: %s", reason)

    def due(self) -> list[Outcome]:
        """Take out the outcomes that are to be tried again now."""
        now, found = clock.monotonic(), []
        while self.waiting and self.waiting[0][0] <= now:
            found.append(self.waiting.popleft()[1])
        return found

    def reset_log(self) -> None:
        """Log reasons anew from now on, if nothing is parked."""
        if not self.waiting:
            self.logged.clear()
