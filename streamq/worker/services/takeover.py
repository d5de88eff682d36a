"""Takeover: what a dead worker's consumers held is moved by another worker."""

import logging
from collections.abc import Collection, Iterator, Mapping

from streamq.broker.leases import Leases, LeaseTable
from streamq.broker.recovery import (
    Recovery,
    RecoveryRequest,
    RecoveryResult,
    recover_in_steps,
)
from streamq.broker.worker_names import WorkerNames
from streamq.host import clock
from streamq.transport.keys import node_of
from streamq.transport.replies import Refused
from streamq.worker.identity import died_here
from streamq.worker.lease_view import ForeignLeases, LeaseViews
from streamq.worker.processes import RunnerProcesses
from streamq.worker.services.crash_recovery import CrashRecovery
from streamq.worker.services.heartbeat import is_up
from streamq.worker.services.service import Service

logger = logging.getLogger("streamq.worker")

#: Seconds after the end of a lease when the lease table is read.
GRACE = 0.1
#: Seconds between two reads at most: a worker with a long lease must see that of others end.
LONGEST_INTERVAL = 5.0


class Takeover(Service):
    """The service that reads the lease table, and recovers what dead consumers held."""

    moment = 0.0

    def __init__(
        self,
        leases: Leases,
        recovery: Recovery,
        views: LeaseViews,
        processes: RunnerProcesses,
        crash_recovery: CrashRecovery,
    ) -> None:
        self.leases = leases
        self.recovery = recovery
        self.views = views
        self.processes = processes
        self.crash_recovery = crash_recovery
        self.others = ForeignLeases()
        #: The rest of a recovery that has begun, and for which there was no time.
        self.rest: Iterator[None] = iter(())
        #: The consumers of the lease table whose processes on this machine are gone.
        self.predecessors: set[str] = set()

    def begin(self) -> None:
        """Take over at once from a worker that ran on this machine and whose processes are gone.

        If only a runner is gone, its supervisor knows what it was running.
        """
        leases = self.list_leases()
        gone = {consumer for consumer in leases.table if died_here(consumer)}
        names = WorkerNames(self.recovery.client, self.recovery.keys)
        stopped = {node for node in set(map(node_of, gone)) if not is_up(node, names)}
        self.predecessors = {consumer for consumer in gone if node_of(consumer) in stopped}
        self.take_over_all(self.remaining_predecessors(leases), leases)

    def run(self) -> None:
        """Take over from dead consumers of other workers."""
        ours = {child.consumer for child in self.processes.children.values()}
        self.check(ours.union(self.crash_recovery.consumers()))

    def check(self, ours: Collection[str]) -> None:
        """Take over from dead consumers, if it is time to; ``ours`` are those of this worker."""
        if clock.monotonic() < self.moment:
            return
        if not self.go_on():
            return
        self.moment = clock.monotonic() + self.interval  # if it fails
        leases = self.list_leases()
        dead = {**self.find_dead(leases, ours), **self.remaining_predecessors(leases)}
        if self.take_over_all(dead, leases):
            next_end = self.others.next_end(server=leases.now) + GRACE
            self.moment = clock.monotonic() + min(self.interval, next_end)
        else:
            self.moment = 0.0

    def find_dead(self, leases: LeaseTable, ours: Collection[str]) -> dict[str, str]:
        """The consumers that are dead by what is known now, and why."""
        now = clock.monotonic()
        others = {name: lease for name, lease in leases.table.items() if name not in ours}
        dead = {
            consumer: "its lease ran out"
            for consumer in self.others.update(others, server=leases.now, now=now)
            if self.views.by_length[others[consumer].length].is_reliable(now)
        }
        if self.views.own.is_reliable(now):
            orphans = [consumer for consumer in leases.orphans if consumer not in ours]
            dead.update(dict.fromkeys(orphans, "it had no lease"))
        return dead

    def remaining_predecessors(self, leases: LeaseTable) -> dict[str, str]:
        """The predecessors that are still in the lease table, and why they are dead."""
        gone = self.predecessors & leases.table.keys()
        return dict.fromkeys(gone, "its process is gone")

    def take_over_all(self, dead: Mapping[str, str], leases: LeaseTable) -> bool:
        """Take over from as many as there is time for; return whether those were all."""
        for number, (consumer, why) in enumerate(dead.items(), 1):
            self.rest = self.take_over(consumer, leases, why)
            if not self.go_on():
                return False
            if self.time_is_up():
                return number == len(dead)
        return True

    def go_on(self) -> bool:
        """Go on with the recovery that has begun, while there is time; return whether it ended."""
        return all(not self.time_is_up() for _ in self.rest)

    @property
    def interval(self) -> float:
        """Seconds between two reads: a third of the shortest lease in the table."""
        return max(GRACE, min(self.views.shortest / 3, LONGEST_INTERVAL))

    def list_leases(self) -> LeaseTable:
        """Read the lease table, and bring the views up to date."""
        sent = clock.monotonic()
        leases = self.leases.list_leases(self.interval)
        self.views.set_lengths({lease.length for lease in leases.table.values()})
        self.views.record_answer(leases.now, sent=sent, now=clock.monotonic())
        return leases

    def on_disconnect(self) -> None:
        """Note that Redis is unavailable: a lease that runs out meanwhile proves nothing."""
        self.views.reset()
        self.moment = 0.0

    def take_over(self, consumer: str, leases: LeaseTable, why: str) -> Iterator[None]:
        """Recover what a dead consumer held; in portions.

        Nobody knows what it was running, so all that it held is suspected.
        """
        lease = leases.table.get(consumer)
        request = RecoveryRequest(
            consumer=consumer,
            reason=f"worker {node_of(consumer)} died while it ran the task: {why}",
            blame="suspected" if lease else "none",
            running=None,
            deadline=lease.deadline if lease else "none",
            expect=self.views.own.server_time(clock.monotonic()),
            tolerance=(lease.length if lease else self.views.own.lease) / 3,
        )
        try:
            result = yield from recover_in_steps(self.recovery, request)
        except Refused as error:
            logger.error("taking over from %s failed, and is tried again: %s", consumer, error)
            return
        if result is not None:
            self.report(consumer, result, why)

    def report(self, consumer: str, result: RecoveryResult, why: str) -> None:
        """Log what was taken over."""
        logger.log(
            logging.WARNING if any(result.counts) else logging.INFO,
            "%s is dead, %s; %d handed back, %d failed as WorkerLost, %d dead-lettered, "
            "%d quarantined",
            *(consumer, why, *result.counts),
        )
