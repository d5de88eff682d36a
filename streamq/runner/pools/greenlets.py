"""The greenlets of one process that run tasks."""

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
from streamq.runner.pools.greenlet_limits import Clocks
from streamq.runner.pools.hub_watchdog import HubWatch
from streamq.runner.prefetch import Desk
from streamq.runner.shared_memory import Slots
from streamq.runner.signals import ROBBED, STRAY, Property, end_child

logger = logging.getLogger("streamq.worker")

#: Hands messages back in a way, and asks about them, however long Redis is away.
HandBack = Callable[[Callable[[], object]], None]


class Crowd:
    """As many greenlets as there are messages to start, up to ``concurrency``.

    They take the messages from the desk as they begin, in its order: until then what was read
    can go back.  With ``isolated`` what runs is noted in Redis first, because it may end us.
    """

    def __init__(
        self,
        desk: Desk,
        slots: Slots,
        beside: HubWatch,
        hand_back: HandBack,
        concurrency: int,
        *,
        isolated: bool,
    ) -> None:
        self.desk = desk
        self.slots = slots
        self.beside = beside
        self.concurrency = concurrency
        self.hand_back = hand_back
        self.isolated = isolated
        self.numbers = {stream: n for n, stream in enumerate(desk.intake.streams)}
        #: One for each message that runs, and spare ones, which are taken in turn.
        self.free = deque(range(slots.count))
        #: How many greenlets there are, and how many of them have not begun.
        self.busy = self.waking = 0
        self.stopping = False
        self.log = TaskLog()
        #: Set when a greenlet is free or begins with another message; and when one has finished.
        self.room = Event()
        self.news = Event()
        #: What has started and may be worth saying.
        self.young: list[Delivery] = []
        self.ran = 0
        self.clocks = Clocks(slots.count, slots.asked_to_stop)
        self.forks = FORKS.count
        #: What tasks may take from us; known when we begin.
        self.property: Property

    def room_for(self) -> int:
        """How many messages can be started now."""
        return self.concurrency - self.busy + self.waking

    def spawn(self) -> None:
        """Have a greenlet for each message that may start, as far as there is room."""
        wanted = len(self.desk.acknowledged) + len(self.desk.unstarted) - self.waking
        for _ in range(min(wanted, self.concurrency - self.busy)):
            self.busy += 1
            self.waking += 1
            gevent.spawn_raw(self.work)

    def work(self) -> None:
        """Run messages, one after the other, while there are any that may start."""
        self.waking -= 1
        try:
            while (delivery := self.next_in_hand()) is not None:
                self.start(delivery)
                self.room.set()
        finally:
            self.busy -= 1
            self.room.set()

    def next_in_hand(self) -> Delivery | None:
        """Take the next message that may start; what has waited for long is asked about again."""
        desk, asked = self.desk, False
        with suppress(IndexError):  # it has just gone back
            while waiting := desk.acknowledged or self.startable():
                if not waiting[0].is_stale(monotonic_ns()):
                    return waiting.popleft()
                if asked and self.stopping:
                    break
                self.hand_back(desk.look_again)
                asked = True
        return None

    def startable(self) -> deque[Delivery] | None:
        """What was read, if the first of it may start at once."""
        unstarted = self.desk.unstarted
        if self.stopping or not unstarted or unstarted[0].early or self.slots.taken_away():
            return None
        return unstarted

    def start(self, delivery: Delivery) -> None:
        """Say that a message starts, and run it, unless it was taken from us."""
        slots, slot = self.slots, self.free.popleft()
        self.desk.running.add(delivery)
        if self.beside.asleep:
            self.beside.wake()
        try:
            if self.isolated:
                self.hand_back(partial(self.desk.note_alone, delivery))
                if self.stopping:  # or declared dead
                    return
            slots.start(slot, self.numbers[delivery.stream], delivery.entry, delivery.hard)
            if slots.taken_away() and not delivery.early:
                slots.withdraw(slot)
                return
            self.young.append(delivery)
            self.execute(slot, delivery)
        finally:
            self.desk.running.discard(delivery)
            slots.clear(slot)
            self.free.append(slot)

    def execute(self, slot: int, delivery: Delivery) -> None:
        """Run one message and put its outcome on the desk."""
        desk = self.desk
        try:
            self.clocks.began(slot, delivery)
            try:
                outcome = desk.execution.run(delivery)
            except (SoftTimeLimitExceeded, Stopped) as error:  # on the way in, or out
                outcome = desk.execution.interrupted(delivery, error)
            except SystemExit as error:  # of a child that the task has forked
                end_child(error)
            self.clocks.ended(slot)
            if self.forks != FORKS.mark[0]:
                os._exit(STRAY)
            if self.property.stolen:  # the loop cannot do without; the task is charged with it
                logger.error("a task has closed the descriptors of runner %d", os.getpid())
                os._exit(ROBBED)
            if outcome.release:
                self.hand_back(partial(desk.give_back, delivery))
            else:
                desk.ledger.finished.append(outcome)
                self.news.set()
            self.log.ended(outcome)
        finally:
            self.ran += 1
