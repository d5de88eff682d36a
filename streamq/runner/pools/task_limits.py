"""Time limits of tasks in threads: one thread checks how long all others have been running.

How a limit is raised inside a task depends on the kind of threads.  A task that no exception
reaches is ended with its process, by the supervisor.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from streamq.core.delivery import Delivery
from streamq.errors import Overdue, Terminated
from streamq.host.clock import monotonic
from streamq.runner.async_exception import Raised
from streamq.runner.pools.primitives import Primitives
from streamq.runner.shared_memory import RunnerSlots
from streamq.runner.soft_limit import new_soft_limit

#: Seconds between two checks at least: limits that pass close together are checked together.
GATHER = 0.02
#: Seconds after which it is checked whether a soft limit has reached its task.
AGAIN = 0.1


@dataclass(slots=True)
class LimitedRun:
    """One running task, its thread, its start and its next limit (monotonic seconds)."""

    delivery: Delivery
    thread: Any
    began: float
    due: float
    #: The soft limit that was raised last, and whether it has reached the task.
    raised: Raised | None = None
    warned: bool = False
    stopped: bool = False


class TaskLimits(ABC):
    """The running tasks by slot, and their limits."""

    def __init__(self, slots: RunnerSlots, primitives: Primitives) -> None:
        self.runs: list[LimitedRun | None] = [None] * slots.count
        self.stop_requested = slots.stop_requested
        #: Moment of the next check: no later than the first limit of any running task.
        self.next_check = math.inf
        self.wakeup = primitives.event()
        self.sleep = primitives.sleep
        self.current = primitives.current

    def began(self, slot: int, delivery: Delivery) -> None:
        """Note that a task starts in the calling thread."""
        now = monotonic()
        due = now + (delivery.soft or delivery.hard or math.inf)
        self.runs[slot] = LimitedRun(delivery, self.current(), now, due)
        if due < self.next_check:
            self.next_check = due
            self.wakeup.set()

    def ended(self, slot: int) -> None:
        """Note that the task has ended."""
        self.runs[slot] = None

    def check_soon(self) -> None:
        """Check all tasks as soon as possible.  Safe to call from a signal handler."""
        self.wakeup.set()

    def watch_loop(self) -> None:
        """Check all tasks whenever a limit passes or a shorter one was set.  Never returns."""
        while True:
            self.sleep(GATHER)
            pause = self.next_check - monotonic()
            self.wakeup.wait(None if pause == math.inf else max(0.0, pause))
            self.wakeup.clear()
            self.check_all()

    def check_all(self) -> None:
        """Interrupt the tasks that are late or revoked."""
        now = monotonic()
        for slot, run in enumerate(self.runs):
            if run is not None:
                self.check(slot, run, now)
        self.next_check = min((run.due for run in self.runs if run is not None), default=math.inf)

    def check(self, slot: int, run: LimitedRun, now: float) -> None:
        """Interrupt a task if it is late or revoked, and set its next limit."""
        delivery, ran = run.delivery, now - run.began
        overdue = delivery.hard and ran >= delivery.hard
        if run.stopped:
            return
        if overdue or self.stop_requested(slot):
            run.stopped, run.due = True, math.inf
            self.interrupt(slot, run, Overdue() if overdue else Terminated())
        elif delivery.soft and ran >= delivery.soft and not run.warned:
            self.warn(slot, run, now)

    def warn(self, slot: int, run: LimitedRun, now: float) -> None:
        """Raise the soft limit inside a task; again if it was lost before it reached the task."""
        delivery, before = run.delivery, run.raised
        run.due = run.began + (delivery.hard or math.inf)
        if before is not None and before.arrived:
            run.warned, run.raised = True, None
            return
        run.due = min(run.due, now + AGAIN)
        if before is None or not before.is_held:
            run.raised = new_soft_limit(delivery)
            self.interrupt(slot, run, run.raised.error)

    @abstractmethod
    def interrupt(self, slot: int, run: LimitedRun, error: BaseException) -> None:
        """Raise an exception inside a task, unless the task has ended by then.

        It has ended if ``runs`` holds another run in its slot.
        """
