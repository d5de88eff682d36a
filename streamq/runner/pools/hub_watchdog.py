"""Looking after a process of greenlets while one of them lets none of the others run.

A thread of the system, beside the hub, hands back what the hub cannot start within ``LATE``:
what waits for a greenlet, and what an answer has brought that nobody has read.  Where it
cannot run either, as a task keeps the interpreter's lock, the supervisor does the same.

The hub notes each start and then looks for a mark; the thread leaves the mark, and then looks
which starts are noted.  So a message is started or handed back, never both: while there is the
mark the hub starts nothing, and the reader, when it has nothing on its way, asks Redis what is
left of what it held.
"""

import logging
import math
from contextlib import suppress

import gevent
from gevent import monkey
from gevent.event import Event

from streamq.broker.consumer import Consumer, Fenced, Place
from streamq.core.text import count
from streamq.errors import BrokerUnavailable
from streamq.host.clock import monotonic, monotonic_ns
from streamq.runner.prefetch import Desk
from streamq.runner.shared_memory import SPARE, Slots
from streamq.transport.connection import Connection
from streamq.transport.replies import Refused

logger = logging.getLogger("streamq.worker")

# Those of the system, whatever has been patched.
start_thread = monkey.get_original("_thread", "start_new_thread")
new_lock = monkey.get_original("_thread", "allocate_lock")
sleep = monkey.get_original("time", "sleep")
new_poll = monkey.get_original("select", "poll")

#: Seconds between two signs of life of the hub, and between two looks of the thread.
BEAT = 0.02
#: Seconds without one after which what the hub has not started goes back.
LATE = 0.05
#: Nanoseconds after which what was read goes back although the hub lives: longer than what is read
#: ahead is held, which the hub hands back by itself.
CROWDED = 100_000_000
#: Messages of a stream that are looked at beside as many as can run.
MORE = 200
#: Seconds without a task after which both sleep until they are woken.
LINGER = 1.0
#: Seconds after which the thread looks again behind the same task, unless an answer has come.
AGAIN = 0.5
#: Seconds without a look after one that failed.
AFTER_A_FAILURE = 0.5
#: Seconds for which nothing is handed back after an outcome could not be settled: its message
#: has run, and is neither running nor settled.
AFTER_AN_ODD_ONE = 60.0


