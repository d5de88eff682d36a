"""The soft limit of a running task: a timer that notices it, and the exception to raise."""

import math
import threading
from collections.abc import Callable

from streamq.core.delivery import Delivery
from streamq.execution.outcomes import past_soft_limit
from streamq.host.clock import monotonic
from streamq.runner.async_exception import Raised

#: Seconds after which ``on_late`` is called again while the timer is armed: the task may not have
#: begun, or been where no exception reaches it.
AGAIN = 0.1
#: No task, and no moment at which it is late.
DISARMED: tuple[Delivery | None, float] = (None, math.inf)


class SoftLimitTimer:
    """A thread that calls ``on_late`` while the running task is past its soft limit.

    It sleeps until the task that was running at its last check would be late, so that tasks which
    end in time do not wake it.  It waits for nothing else.
    """

    def __init__(self, on_late: Callable[[], None]) -> None:
        self.on_late = on_late
        #: The running task, and the moment from which on it is late (monotonic s).
        self.armed_for = DISARMED
        #: When the thread wakes up next (monotonic s).
        self.wakes_at = math.inf
        self.changed = threading.Event()
        self.thread: threading.Thread | None = None

    def began(self, delivery: Delivery) -> None:
        """Arm the timer for a task with a soft limit, which starts now."""
        due = monotonic() + delivery.soft
        self.armed_for = (delivery, due)
        if self.thread is None:
            self.thread = threading.Thread(target=self.run, name="streamq-alarm", daemon=True)
            self.thread.start()
        if due < self.wakes_at:
            self.changed.set()

    def ended(self) -> None:
        """Disarm the timer: the task has ended, or has received its soft limit."""
        self.armed_for = DISARMED

    def is_late(self, task: Delivery | None) -> bool:
        """Whether the timer is armed for this task, and the task is past its soft limit."""
        found, due = self.armed_for
        return found is not None and found is task and monotonic() >= due

    def run(self) -> None:
        """Call ``on_late`` whenever the task is late.  Never returns."""
        while True:
            self.wakes_at = math.inf
            self.changed.clear()
            task, due = self.armed_for
            if task is not None and monotonic() >= due:
                self.on_late()
                due = monotonic() + AGAIN
            self.wakes_at = due
            self.changed.wait(None if task is None else max(0.0, due - monotonic()))


def new_soft_limit(delivery: Delivery) -> Raised:
    """Make the exception that is raised inside the task of a message that is past its limit."""
    policy = delivery.policy
    return Raised(past_soft_limit(delivery), policy and policy.task.function)
