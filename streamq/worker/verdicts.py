"""Ending tasks that run too long or were revoked, and saying how they ended.

A runner can be ended at any moment, but only for the task that it is running then: it is
stopped first, looked at, and then ended or let go.
"""

import logging
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass

from streamq.delivery import Delivery, Outcome
from streamq.execution import Execution
from streamq.result import ENDING
from streamq.runner import interrupts
from streamq.runner.slots import Occupied
from streamq.store.recovery import Recovery
from streamq.worker.children import Child, stands_still

logger = logging.getLogger("streamq.worker")

#: Seconds that a process with many tasks has to end one by itself; and a task that was
#: revoked, or a signal that somebody chose.
GRACE = 1.0
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
    """A task that was asked to stop, and until when it may do so by itself."""

    child: Child
    run: Occupied
    until: float


class Verdicts:
    """Looks at what runs, and ends what must not run on."""

    def __init__(self, recovery: Recovery, execution: Execution) -> None:
        self.recovery = recovery
        self.execution = execution
        self.requests: list[Request] = []
        self.heeded: dict[tuple[str, str], float] = {}

    def look(self, children: Sequence[Child]) -> None:
        """End what is over its hard limit, and what did not stop when it was asked to."""
        for child in children:
            patience = 0.0 if child.sequential else GRACE
            for run in child.slots.running():
                if run.overdue >= patience and not child.ended:
                    self.end(child, run, OVERDUE)
            if child.slots.reading > STUCK and not child.ended:
                logger.error("runner %d is stuck, and is replaced", child.pid)
                child.ended = True
                child.signal(signal.SIGKILL)
        now = time.monotonic()
        late = [request for request in self.requests if request.until <= now]
        self.requests = [request for request in self.requests if request.until > now]
        for request in late:
            self.end(request.child, request.run, TERMINATED)

    def next_moment(self, children: Sequence[Child]) -> float:
        """When, in monotonic seconds, something must be looked at again."""
        now = time.monotonic()
        moments = [request.until for request in self.requests]
        for child in children:
            patience = 0.0 if child.sequential else GRACE
            moments += [
                now + max(0.0, patience - run.overdue)
                for run in child.slots.running()
                if run.limit and not child.ended
            ]
        return min(moments, default=float("inf"))

    def end(self, child: Child, run: Occupied, kind: str) -> None:
        """End the runner, if it still runs this; else let it go on."""
        child.signal(signal.SIGSTOP)
        if stands_still(child.pid) and still_runs(child, run):
            stream = child.streams[run.stream]
            logger.warning("runner %d is ended: its task is %s", child.pid, kind)
            child.ended = True
            child.verdicts.append(Verdict(stream, run.entry, kind))
            child.signal(signal.SIGKILL)
        child.signal(signal.SIGCONT)

    def terminate(self, name: str, id: str, children: Sequence[Child]) -> None:
        """Stop this task if it runs here, with the signal of this name."""
        if (name, id) in self.heeded or name not in ENDING:
            return
        for child in children:
            runs = child.slots.running()
            places = [(child.streams[run.stream], run.entry) for run in runs]
            found = self.recovery.deliveries(child.consumer, places)
            for run, delivery in zip(runs, found, strict=True):
                if delivery is not None and delivery.id.decode(errors="replace") == id:
                    self.heeded[name, id] = time.monotonic()
                    logger.info("%s is terminated", id)
                    self.stop(child, run, name)

    def stop(self, child: Child, run: Occupied, name: str) -> None:
        """Interrupt a task; a chosen signal goes to its process, if it has one for itself."""
        self.requests.append(Request(child, run, time.monotonic() + GRACE))
        if name == "SIGKILL" and child.sequential:
            self.end(child, run, TERMINATED)
        elif name == "SIGTERM" or not child.sequential:
            child.slots.ask_to_stop(run.slot, run.started)
            child.signal(interrupts.STOP)
        else:
            stream = child.streams[run.stream]
            child.verdicts.append(Verdict(stream, run.entry, TERMINATED))
            child.signal(signal.Signals[name])

    def forget(self) -> None:
        """Forget requests that nobody repeats any more."""
        before = time.monotonic() - 600
        self.heeded = {key: moment for key, moment in self.heeded.items() if moment > before}

    def settle(self, consumer: str, verdicts: Sequence[Verdict]) -> int:
        """Settle the tasks for which a runner was ended, in its name; return how many."""
        places = [(verdict.stream, verdict.entry) for verdict in verdicts]
        found = self.recovery.deliveries(consumer, places)
        outcomes = [
            self.outcome(delivery, verdict.kind)
            for delivery, verdict in zip(found, verdicts, strict=True)
            if delivery is not None
        ]
        if outcomes:
            self.recovery.settle(consumer, outcomes)
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


def still_runs(child: Child, run: Occupied) -> bool:
    """Whether a slot holds the same run."""
    return any(now.slot == run.slot and now.started == run.started for now in child.slots.running())
