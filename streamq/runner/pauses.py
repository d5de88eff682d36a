"""The pauses before Redis is tried again, with the log lines that begin and end an outage."""

import logging

from streamq.core.backoff import Backoff
from streamq.errors import BrokerUnavailable
from streamq.host import clock

logger = logging.getLogger("streamq.worker")


class Pauses:
    """The pauses between attempts to reach Redis: exponential, in seconds; logs begin and end."""

    FIRST, LONGEST = 0.05, 1.0

    def __init__(self) -> None:
        self.backoff = Backoff(self.FIRST, self.LONGEST)
        #: Whether the last attempt has failed; since when attempts fail (monotonic s), and whether
        #: Redis could not be reached.
        self.failing = False
        self.since = 0.0
        self.away = False

    def next(self, error: Exception) -> float:
        """Return the seconds to wait after this failure."""
        if not self.failing:
            self.failing = True
            self.since, self.away = clock.monotonic(), isinstance(error, BrokerUnavailable)
            logger.warning("%s; trying again", str(error).partition("\n")[0])
        return self.backoff.next()

    def reset(self) -> None:
        """Note that Redis has answered: the next pause is the shortest again."""
        if self.failing:
            self.failing = False
            what = "Redis is back" if self.away else "work goes on"
            logger.warning("%s after %.1f s", what, clock.monotonic() - self.since)
            self.backoff.reset()
