"""The task threads of a concurrent pool: they start messages, run them and queue their outcomes."""

import logging
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from streamq.core.delivery import Delivery
from streamq.execution.task_log import TaskLog
from streamq.host.clock import monotonic_ns
from streamq.host.forks import FORKS
from streamq.runner.pools.base import PoolParts, run_message
from streamq.runner.pools.primitives import PoolWatchdog, Primitives
from streamq.runner.pools.task_limits import TaskLimits
from streamq.runner.signals import LOST_DESCRIPTORS, ProcessGuard

logger = logging.getLogger("streamq.worker")

#: Calls a function that talks to Redis about messages, for as long as Redis is away.
HandBack = Callable[[Callable[[], object]], None]


class TaskThreads:
    """The threads that run tasks: one for each message to start, up to ``concurrency``.

    Each takes its message from the prefetch buffer as it begins, in order: until then a message
    can go back.
    """

    def __init__(
        self,
        parts: PoolParts,
        primitives: Primitives,
        limits: TaskLimits,
        watchdog: PoolWatchdog,
        hand_back: HandBack,
    ) -> None:
        self.prefetch = prefetch = parts.prefetch
        self.slots = slots = parts.slots
        self.concurrency = parts.concurrency
        self.isolated = parts.isolated
        self.thread_ended = parts.thread_ended
        self.spawn_thread = primitives.spawn_task
        self.limits = limits
        self.watchdog = watchdog
        self.hand_back = hand_back
        self.stream_numbers = prefetch.read_order.numbers
        #: Free slots: one for each running message, and spare ones, which are taken in turn.
        self.free = deque(range(slots.count))
        #: The number of threads, and how many of them have not begun.
        self.busy = self.waking = 0
        self.stopping = False
        self.log = TaskLog()
        #: Set when a thread ends or begins with another message; and when there is an outcome.
        self.room = primitives.event()
        self.outcome_ready = primitives.event()
        #: Started since the records were last set to STARTED.
        self.newly_started: list[Delivery] = []
        self.ran = 0
        self.forks = FORKS.count
        #: Set when the pool begins to run.
        self.guard: ProcessGuard

    def room_for(self) -> int:
        """The number of messages that can be started now."""
        return self.concurrency - self.busy + self.waking

    def spawn(self) -> None:
        """Spawn a thread for each message that may start, as far as there is room."""
        wanted = len(self.prefetch.acknowledged) + len(self.prefetch.unstarted) - self.waking
        for _ in range(min(wanted, self.concurrency - self.busy)):
            self.busy += 1
            self.waking += 1
            self.spawn_thread(self.work)

    def work(self) -> None:
        """Run messages one after the other while there are any that may start."""
        self.waking -= 1
        try:
            while (delivery := self.next_in_hand()) is not None:
                self.start(delivery)
                self.room.set()
        finally:
            if self.thread_ended is not None:
                self.thread_ended()
            self.busy -= 1
            self.room.set()

    def next_in_hand(self) -> Delivery | None:
        """Take the next message that may start, or return None; stale messages are rechecked."""
        prefetch, asked = self.prefetch, False
        with suppress(IndexError):  # it has just gone back
            while waiting := prefetch.acknowledged or self.startable():
                if not waiting[0].needs_recheck(monotonic_ns()):
                    return waiting.popleft()
                if asked and self.stopping:
                    break
                self.hand_back(prefetch.recheck)
                asked = True
        return None

    def startable(self) -> deque[Delivery] | None:
        """The unstarted messages, if the first of them may start at once; else None."""
        unstarted = self.prefetch.unstarted
        if self.stopping or not unstarted or unstarted[0].early or self.slots.is_taken():
            return None
        return unstarted

    def start(self, delivery: Delivery) -> None:
        """Note the start of a message and run it, unless it was handed back meanwhile."""
        slots, slot = self.slots, self.free.popleft()
        self.prefetch.running.add(delivery)
        if self.watchdog.asleep:
            self.watchdog.wake()
        try:
            if self.isolated:
                self.hand_back(partial(self.prefetch.note_sole_task, delivery))
                if self.stopping:  # or fenced
                    return
            slots.note_start(
                slot, self.stream_numbers[delivery.stream], delivery.entry, delivery.hard
            )
            if slots.is_taken() and not delivery.early:
                slots.cancel_start(slot)
                return
            self.newly_started.append(delivery)
            self.execute(slot, delivery)
        finally:
            self.prefetch.running.discard(delivery)
            slots.clear(slot)
            self.free.append(slot)

    def execute(self, slot: int, delivery: Delivery) -> None:
        """Run one message and queue its outcome for settlement."""
        prefetch = self.prefetch
        try:
            self.limits.began(slot, delivery)
            outcome = run_message(prefetch.executor, delivery, self.forks)
            self.limits.ended(slot)
            if self.guard.descriptors_closed:  # the loop cannot go on; the task is blamed
                logger.error("a task has closed the descriptors of runner %d", os.getpid())
                os._exit(LOST_DESCRIPTORS)
            if outcome.release:
                self.hand_back(partial(prefetch.reject, delivery))
            else:
                prefetch.settlements.finished.append(outcome)
                self.outcome_ready.set()
            self.log.ended(outcome)
        finally:
            self.ran += 1
