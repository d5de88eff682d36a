"""When the next message for later is due, and moving what is.

No worker leads: each knows when the next one is due and moves what is; who comes second
finds nothing.  While nothing is due nobody asks: a new first message rings the bell.
"""

import logging
from random import SystemRandom

from streamq.broker.recovery import BUDGET, Promoted, Recovery
from streamq.host import clock
from streamq.transport.replies import Refused

logger = logging.getLogger("streamq.worker")

#: Seconds between two moves at least: what falls due meanwhile is moved together.
GATHER = 0.01
#: Calls in a row: other duties wait for them.
IN_A_ROW = 10
#: Seconds by which workers are spread, so that not all of them come at once.
SPREAD = 0.01
#: Seconds until a move that was refused is tried again: only a person can help.
PAUSE = 5.0


class Timetable:
    """The moment, by our monotonic clock, of the next message that is due."""

    def __init__(self, recovery: Recovery) -> None:
        self.recovery = recovery
        self.moment = float("inf")
        self.spread = SystemRandom().uniform(0, SPREAD)
        #: Nothing is moved before that.
        self.earliest = 0.0

    def learn(self, due: float | None, server: float) -> None:
        """What Redis said: the next is due then, and it is so late (seconds of the server)."""
        wait = float("inf") if due is None else max(0.0, due - server)
        self.moment = max(self.earliest, clock.monotonic() + wait + self.spread)

    def hear(self, due: float, server: float) -> None:
        """There is a message that is due then, perhaps before all that we know of."""
        wait = max(0.0, due - server)
        moment = max(self.earliest, clock.monotonic() + wait + self.spread)
        self.moment = min(self.moment, moment)

    def move(self) -> None:
        """Move what is due, if anything is."""
        if clock.monotonic() < self.moment:
            return
        try:
            found = self.promote()
        except Refused:
            self.moment = self.earliest = clock.monotonic() + PAUSE
            raise
        self.learn(found.due, found.now)
        if found.moved < BUDGET:
            self.moment = max(self.moment, clock.monotonic() + GATHER)

    def promote(self) -> Promoted:
        """Move some of what is due; return what the last call found."""
        for _ in range(IN_A_ROW):
            found = self.recovery.promote()
            for name, why in found.failed.items():
                logger.error("%s is due and cannot be moved; it is tried again: %s", name, why)
            if found.moved < BUDGET:
                break
        return found
