"""Watching over the other workers: what a dead one held is taken over."""

import logging
import time
from collections.abc import Collection

from streamq.store.connection import Refused
from streamq.store.recovery import Case, Leases, Recovered, Recovery
from streamq.worker.identity import died_here, node_of
from streamq.worker.view import Others, View

logger = logging.getLogger("streamq.worker")

#: Seconds after the end of a lease when it is looked at.
GRACE = 0.1


class Vigil:
    """Looks at the lease table, and recovers what the dead have left."""

    def __init__(self, recovery: Recovery, *, lease: float) -> None:
        self.recovery = recovery
        self.lease = lease
        self.view = View(lease)
        self.others = Others(lease)
        self.moment = 0.0
        self.taken_over = 0

    def begin(self) -> None:
        """Take over from a predecessor on this machine whose processes are gone, at once."""
        leases = self.survey()
        for consumer in leases.deadlines:
            if died_here(consumer):
                self.take_over(consumer, leases, "its process is gone")

    def look(self, ours: Collection[str]) -> None:
        """Look at the others, if it is time to; ``ours`` are the consumers of this worker."""
        if time.monotonic() < self.moment:
            return
        leases = self.survey()
        now = time.monotonic()
        ended = self.others.look(
            {name: end for name, end in leases.deadlines.items() if name not in ours},
            server=leases.now,
            now=now,
            behind=self.view.take_behind(),
        )
        if self.view.clear(now):
            for consumer in ended:
                self.take_over(consumer, leases, "its lease ran out")
            for consumer in leases.orphans:
                if consumer not in ours:
                    self.take_over(consumer, leases, "it had no lease")
        soon = self.others.next_end(server=leases.now) + GRACE
        self.moment = time.monotonic() + min(self.lease / 3, soon)

    def survey(self) -> Leases:
        sent = time.monotonic()
        leases = self.recovery.survey()
        self.view.saw(leases.now, sent=sent, now=time.monotonic())
        return leases

    def broke(self) -> None:
        """Redis is away: whatever has run out meanwhile proves nothing."""
        self.view.broke()
        self.moment = 0.0

    def take_over(self, consumer: str, leases: Leases, why: str) -> None:
        """Recover what a consumer held that is dead.

        Nobody knows what it was running, so all that it held is suspected.
        """
        orphan = consumer not in leases.deadlines
        case = Case(
            consumer=consumer,
            reason=f"worker {node_of(consumer)} died while it ran the task: {why}",
            charge="none" if orphan else "suspects",
            running=None,
            deadline=leases.deadlines.get(consumer, "none"),
            expect=self.view.time(time.monotonic()),
        )
        try:
            found = self.recovery.recover(case)
        except Refused as error:
            logger.error("taking over from %s failed, and is tried again: %s", consumer, error)
            return
        if found is not None:
            self.report(consumer, found, why)

    def report(self, consumer: str, found: Recovered, why: str) -> None:
        """Say what was taken over."""
        self.taken_over += found.moved + found.lost + found.buried + found.isolated
        level = logging.WARNING if self.taken_over else logging.INFO
        logger.log(
            level,
            "%s is dead, %s; %d handed back, %d failed as WorkerLost, %d dead-lettered, "
            "%d to be run alone",
            *(consumer, why, found.moved, found.lost, found.buried, found.isolated),
        )
