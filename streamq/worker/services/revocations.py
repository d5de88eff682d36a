"""Which of the tasks that run here are to be terminated.

Redis may hold thousands of such wishes, nearly all of them about what runs elsewhere or
waits: so it is asked about what runs here, and so much at a time that no lease runs out
meanwhile.
"""

from collections.abc import Callable, Sequence

from streamq.broker.recovery import Recovery
from streamq.core.termination import ENDING
from streamq.host import clock
from streamq.runner.shared_memory import Occupied
from streamq.worker.processes import Child

#: Running tasks that one look asks about.
BUDGET = 100
#: Seconds between two looks: wishes that come together are heeded together.
GATHER = 0.02

#: One run of a task: the runner's process, its slot, and when it started.
Run = tuple[int, int, int]
Running = dict[Run, tuple[Child, Occupied]]


class Terminations:
    """Finds the tasks that are to be stopped, and has them stopped."""

    def __init__(self, recovery: Recovery, stop: Callable[[Child, Occupied, str, str], None]):
        self.recovery = recovery
        self.stop = stop
        self.asked = False
        #: When, in monotonic seconds, to look again.
        self.moment = float("inf")
        self.last = 0.0
        #: Names and titles of what runs, as far as they were read; the signals that were heeded.
        self.ids: dict[Run, tuple[str, str]] = {}
        self.heeded: set[tuple[Run, str]] = set()
        self.todo: list[Run] = []

    def ask(self) -> None:
        """Somebody wishes to terminate something: look whether it runs here."""
        self.asked = True
        self.moment = min(self.moment, self.last + GATHER)

    def look(self, children: Sequence[Child]) -> None:
        """Go on looking, if there is anything to look for."""
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
        self.heeded = {(run, name) for run, name in self.heeded if run in running}
        if self.asked and not self.todo:
            self.todo, self.asked = list(running), False
        some, self.todo = self.todo[:BUDGET], self.todo[BUDGET:]
        places = {run: running[run] for run in some if run in running}
        self.read({run: place for run, place in places.items() if run not in self.ids})
        self.heed({run: place for run, place in places.items() if run in self.ids})
        if not (self.todo or self.asked):
            self.moment = float("inf")

    def read(self, runs: Running) -> None:
        """Read the ids of tasks; one that has been settled meanwhile has none."""
        places = [
            (child.consumer, (child.streams[each.stream], each.entry))
            for child, each in runs.values()
        ]
        for run, delivery in zip(runs, self.recovery.deliveries(places), strict=True):
            if delivery is not None:
                self.ids[run] = delivery.name.decode(errors="replace"), delivery.title

    def heed(self, runs: Running) -> None:
        """Stop those of these tasks that are to be terminated, once with each signal."""
        ids = [self.ids[run][0] for run in runs]
        for run, names in zip(runs, self.recovery.wishes(ids, ENDING), strict=True):
            for name in names:
                if (run, name) not in self.heeded:
                    self.heeded.add((run, name))
                    self.stop(*runs[run], name, self.ids[run][1])
