"""Time limits of greenlets: one of them watches how long all the others have been running.

A limit is raised inside the task, where it waits for something.  A task that never waits
keeps the whole process busy; then its supervisor ends the process.
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

#: Seconds between two looks at least: limits that pass close together are looked at together.
GATHER = 0.02
#: Seconds after which it is looked whether a soft limit has arrived.
AGAIN = 0.1


@dataclass(slots=True)
class Run:
    """One task that is running, the greenlet that runs it, and when its next limit passes."""

    delivery: Delivery
    greenlet: Any
    began: float
    due: float
    #: The soft limit that was raised last, and whether the task knows it.
    raised: Raised | None = None
    warned: bool = False
    stopped: bool = False


class Clocks:
    """The tasks that run, by slot.  ``asked_to_stop`` says whether one was revoked."""

    def __init__(self, slots: int, asked_to_stop: Callable[[int], bool]) -> None:
        self.runs: list[Run | None] = [None] * slots
        self.asked_to_stop = asked_to_stop
        #: When we look next: no later than the first limit passes of those that run.
        self.moment = math.inf
        self.news = Event()

    def began(self, slot: int, delivery: Delivery) -> None:
        """A task starts in the greenlet that says so."""
        now = monotonic()
        due = now + (delivery.soft or delivery.hard or math.inf)
        self.runs[slot] = Run(delivery, gevent.getcurrent(), now, due)
        if due < self.moment:
            self.moment = due
            self.news.set()

    def ended(self, slot: int) -> None:
        """The task has ended."""
        self.runs[slot] = None

    def look_soon(self) -> None:
        """Look at all tasks as soon as possible.  Safe to call from a signal handler."""
        self.news.set()

    def watch(self) -> None:
        """Look at all tasks whenever a limit passes, or may have been set."""
        while True:
            gevent.sleep(GATHER)
            pause = self.moment - monotonic()
            self.news.wait(None if pause == math.inf else max(0.0, pause))
            self.news.clear()
            self.look()

    def look(self) -> None:
        """Interrupt what is late or revoked."""
        now = monotonic()
        for slot, run in enumerate(self.runs):
            if run is not None:
                self.check(slot, run, now)
        self.moment = min((run.due for run in self.runs if run is not None), default=math.inf)

    def check(self, slot: int, run: Run, now: float) -> None:
        """Interrupt a task if it is late or revoked, and find its next limit."""
        delivery, ran = run.delivery, now - run.began
        overdue = delivery.hard and ran >= delivery.hard
        if run.stopped:
            return
        if overdue or self.asked_to_stop(slot):
            run.stopped, run.due = True, math.inf
            self.interrupt(slot, run, Overdue() if overdue else Terminated())
        elif delivery.soft and ran >= delivery.soft and not run.warned:
            self.warn(slot, run, now)

    def warn(self, slot: int, run: Run, now: float) -> None:
        """Raise the soft limit inside a task; once more if that was lost on the way to it."""
        delivery, before = run.delivery, run.raised
        run.due = run.began + (delivery.hard or math.inf)
        if before is not None and before.arrived:
            run.warned, run.raised = True, None
            return
        run.due = min(run.due, now + AGAIN)
        if before is None or not before.is_held:
            error = past_soft_limit(delivery)
            run.raised = Raised(error, delivery.manner and delivery.manner.task.function)
            self.interrupt(slot, run, error)

    def interrupt(self, slot: int, run: Run, error: BaseException) -> None:
        """Raise this inside a task, unless it has ended by then."""

        def throw() -> None:
            if self.runs[slot] is run:
                run.greenlet.throw(error)

        gevent.get_hub().loop.run_callback(throw)
