"""Many tasks at a time, each in a greenlet.

One greenlet reads, and one settles: two connections.  The standard library has been patched.
"""

import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import islice
from socket import SHUT_RDWR
from typing import Any

import gevent

from streamq.broker.consumer import MOST_BYTES, Consumer, Fenced
from streamq.core.delivery import Delivery
from streamq.errors import BrokerUnavailable
from streamq.host.clock import perf_counter
from streamq.runner.inherited import OWN
from streamq.runner.lifetime import Limits
from streamq.runner.pauses import Pauses
from streamq.runner.pools.greenlets import Crowd
from streamq.runner.pools.hub_watchdog import HubWatch
from streamq.runner.pools.read_size import AT_ONCE, Speed
from streamq.runner.prefetch import Desk
from streamq.runner.shared_memory import Slots
from streamq.runner.signals import Property
from streamq.transport.connection import ANSWER_TIMEOUT, BLOCK_MARGIN
from streamq.transport.replies import Disconnected, Passing, Refused

#: Seconds that a read blocks.
BLOCK = 5.0
#: Seconds for which room is gathered before a backlog is read, and outcomes before they are
#: settled: one command for many messages costs a fraction of many commands.
GATHER = 0.002
#: Seconds between tries to reach Redis for a runner that wants to end.
STEP = 0.1
#: Seconds that a task runs before its record says STARTED.
WORTH_SAYING = 0.25
#: Seconds after which a backlog is read for whatever room there is, however little.
LULL = 0.01
#: Seconds after which what was read ahead and not started goes back.  Tasks of one length end in
#: waves; with less, each wave would begin with nothing in hand.
HOLD = 0.05


class Greenlets:
    """Reads, runs and settles until it is stopped."""

    def __init__(
        self,
        desk: Desk,
        consumers: tuple[Consumer, Consumer],
        slots: Slots,
        limits: Limits,
        *,
        concurrency: int,
        burst: bool,
        alone: bool = False,
    ) -> None:
        self.desk = desk
        self.reading, beside = consumers
        self.slots = slots
        self.limits = limits
        self.burst = burst
        self.pauses = Pauses()
        self.stopping = False
        self.fenced = False
        self.drained = False
        self.reader: gevent.Greenlet | None = None
        self.idle = False
        self.early = False
        #: What ``ran`` was when messages went back; nothing is read ahead until it changes.
        self.calm = -1
        self.asked = self.came = 0.0
        self.speed = Speed()
        self.beside = HubWatch(beside, desk, slots, self.reading.connection)
        self.crowd = Crowd(desk, slots, self.beside, self.hand_back, concurrency, isolated=alone)
        self.room = self.crowd.room
        self.group = max(1, min(AT_ONCE, concurrency // 10))

    def stop(self) -> None:
        """Take no more messages.  Safe to call from a signal handler, and twice.

        The reader is not interrupted while it acknowledges messages: they would be lost.
        """
        self.stopping = self.crowd.stopping = True
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
        self.crowd.clocks.look_soon()

    def run(self) -> None:
        """Work until stopped, or in a burst until nothing waits.  Raises Fenced."""
        crowd, beside = self.crowd, self.beside
        crowd.property = Property(OWN.keep(*os.pipe()))
        self.persist(self.desk.open)
        duties = (self.read_on, self.settle_on, self.tell_on, crowd.clocks.watch, beside.beat_on)
        greenlets = self.reader, settler, *helpers = [gevent.spawn(duty) for duty in duties]
        for greenlet in greenlets:
            greenlet.link_exception(lambda _: self.stop())  # the others cannot do without it
        beside.start()
        self.reader.join()
        self.stopping = crowd.stopping = True
        self.hand_back(self.desk.hand_all_back)
        while crowd.busy:
            self.room.clear()
            self.room.wait(1.0)
        beside.stop()
        self.drained = True
        crowd.news.set()
        settler.join()
        gevent.killall(helpers)
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
        while not self.stopping and not self.limits.reached(self.crowd.ran):
            if self.slots.taken_away():
                self.speed.learn(late=True)
                self.beside.remove_mark()
            wanted, due = self.wanted(), self.asked + LULL
            at_once = wanted >= self.group if backlog else not self.ahead
            if wanted < 1 or (not at_once and perf_counter() < due):
                self.bide(due if wanted > 0 else None)
                continue
            try:
                backlog = self.read()
                self.reached()
                if self.burst and not (backlog or self.crowd.busy or self.slots.taken_away()):
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
        crowd = self.crowd
        self.speed.look(crowd.ran)
        room = crowd.room_for() - len(self.desk.unstarted) - len(self.desk.acknowledged)
        if self.early or crowd.isolated or crowd.ran == self.calm:
            return room
        return room + self.speed.ahead()

    @property
    def ahead(self) -> bool:
        """Whether more was read than there is room for."""
        return len(self.desk.unstarted) > self.crowd.waking

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
            self.calm = self.crowd.ran
            self.hand_back(self.desk.hand_all_back)

    def read(self) -> bool:
        """Read once and start what came; tell whether more may be waiting."""
        self.asked = perf_counter()
        self.desk.repair()
        if not self.desk.intake.readable:
            raise Passing("no queue can be read")
        if self.speed.careful:
            gevent.sleep(0)  # what was started last shows first whether it lets others run
        self.speed.learn(late=self.beside.has_lagged())
        count, found = min(self.wanted(), self.speed.most), 0
        for streams in self.desk.intake.groups(count):
            if found < count:
                found += self.ask(self.reading.read_command(streams, count - found), BLOCK)
        if not (found or self.ahead or self.burst or self.stopping):
            command = self.reading.read_command(self.desk.intake.readable, 1, block=BLOCK)
            self.idle = True
            found += self.ask(command, BLOCK + BLOCK_MARGIN)
            self.idle = False
        elif not (found or self.ahead):
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
        revoked = connection.read(raising=False)
        count = self.desk.take(reply, revoked, self.talk, self.beside.seen())
        if self.desk.ledger.finished:
            self.crowd.news.set()
        return count

    def talk(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Send commands on the connection of the reader."""
        return self.reading.perform(commands, ANSWER_TIMEOUT)

    def start_all(self) -> None:
        """Start what is on the desk, as far as there is room.

        Greenlets take it from there as they begin, in its order: until then it can go back.
        """
        unstarted, crowd = self.desk.unstarted, self.crowd
        chosen = islice(unstarted, crowd.room_for())
        early = deque(delivery for delivery in chosen if delivery.early)
        self.early = bool(early)
        for delivery in early:
            unstarted.remove(delivery)
        crowd.spawn()
        while early:
            size, part = 0, list[Delivery]()
            while early and size < MOST_BYTES:
                size += early[0].size
                part.append(early.popleft())
            start = self.desk.begin(part)
            self.persist(partial(self.desk.complete, start))
            if start.mine is None:
                self.desk.give_up(start)
            self.desk.acknowledged += start.mine or ()
            crowd.spawn()

    # Settling

    def settle_on(self) -> None:
        """Settle what has finished, many at a time, until everything is."""
        while not (self.drained and self.desk.empty):
            self.crowd.news.wait(1.0)
            self.crowd.news.clear()
            gevent.sleep(GATHER)
            self.slots.ran = self.crowd.ran
            self.crowd.property.take_back()
            try:
                if self.desk.ledger.owes:
                    self.persist(self.desk.exchange)
            except Fenced:
                self.fence()
                return

    def tell_on(self) -> None:
        """Show in their records which tasks are running, once they run for a while."""
        while True:
            young, self.crowd.young = self.crowd.young, []
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
        self.desk.acknowledged.clear()
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
