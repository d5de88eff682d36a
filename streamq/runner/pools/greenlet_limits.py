"""Time limits of tasks in greenlets: one greenlet checks how long all others have been running.

A limit is raised inside the task, where it waits for something.  A task that never waits
blocks the whole process; then its supervisor kills the process.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gevent
from gevent.event import Event

from streamq.core.delivery import Delivery
from streamq.errors import Overdue, Terminated
from streamq.execution.outcomes import past_soft_limit
from streamq.host.clock import monotonic
from streamq.runner.async_exception import Raised

#: Seconds between two checks at least: limits that pass close together are checked together.
GATHER = 0.02
#: Seconds after which it is checked whether a soft limit has reached its task.
AGAIN = 0.1


@dataclass(slots=True)
class LimitedRun:
    """One running task, its greenlet, its start and its next limit (monotonic seconds)."""

    delivery: Delivery
    greenlet: Any
    began: float
    due: float
    #: The soft limit that was raised last, and whether it has reached the task.
    raised: Raised | None = None
    warned: bool = False
    stopped: bool = False


class GreenletLimits:
    """The running tasks by slot, and their limits.

    ``stop_requested`` returns whether the task in a slot was revoked.
    """

    def __init__(self, slots: int, stop_requested: Callable[[int], bool]) -> None:
        self.runs: list[LimitedRun | None] = [None] * slots
        self.stop_requested = stop_requested
        #: Moment of the next check: no later than the first limit of any running task.
        self.next_check = math.inf
        self.wakeup = Event()

    def began(self, slot: int, delivery: Delivery) -> None:
        """Note that a task starts in the calling greenlet."""
        now = monotonic()
        due = now + (delivery.soft or delivery.hard or math.inf)
        self.runs[slot] = LimitedRun(delivery, gevent.getcurrent(), now, due)
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
            gevent.sleep(GATHER)
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
            error = past_soft_limit(delivery)
            run.raised = Raised(error, delivery.policy and delivery.policy.task.function)
            self.interrupt(slot, run, error)

    def interrupt(self, slot: int, run: LimitedRun, error: BaseException) -> None:
        """Raise an exception inside a task, unless the task has ended by then."""

        def throw() -> None:
            if self.runs[slot] is run:
                run.greenlet.throw(error)

        gevent.get_hub().loop.run_callback(throw)
