"""Due messages: scheduled messages are moved to their queues when they are due.

There is no leader.  Each supervisor knows when the next message is due and moves what is; one
that comes second finds nothing.  Until then no supervisor asks Redis: a notice says when a message
is scheduled before all others.
"""

import logging
from random import SystemRandom

from streamq.broker.scheduled import BUDGET, Promoted, ScheduledMessages
from streamq.host import clock
from streamq.transport.replies import Refused

logger = logging.getLogger("streamq.worker")

#: Seconds between two moves at least: what falls due meanwhile is moved together.
GATHER = 0.01
#: Calls in a row: other services wait for them.
IN_A_ROW = 10
#: Seconds by which workers are spread, so that not all of them come at once.
SPREAD = 0.01
#: Seconds until a move that was refused is tried again: only a person can help.
PAUSE = 5.0


class DueMessages:
    """The service that moves due messages; ``moment`` is the next time, in monotonic seconds."""

    def __init__(self, scheduled: ScheduledMessages) -> None:
        self.scheduled = scheduled
        self.moment = float("inf")
        self.spread = SystemRandom().uniform(0, SPREAD)
        #: Nothing is moved before that.
        self.earliest = 0.0

    def set_next(self, due: float | None, server: float) -> None:
        """Set when the next message is due, as Redis says; None if nothing is scheduled.

        ``server`` is the time now; both are seconds of the server.
        """
        wait = float("inf") if due is None else max(0.0, due - server)
        self.moment = max(self.earliest, clock.monotonic() + wait + self.spread)

    def on_notice(self, due: float, server: float) -> None:
        """Note that a message is due then, perhaps before all that are known; as above."""
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
        self.set_next(found.due, found.now)
        if found.moved < BUDGET:
            self.moment = max(self.moment, clock.monotonic() + GATHER)

    def promote(self) -> Promoted:
        """Move some of what is due; return what the last call found."""
        for _ in range(IN_A_ROW):
            found = self.scheduled.promote()
            for name, why in found.failed.items():
                logger.error("%s is due and cannot be moved; it is tried again: %s", name, why)
            if found.moved < BUDGET:
                break
        return found