class HubWatch:
    """The signs of life of one hub, and the thread that looks for them.

    ``consumer`` has a connection of its own; ``reading`` is the one on which the hub reads.
    """

    def __init__(self, consumer: Consumer, desk: Desk, slots: Slots, reading: Connection) -> None:
        self.consumer = consumer
        self.desk = desk
        self.slots = slots
        self.reading = reading
        self.numbers = {stream: n for n, stream in enumerate(desk.intake.streams)}
        #: When the hub was seen to live; infinity while nobody looks.
        self.beat = math.inf
        #: Since when the hub had not lived when it did again; None if it lived all the time.
        self.missed: float | None = None
        #: Whether it had not since somebody asked last.
        self.lagged = False
        self.asleep = True
        self.woken = Event()
        self.gate = new_lock()
        self.gate.acquire()
        #: Held while the mark is removed, or a look begins.
        self.lock = new_lock()
        self.looking = False
        self.stopping = False
        self.certain = 0.0
        #: The sign of life behind which the thread looked last, when, and whether an answer had
        #: come by then.
        self.looked: tuple[float, float, bool] = (0.0, 0.0, False)
        #: What is taken off the desk and is still to be handed back.
        self.owed: list[Place] = []
        #: What was handed back, and failures, for the hub to tell: the thread cannot log.
        self.handed = 0
        self.failure: Exception | None = None

    def start(self) -> None:
        """Begin to look."""
        start_thread(self.run, ())

    def stop(self) -> None:
        """End the thread."""
        self.stopping = True
        self.wake()

    # In the hub

    def beat_on(self) -> None:
        """Give signs of life while there are tasks."""
        busy = monotonic()
        while True:
            now = monotonic()
            if now - self.beat > LATE:
                self.missed, self.lagged = self.beat, True
            if self.desk.ledger.aside:
                self.certain = now + AFTER_AN_ODD_ONE
            sure = now > self.certain and len(self.desk.ledger.finished) < SPARE // 4
            self.beat = now if sure else math.inf
            self.slots.beats(sure)
            if self.failure is not None:
                logger.error("looking after the hub failed; it goes on", exc_info=self.failure)
                self.failure = None
            if self.desk.running or self.desk.unstarted:
                busy = now
            elif now - busy > LINGER:
                self.rest()
                busy = monotonic()
            gevent.sleep(BEAT)

    def rest(self) -> None:
        """Wait for a task."""
        self.beat, self.asleep = math.inf, True
        self.slots.beats(False)
        self.woken.clear()
        self.woken.wait()

    def wake(self) -> None:
        """A task starts, and we sleep."""
        self.asleep, self.beat = False, monotonic()
        self.slots.beats(True)
        self.woken.set()
        if self.gate.locked():
            self.gate.release()

    def seen(self) -> int:
        """A moment (monotonic ns) that is no later than an answer that has come just now."""
        late, self.missed = self.late, None
        return monotonic_ns() - int(late * 1e9)

    def has_lagged(self) -> bool:
        """Whether the hub had not lived for too long, since this was asked last."""
        lagged, self.lagged = self.lagged or self.late > 0, False
        return lagged

    @property
    def late(self) -> float:
        """Seconds since the hub had not lived for too long; 0 if it has all the time."""
        now, since = monotonic(), self.beat
        if self.missed is not None:
            since = self.missed
        return now - since if now - since > LATE else 0.0

    def remove_mark(self) -> None:
        """Take note that messages were taken from us: what was not started is not ours any more.

        For the reader, while it has nothing on its way.
        """
        while True:
            with self.lock:
                if not self.looking:
                    self.desk.lose_unstarted()
                    self.slots.notice()
                    break
            gevent.sleep(BEAT / 10)
        handed, self.handed = self.handed, 0
        if handed:
            logger.debug("%s handed back: a task lets nothing else run", count(handed, "message"))

    # In the thread

    def run(self) -> None:
        """Look until stopped."""
        while not self.stopping:
            if self.asleep:
                self.gate.acquire()
                continue
            sleep(BEAT)
            try:
                self.look()
            except Fenced:
                return  # the hub finds out by itself
            except (BrokerUnavailable, Refused):
                self.consumer.connection.drop()
                sleep(AFTER_A_FAILURE)  # the hub meets the same fault, and deals with it
            except Exception as error:
                self.failure = error
                self.consumer.connection.drop()
                sleep(AFTER_A_FAILURE)
        self.consumer.connection.drop()

    def look(self) -> None:
        """Hand back what the hub cannot start, if it has given no sign of life for too long."""
        now, beat = monotonic(), self.beat
        if now - beat < LATE and not self.is_crowded() and not self.owed:
            self.consumer.connection.drop()
            return
        answered = self.answered()
        known, moment, came = self.looked
        if beat == known and now - moment < AGAIN and answered <= came and not self.owed:
            return
        self.looked = beat, now, answered
        with self.lock:
            self.looking = True
        try:
            self.hand_back()
        finally:
            self.looking = False

    def is_crowded(self) -> bool:
        """Whether the hub lives, and still has not come to what has waited for long."""
        try:
            waits = monotonic_ns() - (self.desk.acknowledged or self.desk.unstarted)[0].seen
        except IndexError:
            return False
        return waits > CROWDED and not self.slots.taken_away()

    def answered(self) -> bool:
        """Whether an answer has come that the hub has not read."""
        poll, opened = new_poll(), self.reading.socket
        try:
            poll.register(opened.fileno(), 1) if opened is not None else None
            return bool(poll.poll(0))
        except (OSError, ValueError):  # it is closed just now
            return False

    def hand_back(self) -> None:
        """Hand back whatever Redis says that we hold and that has not been started."""
        self.hand_back_acknowledged()
        expires = self.desk.execution.endings.expires
        held = self.consumer.held(self.desk.intake.readable, self.slots.count + MORE)
        if self.unstarted(held):
            self.slots.take_away()
            self.handed += self.consumer.release(self.unstarted(held), expires)

    def hand_back_acknowledged(self) -> None:
        """Hand back what was acknowledged before its run and is not taken from the desk for it.

        Whatever is not answered is asked for again: who takes it off the desk answers for it.
        """
        with suppress(IndexError):
            while True:
                self.owed.append(self.desk.acknowledged.pop().place)
        if self.owed:
            expires = self.desk.execution.endings.expires
            self.handed += self.consumer.release(self.owed[::-1], expires, "early")
            self.owed.clear()

    def unstarted(self, held: list[Place]) -> list[Place]:
        """Those of these places whose message has not been started."""
        started = self.slots.noted()
        return [place for place in held if (self.numbers[place[0]], place[1]) not in started]
