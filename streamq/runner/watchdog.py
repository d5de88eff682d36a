"""Looking after the desk while a task runs.

The runner's own thread settles between batches.  When one task takes longer than its
share, this thread settles what has finished before it and hands back what would wait
behind it, so that a slow task keeps nothing waiting; and it shows that the task runs.
"""

import logging
import threading
import time
from collections.abc import Callable

from streamq.broker.consumer import Fenced
from streamq.core.delivery import Delivery
from streamq.core.text import count
from streamq.errors import BrokerUnavailable
from streamq.host import clock
from streamq.runner.prefetch import Desk
from streamq.runner.sources import SHARE
from streamq.transport.replies import Refused

logger = logging.getLogger("streamq.worker")

#: Seconds between two looks while tasks run.
TICK = 0.005
#: Seconds without a task after which the thread sleeps until it is woken.
LINGER = 1.0
#: Seconds that a task runs before its record says STARTED: quick ones never need it.
WORTH_SAYING = 0.03
#: Seconds without a look after one that failed by a mistake of ours: it may fail again.
AFTER_A_MISTAKE = 1.0


class Watch:
    """A thread that looks at the desk every few milliseconds while tasks run."""

    def __init__(
        self,
        desk: Desk,
        *,
        fenced: Callable[[], None],
        slow: Callable[[], None],
    ) -> None:
        self.desk = desk
        self.fenced = fenced
        self.slow = slow
        self.task: Delivery | None = None
        self.since = 0.0
        self.told = False
        self.asleep = False
        self.wake = threading.Event()
        self.stopping = False
        self.thread = threading.Thread(target=self.run, name="streamq-watch", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self.thread.start()

    def stop(self) -> None:
        """End the thread; it may be stopped twice."""
        self.stopping = True
        self.wake.set()
        if self.thread.is_alive():
            self.thread.join(1.0)

    def began(self, delivery: Delivery) -> None:
        """A task starts."""
        self.since, self.told, self.task = clock.monotonic(), False, delivery
        if self.asleep:
            self.wake.set()

    def ended(self) -> None:
        """The task has ended."""
        self.task = None

    def run(self) -> None:
        """Look until stopped."""
        quiet = 0.0
        while not self.stopping:
            if quiet > LINGER:
                self.sleep()
                quiet = 0.0
            time.sleep(TICK)
            quiet = 0.0 if self.task is not None else quiet + TICK
            try:
                self.look()
            except Fenced:
                self.fenced()
                return
            except (BrokerUnavailable, Refused):
                time.sleep(SHARE * 10)  # the runner's own thread says it, and mends it
            except Exception:
                logger.exception("looking after the running task failed; it goes on")
                time.sleep(AFTER_A_MISTAKE)

    def sleep(self) -> None:
        """Wait for the next task."""
        self.wake.clear()
        self.asleep = True
        if self.task is None and not self.stopping:
            self.wake.wait()
        self.asleep = False

    def look(self) -> None:
        """Do what a task that takes long makes necessary."""
        task, ran = self.task, clock.monotonic() - self.since
        if task is None or ran < SHARE or self.stopping:
            return
        self.slow()
        desk = self.desk
        if desk.ledger.owes:
            desk.settle()
        if desk.unstarted:
            returned = count(desk.hand_back(), "message")
            logger.debug("%s handed back: the task before takes long", returned)
        if ran > WORTH_SAYING and not self.told:
            self.told = True
            desk.show_started([task])
