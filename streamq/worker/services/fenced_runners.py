"""Fenced runners: those whose lease was lost, or that cannot reach Redis, are stopped."""

import logging
from collections.abc import Sequence

from streamq.broker.leases import Renewal
from streamq.host import clock
from streamq.runner.signals import FINISH
from streamq.worker.lease_view import JUDGE_AFTER, LeaseView
from streamq.worker.processes import RunnerProcess, RunnerProcesses
from streamq.worker.services.crash_recovery import CrashRecovery
from streamq.worker.services.service import Service

logger = logging.getLogger("streamq.worker")


class FencedRunners(Service):
    """The service that stops the runners of this worker that can settle nothing more.

    All it does, it does when a renewal has said who is fenced.  A runner that is stopped has
    ``shutdown_timeout`` seconds to end.
    """

    def __init__(
        self,
        processes: RunnerProcesses,
        crash_recovery: CrashRecovery,
        view: LeaseView,
        *,
        shutdown_timeout: float,
    ) -> None:
        self.processes = processes
        self.crash_recovery = crash_recovery
        self.view = view
        self.shutdown_timeout = shutdown_timeout

    def on_renewal(self, news: Renewal) -> None:
        """Stop the runners that are fenced, and kill those that are cut off."""
        children = list(self.processes.children.values())
        self.replace_cut_off(children)
        for child in children:
            if child.consumer not in news.consumers:
                continue
            if child.consumer not in news.fenced:
                child.leased = True
            elif child.leased:  # else it is only starting
                self.stop_fenced(child)

    def replace_cut_off(self, children: Sequence[RunnerProcess]) -> None:
        """Kill runners that cannot reach Redis while we can: they may lack a descriptor."""
        limit = JUDGE_AFTER * self.view.lease
        if not self.view.is_reliable(clock.monotonic()):
            return
        for child in children:
            if child.slots.unreachable > limit and not child.kill_reason:
                logger.error("runner %d cannot reach Redis, but we can; it is replaced", child.pid)
                child.kill("it could not reach Redis, but its worker could")

    def stop_fenced(self, child: RunnerProcess) -> None:
        """Stop a runner that was fenced.

        What its tasks return is dropped: they get as long to end as when the worker stops.
        """
        now = clock.monotonic()
        if child.fenced_at is None:
            child.fenced_at = now
            self.crash_recovery.fenced += 1
            logger.warning("runner %d was fenced meanwhile; it stops", child.pid)
        if now - child.fenced_at > self.shutdown_timeout:
            child.kill("it had been fenced")
        else:
            child.signal(FINISH)
