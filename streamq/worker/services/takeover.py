"""Watching over the other workers: what a dead one held is taken over."""

import logging
from collections.abc import Collection, Mapping

from streamq.broker.recovery import Case, Leases, Recovered, Recovery
from streamq.broker.worker_names import Nodes
from streamq.host import clock
from streamq.transport.keys import node_of
from streamq.transport.replies import Refused
from streamq.worker.identity import died_here
from streamq.worker.lease_view import Others, Views
from streamq.worker.services.heartbeat import is_up

logger = logging.getLogger("streamq.worker")

#: Seconds after the end of a lease when it is looked at.
GRACE = 0.1
#: Seconds between two looks at most: who has a longer lease than others must see theirs.
SELDOM = 5.0
#: The part of our own lease for which others are taken over from without a renewal between.
PART = 1 / 6


class Vigil:
    """Looks at the lease table, and recovers what the dead have left."""

    def __init__(self, recovery: Recovery, *, lease: float) -> None:
        self.recovery = recovery
        self.lease = lease
        self.views = Views(lease)
        self.others = Others()
        self.moment = 0.0
        #: Those of the lease table whose processes on this machine are gone.
        self.predecessors: set[str] = set()

    def begin(self) -> None:
        """Take over from a predecessor on this machine whose processes are gone, at once.

        If only a runner is gone, its supervisor knows what it was running.
        """
        leases = self.survey()
        gone = {consumer for consumer in leases.table if died_here(consumer)}
        nodes = Nodes(self.recovery.client, self.recovery.keys)
        alone = {node for node in set(map(node_of, gone)) if not is_up(node, nodes)}
        self.predecessors = {consumer for consumer in gone if node_of(consumer) in alone}
        self.take_over_all(self.found_gone(leases), leases)

    def look(self, ours: Collection[str]) -> None:
        """Look at the others, if it is time to; ``ours`` are the consumers of this worker."""
        if clock.monotonic() < self.moment:
            return
        self.moment = clock.monotonic() + self.often  # if it fails
        leases = self.survey()
        dead = {**self.found_dead(leases, ours), **self.found_gone(leases)}
        if self.take_over_all(dead, leases):
            soon = self.others.next_end(server=leases.now) + GRACE
            self.moment = clock.monotonic() + min(self.often, soon)
        else:
            self.moment = 0.0

    def found_dead(self, leases: Leases, ours: Collection[str]) -> dict[str, str]:
        """The consumers that may be judged dead now, and why."""
        now = clock.monotonic()
        others = {name: lease for name, lease in leases.table.items() if name not in ours}
        dead = {
            consumer: "its lease ran out"
            for consumer in self.others.look(others, server=leases.now, now=now)
            if self.views.of[others[consumer].length].clear(now)
        }
        if self.views.own.clear(now):
            orphans = [consumer for consumer in leases.orphans if consumer not in ours]
            dead.update(dict.fromkeys(orphans, "it had no lease"))
        return dead

    def found_gone(self, leases: Leases) -> dict[str, str]:
        """The predecessors that are still in the lease table."""
        gone = self.predecessors & leases.table.keys()
        return dict.fromkeys(gone, "its process is gone")

    def take_over_all(self, dead: Mapping[str, str], leases: Leases) -> bool:
        """Take over from as many as there is time for; whether those were all."""
        end = clock.monotonic() + self.lease * PART
        for number, (consumer, why) in enumerate(dead.items(), 1):
            self.take_over(consumer, leases, why)
            if clock.monotonic() > end:
                return number == len(dead)
        return True

    @property
    def often(self) -> float:
        """Seconds between two looks: a third of the shortest lease that anybody has."""
        return max(GRACE, min(self.views.shortest / 3, SELDOM))

    def survey(self) -> Leases:
        sent = clock.monotonic()
        leases = self.recovery.survey(self.often)
        self.views.heed({lease.length for lease in leases.table.values()})
        self.views.saw(leases.now, sent=sent, now=clock.monotonic())
        return leases

    def broke(self) -> None:
        """Redis is away: whatever has run out meanwhile proves nothing."""
        self.views.broke()
        self.moment = 0.0

    def take_over(self, consumer: str, leases: Leases, why: str) -> None:
        """Recover what a consumer held that is dead.

        Nobody knows what it was running, so all that it held is suspected.
        """
        lease = leases.table.get(consumer)
        case = Case(
            consumer=consumer,
            reason=f"worker {node_of(consumer)} died while it ran the task: {why}",
            charge="suspects" if lease else "none",
            running=None,
            deadline=lease.deadline if lease else "none",
            expect=self.views.own.time(clock.monotonic()),
            tolerance=(lease.length if lease else self.lease) / 3,
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
        costs = (found.moved, found.lost, found.buried, found.isolated)
        logger.log(
            logging.WARNING if any(costs) else logging.INFO,
            "%s is dead, %s; %d handed back, %d failed as WorkerLost, %d dead-lettered, "
            "%d to be run alone",
            *(consumer, why, *costs),
        )
