"""Time limits of greenlets: one of them watches how long all the others have been running.

A limit is raised inside the task, where it waits for something.  A task that never waits
keeps the whole process busy; then its supervisor ends the process.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

import gevent
from gevent.event import Event

from streamq.delivery import Delivery
from streamq.errors import Overdue, SoftTimeLimitExceeded, Terminated

#: Seconds between two looks: while some task has a short limit, and else.
OFTEN, SELDOM = 0.02, 1.0
#: Seconds of a limit that counts as short.
SHORT = 20.0


@dataclass(slots=True)
class Run:
    """One task that is running, and the greenlet that runs it."""

    delivery: Delivery
    greenlet: Any
    began: float
    warned: bool = False
    stopped: bool = False


class Clocks:
    """The tasks that run, by slot.  ``asked_to_stop`` says whether one was revoked."""

    def __init__(self, slots: int, asked_to_stop: Callable[[int], bool]) -> None:
        self.runs: list[Run | None] = [None] * slots
        self.asked_to_stop = asked_to_stop
        self.brief = False
        self.news = Event()

    def began(self, slot: int, delivery: Delivery) -> None:
        """A task starts in the greenlet that says so."""
        self.runs[slot] = Run(delivery, gevent.getcurrent(), monotonic())
        if not self.brief and (delivery.soft or 0 < delivery.hard < SHORT):
            self.brief = True
            self.news.set()

    def ended(self, slot: int) -> None:
        """The task has ended."""
        self.runs[slot] = None

    def look_soon(self) -> None:
        """Look at all tasks as soon as possible.  Safe to call from a signal handler."""
        self.news.set()

    def watch(self) -> None:
        """Look at all tasks again and again."""
        while True:
            self.news.wait(OFTEN if self.brief else SELDOM)
            self.news.clear()
            self.look()

    def look(self) -> None:
        """Interrupt what is late or revoked."""
        now, brief = monotonic(), False
        for slot, run in enumerate(self.runs):
            if run is None:
                continue
            delivery, ran = run.delivery, now - run.began
            brief |= bool(delivery.soft) or 0 < delivery.hard < SHORT
            overdue = delivery.hard and ran >= delivery.hard
            if not run.stopped and (overdue or self.asked_to_stop(slot)):
                run.stopped = True
                self.interrupt(slot, run, Overdue() if overdue else Terminated())
            elif delivery.soft and ran >= delivery.soft and not run.warned:
                run.warned = True
                said = f"the task has been running for {delivery.soft:g} s"
                self.interrupt(slot, run, SoftTimeLimitExceeded(said))
        self.brief = brief

    def interrupt(self, slot: int, run: Run, error: BaseException) -> None:
        """Raise this inside a task, unless it has ended by then."""

        def throw() -> None:
            if self.runs[slot] is run:
                run.greenlet.throw(error)

        gevent.get_hub().loop.run_callback(throw)
