"""Hard limits: runners whose task runs too long, or does not stop when revoked, are killed.

The supervisor then settles that task in the runner's name: its forced end.  A runner may be killed
only for the task that it is running at that moment.  So it is suspended first; if it still runs
that task it is killed, else it is continued.
"""

import contextlib
import logging
import signal
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from streamq.broker.recovery import Recovery
from streamq.core.delivery import Delivery
from streamq.core.outcome import Outcome
from streamq.execution.executor import Executor
from streamq.execution.task_log import TaskLog
from streamq.host import clock
from streamq.runner import signals as interrupts
from streamq.runner.shared_memory import RunningTask
from streamq.worker.processes import RunnerProcess, RunnerProcesses, wait_suspended
from streamq.worker.services.revocations import Run
from streamq.worker.services.service import CHECK, Service

logger = logging.getLogger("streamq.worker")

#: Seconds that a process with many tasks has to end one by itself at its limit; and that a task
#: has to end after a request to stop it.
GRACE = 1.0
#: Seconds that one check waits for runners to be suspended: leases are renewed between two.
BUDGET = 0.25
#: Seconds ahead in which limits are foreseen: the supervisor checks again well before.
SOON = 1.0
#: After as many tries a runner is killed though it was not seen to be suspended.
TRIES = 3
#: Seconds after which a read that should have ended by itself shows that its runner is stuck.
STUCK = 15.0

OVERDUE, TERMINATED = "overdue", "terminated"


@dataclass(frozen=True, slots=True)
class ForcedEnd:
    """The forced end of a task: its runner is killed for it, and this is how it is settled."""

    stream: str
    entry: bytes
    kind: str
    #: The signal that a task was to be terminated with.
    signum: int = signal.SIGTERM


@dataclass(slots=True)
class StopRequest:
    """A request to stop a task, and until when the task may end by itself, in monotonic seconds."""

    child: RunnerProcess
    run: RunningTask
    until: float
    kind: str = TERMINATED
    #: The name of the signal to terminate it with.
    name: str = "SIGTERM"
    #: How many tries there were to kill its runner.
    tries: int = 0


