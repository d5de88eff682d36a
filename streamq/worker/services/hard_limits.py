"""Ending tasks that run too long or were revoked, and saying how they ended.

A runner can be ended at any moment, but only for the task that it is running then: it is
stopped first, looked at, and then ended or let go.
"""

import contextlib
import logging
import signal
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from streamq.broker.recovery import Recovery
from streamq.core.delivery import Delivery
from streamq.core.outcome import Outcome
from streamq.execution.executor import Execution
from streamq.execution.task_log import TaskLog
from streamq.host import clock
from streamq.runner import signals as interrupts
from streamq.runner.shared_memory import Occupied
from streamq.worker.processes import Child, stands_still
from streamq.worker.services.revocations import Run

logger = logging.getLogger("streamq.worker")

#: Seconds that a process with many tasks has to end one by itself; and a task that was
#: revoked, or a signal that somebody chose.
GRACE = 1.0
#: Seconds that one look waits for runners to stand still: leases are renewed between two.
BUDGET = 0.25
#: Seconds ahead for which limits are told: the supervisor looks again well before.
SOON = 1.0
#: After as many tries in vain a runner is ended wherever it stands.
TRIES = 3
#: Seconds after which a read that should have ended by itself shows that its runner is stuck.
STUCK = 15.0

OVERDUE, TERMINATED = "overdue", "terminated"


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a task ends whose runner is ended for it."""

    stream: str
    entry: bytes
    kind: str


@dataclass(slots=True)
class Request:
    """A task that is to end, and until when it may do so by itself."""

    child: Child
    run: Occupied
    until: float
    kind: str = TERMINATED
    #: How often its runner was looked at to be ended.
    tries: int = 0


class Verdicts:
    """Looks at what runs, and ends what must not run on."""

    def __init__(self, recovery: Recovery, execution: Execution) -> None:
        self.recovery = recovery
        self.execution = execution
        self.requests: list[Request] = []
        self.log = TaskLog()

    def look(self, children: Sequence[Child]) -> None:
        """End what is over its hard limit, and what did not stop when it was asked to."""
        known = self.known_overdue()
        for child in [child for child in children if not child.ended]:
            self.requests += [
                Request(child, run, 0.0, OVERDUE)
                for run in child.slots.running(past=patience_with(child))
                if run_of(child, run) not in known
            ]
            if child.slots.reading > STUCK:
                logger.error("runner %d is stuck, and is replaced", child.pid)
                child.end("it was stuck")
        self.insist({child.pid for child in children})

    def insist(self, pids: Collection[int]) -> None:
        """End what did not stop in its time; a process may take several tries to stand still.

        One that never does, in a debugger or on a crowded machine, does not keep the others
        from being ended, nor the supervisor from its other duties.
        """
        self.requests = [
            each
            for each in self.requests
            if each.child.pid in pids and not each.child.ended and still_runs(each.child, each.run)
        ]
        began = clock.monotonic()
        for request in self.requests:
            if clock.monotonic() - began > BUDGET:
                break
            if request.until <= clock.monotonic() and not request.child.ended:
                request.tries += 1
                anyway = request.tries >= TRIES
                self.end(request.child, request.run, request.kind, anyway=anyway)
                request.until = clock.monotonic() + GRACE

    def known_overdue(self) -> set[Run]:
        """What is over its hard limit, and was seen to be."""
        return {run_of(each.child, each.run) for each in self.requests if each.kind == OVERDUE}

    def next_moment(self, children: Sequence[Child]) -> float:
        """When, in monotonic seconds, something must be looked at again, if it is ``SOON``."""
        now, known = clock.monotonic(), self.known_overdue()
        moments = [request.until for request in self.requests]
        for child in children:
            moments += [
                now + max(0.0, patience_with(child) - run.overdue)
                for run in child.slots.running(past=patience_with(child) - SOON)
                if not child.ended and run_of(child, run) not in known
            ]
        return min(moments, default=float("inf"))

    def end(self, child: Child, run: Occupied, kind: str, *, anyway: bool = False) -> None:
        """End the runner, if it still runs this; else let it go on."""
        with held(child, run, anyway=anyway) as same:
            if same:
                logger.warning("runner %d is ended: its task is %s", child.pid, kind)
                self.note(child, run, kind)
                child.end(f"its task was {kind}")

    def note(self, child: Child, run: Occupied, kind: str) -> None:
        """Note how a task ends if its runner does while it runs it."""
        child.verdicts.append(Verdict(child.streams[run.stream], run.entry, kind))

    def stop(self, child: Child, run: Occupied, name: str, title: str) -> None:
        """Interrupt a task; a chosen signal goes to its process, if it has one for itself."""
        logger.info("%s is terminated", title)
        self.requests.append(Request(child, run, clock.monotonic() + GRACE))
        if name == "SIGKILL" and child.sequential:
            self.end(child, run, TERMINATED)
            return
        child.slots.ask_to_stop(run.slot, run.started)
        if name == "SIGTERM" or not child.sequential:
            child.signal(interrupts.STOP)
            return
        with held(child, run) as same:
            if same:
                self.note(child, run, TERMINATED)
                child.signal(signal.Signals[name])

    def settle(self, consumer: str, verdicts: Sequence[Verdict]) -> int:
        """Settle the tasks for which a runner was ended, in its name; return how many."""
        places = [(consumer, (verdict.stream, verdict.entry)) for verdict in verdicts]
        found = self.recovery.deliveries(places)
        outcomes = [
            self.outcome(delivery, verdict.kind)
            for delivery, verdict in zip(found, verdicts, strict=True)
            if delivery is not None
        ]
        if outcomes:
            self.recovery.settle(consumer, outcomes)
        for outcome in outcomes:
            self.log.ended(outcome)
        return len(outcomes)

    def outcome(self, delivery: Delivery, kind: str) -> Outcome:
        """How the task ends."""
        early = delivery.early
        self.execution.admit(delivery)
        delivery.early = early
        endings = self.execution.endings
        if kind == TERMINATED:
            return endings.revoked(delivery, b"terminated")
        if delivery.manner is None:
            return endings.unknown(delivery)
        return endings.overdue(delivery, delivery.hard)


@contextlib.contextmanager
def held(child: Child, run: Occupied, *, anyway: bool = False) -> Iterator[bool]:
    """Let a runner stand still for a block; tell whether it does, and still runs this.

    One that waits in the kernel, and cannot stop there, meets our signal before it runs
    another line: it stands still as well.  With ``anyway`` it need not be seen to.
    """
    child.signal(signal.SIGSTOP)
    try:
        yield (stands_still(child.pid, "TD") or anyway) and still_runs(child, run)
    finally:
        child.signal(signal.SIGCONT)


def patience_with(child: Child) -> float:
    """Seconds that a task has after its hard limit to end by itself."""
    return 0.0 if child.sequential else GRACE


def run_of(child: Child, run: Occupied) -> Run:
    """What tells this run from every other."""
    return child.pid, run.slot, run.started


def still_runs(child: Child, run: Occupied) -> bool:
    """Whether a slot holds the same run."""
    return any(now.slot == run.slot and now.started == run.started for now in child.slots.running())
