"""The task greenlets of one process: they start messages, run them and queue their outcomes."""

import logging
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import gevent
from gevent.event import Event

from streamq.core.delivery import Delivery
from streamq.errors import SoftTimeLimitExceeded, Stopped
from streamq.execution.task_log import TaskLog
from streamq.host.clock import monotonic_ns
from streamq.host.forks import FORKS
from streamq.runner.pools.greenlet_limits import GreenletLimits
from streamq.runner.pools.hub_watchdog import HubWatchdog
from streamq.runner.prefetch import PrefetchBuffer
from streamq.runner.shared_memory import RunnerSlots
from streamq.runner.signals import LOST_DESCRIPTORS, STRAY, ProcessGuard, end_child

logger = logging.getLogger("streamq.worker")

#: Calls a function that talks to Redis about messages, for as long as Redis is away.
HandBack = Callable[[Callable[[], object]], None]


class TaskGreenlets:
    """The greenlets that run tasks: one for each message to start, up to ``concurrency``.

    Each takes its message from the prefetch buffer as it begins, in order: until then a message
    can go back.  ``isolated``: a message is noted in Redis as the sole task before it runs,
    because it may kill this process.
    """

    def __init__(
        self,
        prefetch: PrefetchBuffer,
        slots: RunnerSlots,
        watchdog: HubWatchdog,
        hand_back: HandBack,
        concurrency: int,
        *,
        isolated: bool,
    ) -> None:
        self.prefetch = prefetch
        self.slots = slots
        self.watchdog = watchdog
        self.concurrency = concurrency
        self.hand_back = hand_back
        self.isolated = isolated
        self.stream_numbers = {stream: n for n, stream in enumerate(prefetch.read_order.streams)}
        #: Free slots: one for each running message, and spare ones, which are taken in turn.
        self.free = deque(range(slots.count))
        #: The number of greenlets, and how many of them have not begun.
        self.busy = self.waking = 0
        self.stopping = False
        self.log = TaskLog()
        #: Set when a greenlet ends or begins with another message; and when there is an outcome.
        self.room = Event()
        self.outcome_ready = Event()
        #: Started since the records were last set to STARTED.
        self.newly_started: list[Delivery] = []
        self.ran = 0
        self.limits = GreenletLimits(slots.count, slots.stop_requested)
        self.forks = FORKS.count
        #: Set when the pool begins to run.
        self.guard: ProcessGuard

    def room_for(self) -> int:
        """The number of messages that can be started now."""
        return self.concurrency - self.busy + self.waking

    def spawn(self) -> None:
        """Spawn a greenlet for each message that may start, as far as there is room."""
        wanted = len(self.prefetch.acknowledged) + len(self.prefetch.unstarted) - self.waking
        for _ in range(min(wanted, self.concurrency - self.busy)):
            self.busy += 1
            self.waking += 1
            gevent.spawn_raw(self.work)

    def work(self) -> None:
        """Run messages one after the other while there are any that may start."""
        self.waking -= 1
        try:
            while (delivery := self.next_in_hand()) is not None:
                self.start(delivery)
                self.room.set()
        finally:
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
                if self.stopping:  # or declared dead
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
            try:
                outcome = prefetch.executor.run(delivery)
            except (
                SoftTimeLimitExceeded,
                Stopped,
            ) as error:  # outside the function: as it began or ended
                outcome = prefetch.executor.interrupted(delivery, error)
            except SystemExit as error:  # of a child that the task has forked
                end_child(error)
            self.limits.ended(slot)
            if self.forks != FORKS.mark[0]:
                os._exit(STRAY)
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
