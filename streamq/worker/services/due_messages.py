"""Due messages: scheduled messages are moved to their queues when they are due.

There is no leader.  Each supervisor knows when the next message is due and moves what is; one
that comes second finds nothing.  Until then no supervisor asks Redis: a notice says when a message
is scheduled before all others.
"""

import logging
from collections.abc import Sequence
from random import SystemRandom

from streamq.broker.leases import Renewal
from streamq.broker.scheduled import BUDGET, Promoted, ScheduledMessages
from streamq.host import clock
from streamq.transport.replies import Refused
from streamq.worker.lease_view import LeaseView
from streamq.worker.services.service import Service

logger = logging.getLogger("streamq.worker")

#: Seconds between two moves at least: what falls due meanwhile is moved together.
GATHER = 0.01
#: Calls in a row: other services wait for them.
IN_A_ROW = 10
#: Seconds by which workers are spread, so that not all of them come at once.
SPREAD = 0.01
#: Seconds until a move that was refused is tried again: only a person can help.
PAUSE = 5.0


class DueMessages(Service):
    """The service that moves due messages; ``view`` knows the time of the server."""

    def __init__(self, scheduled: ScheduledMessages, view: LeaseView) -> None:
        self.scheduled = scheduled
        self.view = view
        self.spread = SystemRandom().uniform(0, SPREAD)
        #: Nothing is moved before that.
        self.earliest = 0.0

    def on_renewal(self, news: Renewal) -> None:
        """Take over when the next message is due."""
        self.set_next(news.due, news.now)

    def on_notice(self, words: Sequence[str]) -> None:
        """Take note that a message is due before all others: ``due MILLISECONDS``."""
        match words:
            case ["due", moment] if moment.isdecimal():
                server = self.view.server_time(clock.monotonic())
                self.add_due(float(moment) / 1000, server)

    def set_next(self, due: float | None, server: float) -> None:
        """Set when the next message is due, as Redis says; None if nothing is scheduled.

        ``server`` is the time now; both are seconds of the server.
        """
        wait = float("inf") if due is None else max(0.0, due - server)
        self.moment = max(self.earliest, clock.monotonic() + wait + self.spread)

    def add_due(self, due: float, server: float) -> None:
        """Note that a message is due then, perhaps before all that are known; as above."""
        wait = max(0.0, due - server)
        moment = max(self.earliest, clock.monotonic() + wait + self.spread)
        self.moment = min(self.moment, moment)

    def run(self) -> None:
        """Move what is due."""
        self.move()

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
            if found.moved < BUDGET or self.time_is_up():
                break
        return found
