"""Noticing that the running task has passed its soft time limit."""

import math
import threading
from collections.abc import Callable

from streamq.core.delivery import Delivery
from streamq.host.clock import monotonic

#: Seconds after which it rings again if nobody has heard it: the task may not have begun, or
#: have been where nothing reaches it.
AGAIN = 0.1
#: No task, and when that is late.
NOTHING: tuple[Delivery | None, float] = (None, math.inf)


class Alarm:
    """Calls ``ring`` once the task is late, in a thread that never waits for anything else.

    It sleeps until the task that was running when it last looked would be late, so that
    tasks which end in time wake nobody.
    """

    def __init__(self, ring: Callable[[], None]) -> None:
        self.ring = ring
        #: The running task, and from when on it is late.
        self.set_for = NOTHING
        #: When the thread looks next.
        self.wakes = math.inf
        self.news = threading.Event()
        self.thread: threading.Thread | None = None

    def began(self, delivery: Delivery) -> None:
        """A task with a soft limit starts."""
        due = monotonic() + delivery.soft
        self.set_for = (delivery, due)
        if self.thread is None:
            self.thread = threading.Thread(target=self.run, name="streamq-alarm", daemon=True)
            self.thread.start()
        if due < self.wakes:
            self.news.set()

    def ended(self) -> None:
        """The task has ended, or knows."""
        self.set_for = NOTHING

    def rings_for(self, task: Delivery | None) -> bool:
        """Whether this is the task that is late; it goes on to ring until it has ended."""
        found, due = self.set_for
        return found is not None and found is task and monotonic() >= due

    def run(self) -> None:
        """Ring whenever the task is late."""
        while True:
            self.wakes = math.inf
            self.news.clear()
            task, due = self.set_for
            if task is not None and monotonic() >= due:
                self.ring()
                due = monotonic() + AGAIN
            self.wakes = due
            self.news.wait(None if task is None else max(0.0, due - monotonic()))
