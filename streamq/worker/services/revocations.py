"""Revocations: running tasks that were revoked with ``terminate`` are stopped.

Redis may hold thousands of requested signals, nearly all of them for tasks that run elsewhere or
wait.  So it is asked about the tasks that run here, and about so many at a time that no lease
runs out meanwhile.
"""

from collections.abc import Callable, Sequence

from streamq.broker.leases import Renewal
from streamq.broker.recovery import Recovery
from streamq.core.termination import ENDING
from streamq.host import clock
from streamq.runner.shared_memory import RunningTask
from streamq.worker.processes import RunnerProcess, RunnerProcesses
from streamq.worker.services.service import Service

#: Running tasks that one check asks about.
BUDGET = 100
#: Seconds between two checks: requests that come together are answered together.
GATHER = 0.02

#: One run of a task: the runner's process, its slot, and when it started.
Run = tuple[int, int, int]
Running = dict[Run, tuple[RunnerProcess, RunningTask]]


class Revocations(Service):
    """The service that finds the tasks to be terminated, and has them stopped."""

    def __init__(
        self,
        recovery: Recovery,
        stop: Callable[[RunnerProcess, RunningTask, str, str], None],
        processes: RunnerProcesses,
    ) -> None:
        self.recovery = recovery
        self.stop = stop
        self.processes = processes
        self.requested = False
        self.last = 0.0
        #: The ids and titles of what runs, as far as they were read.
        self.ids: dict[Run, tuple[str, str]] = {}
        #: The requested signals that were acted on.
        self.handled: set[tuple[Run, str]] = set()
        self.todo: list[Run] = []

    def on_renewal(self, news: Renewal) -> None:
        """Have the running tasks checked if some are to be terminated, here or elsewhere."""
        if news.terminating:
            self.request_check()

    def on_notice(self, words: Sequence[str]) -> None:
        """Have the running tasks checked: ``terminate …``."""
        if words[0] == "terminate":
            self.request_check()

    def run(self) -> None:
        """Check some of the running tasks."""
        self.check(list(self.processes.children.values()))

    def request_check(self) -> None:
        """Have all running tasks checked soon: a termination was requested somewhere."""
        self.requested = True
        self.moment = min(self.moment, self.last + GATHER)

    def check(self, children: Sequence[RunnerProcess]) -> None:
        """Check some of the running tasks, if any are to be checked."""
        if clock.monotonic() < self.moment:
            return
        self.last = clock.monotonic()
        self.moment = self.last + GATHER
        running = {
            (child.pid, run.slot, run.started): (child, run)
            for child in children
            for run in child.slots.running()
        }
        self.ids = {run: id for run, id in self.ids.items() if run in running}
        self.handled = {(run, name) for run, name in self.handled if run in running}
        if self.requested and not self.todo:
            self.todo, self.requested = list(running), False
        some, self.todo = self.todo[:BUDGET], self.todo[BUDGET:]
        checked = {run: running[run] for run in some if run in running}
        self.read_ids({run: each for run, each in checked.items() if run not in self.ids})
        if not self.time_is_up():
            known = {run: each for run, each in checked.items() if run in self.ids}
            some = self.stop_requested(known)
        self.todo = some + self.todo
        if not (self.todo or self.requested):
            self.moment = float("inf")

    def read_ids(self, runs: Running) -> None:
        """Read the ids of tasks; one that has been settled meanwhile has none."""
        places = [
            (child.consumer, (child.streams[each.stream], each.entry))
            for child, each in runs.values()
        ]
        for run, delivery in zip(runs, self.recovery.deliveries(places), strict=True):
            if delivery is not None:
                self.ids[run] = delivery.name.decode(errors="replace"), delivery.title

    def stop_requested(self, runs: Running) -> list[Run]:
        """Stop those of these tasks that are to be terminated, once with each signal.

        Returns those for which there was no time left.
        """
        ids = [self.ids[run][0] for run in runs]
        requested = self.recovery.requested_signals(ids, ENDING)
        left = list(runs)
        for run, names in zip(runs, requested, strict=True):
            for name in names:
                if (run, name) not in self.handled:
                    self.handled.add((run, name))
                    self.stop(*runs[run], name, self.ids[run][1])
            left.remove(run)
            if self.time_is_up():
                break
        return left
