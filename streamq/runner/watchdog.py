"""The watchdog of a sequential pool: it serves the prefetch buffer while one task runs long.

The runner's main thread settles between batches.  When a task takes longer than ``SHARE``, this
thread settles what has finished before it and hands back what would wait behind it, so that a
slow task delays nothing else; and it sets the record of the task to STARTED.
"""

import logging
import threading
import time
from collections.abc import Callable

from streamq.broker.consumer import ConsumerFenced
from streamq.core.delivery import Delivery
from streamq.core.text import count
from streamq.errors import BrokerUnavailable
from streamq.host import clock
from streamq.runner.prefetch import PrefetchBuffer
from streamq.runner.sources import SHARE
from streamq.transport.replies import Refused

logger = logging.getLogger("streamq.worker")

#: Seconds between two checks while tasks run.
TICK = 0.005
#: Seconds without a task after which the thread sleeps until it is woken.
IDLE_AFTER = 1.0
#: Seconds that a task runs before its record is set to STARTED: quick tasks never need it.
STARTED_AFTER = 0.03
#: Seconds without a check after one that failed by an error in streamq: it may fail again.
PAUSE_AFTER_ERROR = 1.0


class Watchdog:
    """A thread that checks the running task every ``TICK``, and sleeps while none runs.

    It calls ``on_slow`` while a task runs long, and ``on_fenced`` when the lease was lost.
    """

    def __init__(
        self,
        prefetch: PrefetchBuffer,
        *,
        on_fenced: Callable[[], None],
        on_slow: Callable[[], None],
    ) -> None:
        self.prefetch = prefetch
        self.on_fenced = on_fenced
        self.on_slow = on_slow
        self.task: Delivery | None = None
        #: When it started (monotonic ns).
        self.since = 0
        self.marked = False
        self.asleep = False
        self.wakeup = threading.Event()
        self.stopping = False
        self.thread = threading.Thread(target=self.run, name="streamq-watch", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self.thread.start()

    def stop(self) -> None:
        """End the thread; may be called twice."""
        self.stopping = True
        self.wakeup.set()
        if self.thread.is_alive():
            self.thread.join(1.0)

    def began(self, delivery: Delivery, started: int) -> None:
        """Note that a task has started at this moment (monotonic ns)."""
        self.since, self.marked, self.task = started, False, delivery
        if self.asleep:
            self.wakeup.set()

    def ended(self) -> None:
        """Note that the task has ended."""
        self.task = None

    def run(self) -> None:
        """Check until stopped."""
        quiet = 0.0
        while not self.stopping:
            if quiet > IDLE_AFTER:
                self.sleep()
                quiet = 0.0
            time.sleep(TICK)
            quiet = 0.0 if self.task is not None else quiet + TICK
            try:
                self.check()
            except ConsumerFenced:
                self.on_fenced()
                return
            except (BrokerUnavailable, Refused):
                time.sleep(SHARE * 10)  # the main thread logs it, and repairs
            except Exception:
                logger.exception("the watchdog failed beside the running task, which goes on")
                time.sleep(PAUSE_AFTER_ERROR)

    def sleep(self) -> None:
        """Wait for the next task."""
        self.wakeup.clear()
        self.asleep = True
        if self.task is None and not self.stopping:
            self.wakeup.wait()
        self.asleep = False

    def check(self) -> None:
        """Settle, hand back and mark the task as started, if it runs longer than ``SHARE``."""
        task, ran = self.task, (clock.monotonic_ns() - self.since) / 1e9
        if task is None or ran < SHARE or self.stopping:
            return
        self.on_slow()
        prefetch = self.prefetch
        if prefetch.settlements.is_pending:
            prefetch.settle()
        if prefetch.unstarted:
            returned = count(prefetch.hand_back(), "message")
            logger.debug("%s handed back: the task before takes long", returned)
        if ran > STARTED_AFTER and not self.marked:
            self.marked = True
            prefetch.mark_started([task])
