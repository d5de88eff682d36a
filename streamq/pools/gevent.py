"""Many tasks at a time, each in a greenlet.

One greenlet reads, and one settles: two connections.  The standard library has been patched.
"""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from socket import SHUT_RDWR
from typing import Any

import gevent
from gevent.event import Event

from streamq.clock import perf_counter
from streamq.delivery import Delivery
from streamq.errors import BrokerUnavailable, SoftTimeLimitExceeded, Stopped
from streamq.pools.clocks import Clocks
from streamq.runner.desk import Desk
from streamq.runner.inherited import OWN
from streamq.runner.interrupts import ROBBED, STRAY, Property
from streamq.runner.limits import Limits
from streamq.runner.pauses import Pauses
from streamq.runner.slots import Slots
from streamq.runner.tasklog import TaskLog
from streamq.store.connection import ANSWER_TIMEOUT, BLOCK_MARGIN, Disconnected, Passing, Refused
from streamq.store.consumer import MOST_BYTES, Consumer, Fenced

logger = logging.getLogger("streamq.worker")

#: Seconds that a read blocks.
BLOCK = 5.0
#: Seconds for which room is gathered before a backlog is read, and outcomes before they are
#: settled: one command for many messages costs a fraction of many commands.
GATHER = 0.002
#: Messages read at once.
AT_ONCE = 100
#: Seconds of work that is read ahead, as long as a read takes in a busy process; and how many
#: messages at most.
AHEAD, MOST_AHEAD = 0.02, 100
#: Seconds between tries to reach Redis for a runner that wants to end.
STEP = 0.1
#: Seconds that a task runs before its record says STARTED.
WORTH_SAYING = 0.25
#: Seconds after which a backlog is read for whatever room there is, however little.
LULL = 0.01
#: Seconds after which what was read ahead and not started goes back.  Tasks of one length end in
#: waves; with less, each wave would begin with nothing in hand.
HOLD = 0.05


class Speed:
    """How many tasks end in a second, as measured a moment ago."""

    WINDOW = 0.5

    def __init__(self) -> None:
        self.rate = 0.0
        self.since, self.ran = perf_counter(), -1

    def look(self, ran: int) -> None:
        """Measure, if enough time has passed since the last measurement."""
        now = perf_counter()
        if now - self.since > self.WINDOW:
            self.rate = (ran - self.ran) / (now - self.since) if self.ran >= 0 else 0.0
            self.since, self.ran = now, ran