class HardLimits(Service):
    """The service that kills runners for tasks over their hard limit, or revoked and running on."""

    needs_redis = False
    moment = 0.0

    def __init__(
        self,
        recovery: Recovery,
        executor: Executor,
        processes: RunnerProcesses,
        on_terminated: Callable[[Delivery, int], None] | None = None,
    ) -> None:
        self.recovery = recovery
        self.executor = executor
        self.processes = processes
        #: Called with a task that was settled as terminated, and the number of the signal.
        self.on_terminated = on_terminated
        self.requests: list[StopRequest] = []
        self.log = TaskLog()

    def run(self) -> None:
        """Look at what the runners are running; again after ``CHECK``, or when a limit passes."""
        children = list(self.processes.children.values())
        self.enforce(children)
        self.moment = min(clock.monotonic() + CHECK, self.next_moment(children))

    def enforce(self, children: Sequence[RunnerProcess]) -> None:
        """Kill runners for what is over its hard limit or did not stop in time; and stuck ones."""
        known = self.known_overdue()
        for child in [child for child in children if not child.kill_reason]:
            self.requests += [
                StopRequest(child, run, 0.0, OVERDUE)
                for run in child.slots.running(past=grace_of(child))
                if run_of(child, run) not in known
            ]
            if child.slots.reading > STUCK:
                logger.error("runner %d is stuck, and is replaced", child.pid)
                child.kill("it was stuck")
        self.end_unstopped({child.pid for child in children})

    def end_unstopped(self, pids: Collection[int]) -> None:
        """Kill runners for what did not stop in time; one may take several tries to be suspended.

        One that never is, in a debugger or on a busy machine, does not keep the others from being
        killed, nor the supervisor from its other services.
        """
        self.requests = [
            each
            for each in self.requests
            if each.child.pid in pids
            and not each.child.kill_reason
            and still_runs(each.child, each.run)
        ]
        began = clock.monotonic()
        for request in self.requests:
            if clock.monotonic() - began > BUDGET:
                break
            if request.until <= clock.monotonic() and not request.child.kill_reason:
                request.tries += 1
                anyway = request.tries >= TRIES
                self.force_end(request, anyway=anyway)
                request.until = clock.monotonic() + GRACE
                if self.time_is_up():
                    break

    def known_overdue(self) -> set[Run]:
        """The runs that were seen to be over their hard limit."""
        return {run_of(each.child, each.run) for each in self.requests if each.kind == OVERDUE}

    def next_moment(self, children: Sequence[RunnerProcess]) -> float:
        """When to check again, in monotonic seconds, if that is ``SOON``; else infinite."""
        now, known = clock.monotonic(), self.known_overdue()
        moments = [request.until for request in self.requests]
        for child in children:
            moments += [
                now + max(0.0, grace_of(child) - run.overdue)
                for run in child.slots.running(past=grace_of(child) - SOON)
                if not child.kill_reason and run_of(child, run) not in known
            ]
        return min(moments, default=float("inf"))

    def force_end(self, request: StopRequest, *, anyway: bool = False) -> None:
        """Kill the runner if it still runs this; else let it go on."""
        child, kind = request.child, request.kind
        with suspended(child, request.run, anyway=anyway) as same:
            if same:
                logger.warning("runner %d is ended: its task is %s", child.pid, kind)
                self.note_forced_end(request)
                child.kill(f"its task was {kind}")

    def note_forced_end(self, request: StopRequest) -> None:
        """Note how a task is settled if its runner ends while it runs it."""
        child, run, signum = request.child, request.run, signal.Signals[request.name]
        end = ForcedEnd(child.streams[run.stream], run.entry, request.kind, signum)
        child.forced_ends.append(end)

    def stop(self, child: RunnerProcess, run: RunningTask, name: str, title: str) -> None:
        """Stop a task: raise in it, or send the signal to a process that runs only this task."""
        logger.info("%s is terminated", title)
        request = StopRequest(child, run, clock.monotonic() + GRACE, name=name)
        self.requests.append(request)
        if name == "SIGKILL" and child.sequential:
            self.force_end(request)
            return
        child.slots.request_stop(run.slot, run.started)
        if name == "SIGTERM" or not child.sequential:
            child.signal(interrupts.STOP)
            return
        with suspended(child, run) as same:
            if same:
                self.note_forced_end(request)
                child.signal(signal.Signals[name])

    def settle(self, consumer: str, forced_ends: Sequence[ForcedEnd]) -> int:
        """Settle the tasks for which a runner was killed, in its name; return how many."""
        places = [(consumer, (each.stream, each.entry)) for each in forced_ends]
        found = self.recovery.deliveries(places)
        ends = [
            (each, self.outcome(delivery, each.kind))
            for delivery, each in zip(found, forced_ends, strict=True)
            if delivery is not None
        ]
        if ends:
            self.recovery.settle(consumer, [outcome for _, outcome in ends])
        for each, outcome in ends:
            self.log.ended(outcome)
            if each.kind == TERMINATED and self.on_terminated is not None:
                self.on_terminated(outcome.delivery, each.signum)
        return len(ends)

    def outcome(self, delivery: Delivery, kind: str) -> Outcome:
        """The outcome of a task with a forced end of this kind."""
        early = delivery.early
        self.executor.admit(delivery)
        delivery.early = early
        outcomes = self.executor.outcomes
        if kind == TERMINATED:
            return outcomes.revoked(delivery, b"terminated")
        if delivery.policy is None:
            return outcomes.unknown_task(delivery)
        return outcomes.overdue(delivery, delivery.hard)


@contextlib.contextmanager
def suspended(child: RunnerProcess, run: RunningTask, *, anyway: bool = False) -> Iterator[bool]:
    """Suspend a runner for a block; yield whether it is suspended, and still runs this.

    One that waits in the kernel, and cannot be stopped there, meets our signal before it runs
    another line: it counts as suspended.  With ``anyway`` it need not be seen to be.
    """
    child.signal(signal.SIGSTOP)
    try:
        yield (wait_suspended(child.pid, "TD") or anyway) and still_runs(child, run)
    finally:
        child.signal(signal.SIGCONT)


def grace_of(child: RunnerProcess) -> float:
    """Seconds that a task has after its hard limit to end by itself."""
    return 0.0 if child.sequential else GRACE


def run_of(child: RunnerProcess, run: RunningTask) -> Run:
    """The identity of a run, which no other has."""
    return child.pid, run.slot, run.started


def still_runs(child: RunnerProcess, run: RunningTask) -> bool:
    """Whether a slot holds the same run."""
    return any(now.slot == run.slot and now.started == run.started for now in child.slots.running())