class Greenlets:
    """Reads, runs and settles until it is stopped."""

    def __init__(
        self,
        desk: Desk,
        reading: Consumer,
        slots: Slots,
        limits: Limits,
        *,
        concurrency: int,
        burst: bool,
        alone: bool = False,
    ) -> None:
        self.desk = desk
        self.reading = reading
        self.slots = slots
        self.limits = limits
        self.concurrency = concurrency
        self.burst = burst
        #: Whether what runs here is noted in Redis first, because it may end us.
        self.isolated = alone
        self.free = list(range(concurrency))
        self.log = TaskLog()
        self.pauses = Pauses()
        self.stopping = False
        self.fenced = False
        self.drained = False
        self.room = Event()
        self.news = Event()
        self.young: list[Delivery] = []
        self.numbers = {stream: n for n, stream in enumerate(desk.intake.streams)}
        self.reader: gevent.Greenlet | None = None
        self.idle = False
        self.early = False
        self.ran = 0
        #: What ``ran`` was when messages went back; nothing is read ahead until it changes.
        self.calm = -1
        self.asked = self.came = 0.0
        self.speed = Speed()
        self.clocks = Clocks(concurrency, slots.asked_to_stop)
        self.pid = os.getpid()
        self.group = max(1, min(AT_ONCE, concurrency // 10))

    def stop(self) -> None:
        """Take no more messages.  Safe to call from a signal handler, and twice.

        The reader is not interrupted while it acknowledges messages: they would be lost.
        """
        self.stopping = True
        self.room.set()
        socket = self.reading.connection.socket
        if self.idle and socket is not None:
            with suppress(OSError):  # it is closed; we may be inside of any task
                socket.shutdown(SHUT_RDWR)

    def skip_turn(self) -> None:
        """There is no turn: a process with many greenlets always reads by itself."""

    def soft_limit(self) -> None:
        """Nothing to do: limits are watched by a greenlet."""

    def terminate(self) -> None:
        """Look which tasks are to be stopped.  For signal handlers."""
        self.clocks.look_soon()

    def run(self) -> None:
        """Work until stopped, or in a burst until nothing waits.  Raises Fenced."""
        self.property = Property(OWN.keep(*os.pipe()))
        self.persist(self.desk.open)
        duties = (self.read_on, self.settle_on, self.tell_on, self.clocks.watch)
        greenlets = self.reader, settler, teller, clock = [gevent.spawn(duty) for duty in duties]
        for greenlet in greenlets:
            greenlet.link_exception(lambda _: self.stop())  # the others cannot do without it
        self.reader.join()
        self.stopping = True
        self.hand_back(self.desk.hand_all_back)
        while len(self.free) < self.concurrency:
            self.room.clear()
            self.room.wait(1.0)
        self.drained = True
        self.news.set()
        settler.join()
        teller.kill()
        clock.kill()
        if self.fenced:
            raise Fenced(self.desk.consumer.name)
        for greenlet in greenlets:
            greenlet.get()  # raises what it has died of

    # Reading

    def read_on(self) -> None:
        """Read whenever there is room, or soon will be.

        While there is a backlog, or something is in hand, room is gathered for ``LULL``.
        """
        backlog = False
        while not self.stopping and not self.limits.reached(self.ran):
            wanted, due = self.wanted(), self.asked + LULL
            at_once = wanted >= self.group if backlog else not self.desk.unstarted
            if wanted < 1 or (not at_once and perf_counter() < due):
                self.bide(due if wanted > 0 else None)
                continue
            try:
                backlog = self.read()
                self.reached()
                if not backlog and self.burst and len(self.free) == self.concurrency:
                    return
            except Fenced:
                self.fence()
                return
            except (BrokerUnavailable, Refused) as error:
                self.idle, self.desk.broken = False, True
                self.reading.connection.drop()
                if isinstance(error, Disconnected) and error.timed_out:
                    self.desk.connect_anew()
                if not self.told_to_stop():
                    gevent.sleep(self.pauses.next(error))

    def told_to_stop(self) -> bool:
        """Whether ``stop`` was called meanwhile: it breaks the connection of the reader."""
        return self.stopping

    def wanted(self) -> int:
        """How many messages can be started now, or as tasks end within ``AHEAD``."""
        self.speed.look(self.ran)
        room = len(self.free) - len(self.desk.unstarted)
        if self.early or self.isolated or self.ran == self.calm:
            return room
        return room + min(MOST_AHEAD, int(self.speed.rate * AHEAD))

    def bide(self, due: float | None) -> None:
        """Wait for room, at most until ``due``.

        What was read ahead goes back when its time is up.
        """
        ends = [due] if due is not None else []
        if self.desk.unstarted:
            ends.append(self.came + HOLD)
        self.room.clear()
        if self.room.wait(max(0.0, min(ends) - perf_counter()) if ends else None):
            gevent.sleep(GATHER)
        if self.desk.unstarted and perf_counter() > self.came + HOLD:
            self.calm = self.ran
            self.hand_back(self.desk.hand_all_back)

    def read(self) -> bool:
        """Read once and start what came; tell whether more may be waiting."""
        self.asked = perf_counter()
        self.desk.repair()
        if not self.desk.intake.readable:
            raise Passing("no queue can be read")
        count, found = min(self.wanted(), AT_ONCE), 0
        for streams in self.desk.intake.groups(count):
            if found < count:
                found += self.ask(self.reading.read_command(streams, count - found), BLOCK)
        if not self.desk.unstarted and not self.burst and not self.stopping:
            command = self.reading.read_command(self.desk.intake.readable, 1, block=BLOCK)
            self.idle = True
            found += self.ask(command, BLOCK + BLOCK_MARGIN)
            self.idle = False
        elif not self.desk.unstarted:
            gevent.sleep(LULL)
        if found:
            self.came = perf_counter()
        if not self.stopping:
            self.start_all()
        return found > 0

    def ask(self, command: tuple[object, ...], timeout: float) -> int:
        connection = self.reading.connection
        connection.send([command, self.reading.revoked_command])
        reply = connection.read(timeout, raising=False)
        count = self.desk.take(reply, connection.read(raising=False), self.talk)
        if self.desk.ledger.finished:
            self.news.set()
        return count

    def talk(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Send commands on the connection of the reader."""
        return self.reading.perform(commands, ANSWER_TIMEOUT)

    def start_all(self) -> None:
        """Start what is on the desk, as far as there is room."""
        unstarted = self.desk.unstarted
        chosen: list[Delivery] = []
        while unstarted and len(chosen) < len(self.free):
            chosen.append(unstarted.popleft())
        early = deque(delivery for delivery in chosen if delivery.early)
        self.early = bool(early)
        self.start_each(delivery for delivery in chosen if not delivery.early)
        while early:
            size, part = 0, []
            while early and size < MOST_BYTES:
                size += early[0].size
                part.append(early.popleft())
            start = self.desk.begin(part)
            self.persist(partial(self.desk.complete, start))
            if start.mine is None:
                self.desk.give_up(start)
            self.start_each(start.mine or ())

    def start_each(self, deliveries: Iterable[Delivery]) -> None:
        """Run each of these in a greenlet of its own."""
        for delivery in deliveries:
            if self.isolated:
                self.persist(partial(self.desk.note_alone, delivery))
            slot = self.free.pop()
            self.occupy(slot, delivery)
            gevent.spawn_raw(self.work, slot, delivery)

    # Running

    def work(self, slot: int, delivery: Delivery | None) -> None:
        """Run messages in this slot, one after the other, while there are any."""
        try:
            while delivery is not None:
                self.execute(slot, delivery)
                delivery = self.next_in_hand()
                if delivery is not None:
                    self.occupy(slot, delivery)
                self.room.set()
        finally:
            self.slots.clear(slot)
            self.free.append(slot)
            self.room.set()

    def occupy(self, slot: int, delivery: Delivery) -> None:
        """Say that a message starts in this slot."""
        self.slots.start(slot, self.numbers[delivery.stream], delivery.entry, delivery.hard)
        self.desk.running.add(delivery)
        self.young.append(delivery)

    def next_in_hand(self) -> Delivery | None:
        """The next message that was read ahead, if it may start at once."""
        unstarted = self.desk.unstarted
        if self.stopping or not unstarted or unstarted[0].early:
            return None
        return unstarted.popleft()

    def execute(self, slot: int, delivery: Delivery) -> None:
        """Run one message and put its outcome on the desk."""
        desk = self.desk
        try:
            self.clocks.began(slot, delivery)
            try:
                outcome = desk.execution.run(delivery)
            except (SoftTimeLimitExceeded, Stopped) as error:  # on the way in, or out
                outcome = desk.execution.interrupted(delivery, error)
            self.clocks.ended(slot)
            if os.getpid() != self.pid:
                os._exit(STRAY)
            if self.property.stolen:  # the loop cannot do without; the task is charged with it
                logger.error("a task has closed the descriptors of runner %d", self.pid)
                os._exit(ROBBED)
            if outcome.release:
                self.hand_back(partial(desk.give_back, delivery))
            else:
                desk.ledger.finished.append(outcome)
                self.news.set()
            self.log.ended(outcome)
        finally:
            desk.running.discard(delivery)
            self.ran += 1

    # Settling

    def settle_on(self) -> None:
        """Settle what has finished, many at a time, until everything is."""
        while not (self.drained and self.desk.empty):
            self.news.wait(1.0)
            self.news.clear()
            gevent.sleep(GATHER)
            self.slots.ran = self.ran
            self.property.take_back()
            try:
                if self.desk.ledger.owes:
                    self.persist(self.desk.exchange)
            except Fenced:
                self.fence()
                return

    def tell_on(self) -> None:
        """Show in their records which tasks are running, once they run for a while."""
        while True:
            young, self.young = self.young, []
            gevent.sleep(WORTH_SAYING)
            shown = [each for each in young if each in self.desk.running]
            try:
                for start in range(0, len(shown), 100):
                    self.desk.show_started(shown[start : start + 100])
            except (BrokerUnavailable, Refused, Fenced):
                continue  # reading and settling meet the same fault, and deal with it

    def hand_back(self, act: Callable[[], object]) -> None:
        """Hand messages back in this way."""
        try:
            self.persist(act)
        except Fenced:
            self.fence()

    def fence(self) -> None:
        """Stop: we were declared dead.  What runs may end; others have everything that we hold."""
        self.fenced = True
        self.desk.unstarted.clear()
        self.stop()

    def persist(self, act: Callable[[], object]) -> None:
        """Do this; if Redis is away, wait until it is back.  A stop ends the wait."""
        while True:
            try:
                act()
            except (BrokerUnavailable, Refused) as error:
                self.slots.away(isinstance(error, BrokerUnavailable))
                pause = self.pauses.next(error)
                gevent.sleep(min(pause, STEP) if self.stopping else pause)
                if self.stopping and self.limits.out_of_patience(self.pauses.since):
                    return
            else:
                self.reached()
                return

    def reached(self) -> None:
        """Redis has answered, whichever greenlet asked: its supervisor keeps its lease."""
        if self.pauses.tries:
            self.slots.away(False)
            self.pauses.over()
