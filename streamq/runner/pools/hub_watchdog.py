"""The hub watchdog: hands messages back while one greenlet blocks all others.

An operating-system thread beside the hub hands back what the hub cannot start within ``LATE``
seconds: messages that wait for a greenlet, and those in a reply that was not read yet.  If a task
keeps the interpreter's lock, this thread cannot run either, and the supervisor does the same.

The hub notes each start in the shared memory and then looks for the taken mark; the thread sets
the mark and then looks which starts are noted.  So a message is started or handed back, never
both: while the mark is set the hub starts nothing, and the reader, between two reads, clears it
and asks Redis what is left of what it held.
"""

import logging
import math
from contextlib import suppress

import gevent
from gevent import monkey
from gevent.event import Event

from streamq.broker.consumer import Consumer, ConsumerFenced, Place
from streamq.core.text import count
from streamq.errors import BrokerUnavailable
from streamq.host.clock import monotonic, monotonic_ns
from streamq.runner.prefetch import PrefetchBuffer
from streamq.runner.shared_memory import SPARE, RunnerSlots
from streamq.transport.connection import Connection
from streamq.transport.replies import Refused

logger = logging.getLogger("streamq.worker")

# The functions of the system, unpatched.
start_thread = monkey.get_original("_thread", "start_new_thread")
new_lock = monkey.get_original("_thread", "allocate_lock")
sleep = monkey.get_original("time", "sleep")
new_poll = monkey.get_original("select", "poll")

#: Seconds between two heartbeats of the hub, and between two checks of the thread.
BEAT = 0.02
#: Seconds without a heartbeat after which messages that the hub has not started go back.
LATE = 0.05
#: Nanoseconds after which unstarted messages go back although the hub has heartbeats: longer than
#: the hub holds messages that were read ahead, which it hands back by itself.
HELD_TOO_LONG = 100_000_000
#: Pending messages of a stream that are checked beyond the number of slots.
EXTRA = 200
#: Seconds without a task after which hub and thread stop their checks until woken.
IDLE_AFTER = 1.0
#: Seconds until the thread hands back again behind the same task, unless a reply has come.
AGAIN = 0.5
#: Seconds without a check after one that failed.
PAUSE_AFTER_FAILURE = 0.5
#: Seconds for which nothing is handed back after an outcome was parked: its message has run, and
#: is neither running nor settled.
PAUSE_AFTER_PARKED = 60.0


class HubWatchdog:
    """The heartbeat of one hub, and the thread that checks it.

    ``consumer`` has a connection of its own; ``reading`` is the connection of the reader.
    """

    def __init__(
        self, consumer: Consumer, prefetch: PrefetchBuffer, slots: RunnerSlots, reading: Connection
    ) -> None:
        self.consumer = consumer
        self.prefetch = prefetch
        self.slots = slots
        self.reading = reading
        self.stream_numbers = prefetch.read_order.numbers
        #: The last heartbeat of the hub (monotonic s); infinity while nothing is checked.
        self.last_beat = math.inf
        #: The heartbeat before a gap that is not reported yet; None without a gap.
        self.missed_since: float | None = None
        #: Whether there was a gap since ``has_lagged`` was last asked.
        self.lagged = False
        #: Whether hub and thread wait for a task; what wakes the hub, and the thread.
        self.asleep = True
        self.woken = Event()
        self.thread_gate = new_lock()
        self.thread_gate.acquire()
        #: Held while the taken mark is removed, or a check begins to hand back.
        self.lock = new_lock()
        self.looking = False
        self.stopping = False
        #: Nothing is handed back before this moment (monotonic s).
        self.safe_after = 0.0
        #: Of the last hand-back: the last heartbeat before it, its moment, and whether an unread
        #: reply was there.
        self.last_look: tuple[float, float, bool] = (0.0, 0.0, False)
        #: Taken out of the buffer, and still to be handed back.
        self.to_release: list[Place] = []
        #: The number handed back, and a failure, for the hub to log: the thread cannot.
        self.handed_back = 0
        self.failure: Exception | None = None

    def start(self) -> None:
        """Start the thread."""
        start_thread(self.run, ())

    def stop(self) -> None:
        """End the thread."""
        self.stopping = True
        self.wake()

    # In the hub

    def beat_loop(self) -> None:
        """Record heartbeats while there are tasks.  Never returns."""
        busy = monotonic()
        while True:
            now = monotonic()
            if now - self.last_beat > LATE:
                self.missed_since, self.lagged = self.last_beat, True
            if self.prefetch.settlements.parked:
                self.safe_after = now + PAUSE_AFTER_PARKED
            sure = now > self.safe_after and len(self.prefetch.settlements.finished) < SPARE // 4
            self.last_beat = now if sure else math.inf
            self.slots.note_alive(sure)
            if self.failure is not None:
                logger.error("looking after the hub failed; it goes on", exc_info=self.failure)
                self.failure = None
            if self.prefetch.running or self.prefetch.unstarted:
                busy = now
            elif now - busy > IDLE_AFTER:
                self.sleep_idle()
                busy = monotonic()
            gevent.sleep(BEAT)

    def sleep_idle(self) -> None:
        """Stop heartbeats until a task starts."""
        self.last_beat, self.asleep = math.inf, True
        self.slots.note_alive(False)
        self.woken.clear()
        self.woken.wait()

    def wake(self) -> None:
        """Resume heartbeats and checks, as a task starts."""
        self.asleep, self.last_beat = False, monotonic()
        self.slots.note_alive(True)
        self.woken.set()
        if self.thread_gate.locked():
            self.thread_gate.release()

    def reply_moment(self) -> int:
        """A moment (monotonic ns) no later than the arrival of a reply that was just read."""
        late, self.missed_since = self.lag, None
        return monotonic_ns() - int(late * 1e9)

    def has_lagged(self) -> bool:
        """Whether heartbeats were more than ``LATE`` apart since this was last asked."""
        lagged, self.lagged = self.lagged or self.lag > 0, False
        return lagged

    @property
    def lag(self) -> float:
        """Seconds since the last heartbeat before a gap longer than ``LATE``; 0 without a gap."""
        now, since = monotonic(), self.last_beat
        if self.missed_since is not None:
            since = self.missed_since
        return now - since if now - since > LATE else 0.0

    def remove_mark(self) -> None:
        """Drop the unstarted messages, which were handed back, and clear the taken mark.

        Called by the reader, between two reads.
        """
        while True:
            with self.lock:
                if not self.looking:
                    self.prefetch.drop_unstarted()
                    self.slots.clear_taken()
                    break
            gevent.sleep(BEAT / 10)
        handed, self.handed_back = self.handed_back, 0
        if handed:
            logger.debug("%s handed back: a task lets nothing else run", count(handed, "message"))

    # In the thread

    def run(self) -> None:
        """Check until stopped."""
        while not self.stopping:
            if self.asleep:
                self.thread_gate.acquire()
                continue
            sleep(BEAT)
            try:
                self.check()
            except ConsumerFenced:
                return  # the hub meets the same error
            except (BrokerUnavailable, Refused):
                self.consumer.connection.drop()
                sleep(PAUSE_AFTER_FAILURE)  # the hub meets the same error, and handles it
            except Exception as error:
                self.failure = error
                self.consumer.connection.drop()
                sleep(PAUSE_AFTER_FAILURE)
        self.consumer.connection.drop()

    def check(self) -> None:
        """Hand back what the hub cannot start, if its heartbeat is late."""
        now, beat = monotonic(), self.last_beat
        if now - beat < LATE and not self.holds_too_long() and not self.to_release:
            self.consumer.connection.drop()
            return
        answered = self.has_unread_reply()
        known, moment, came = self.last_look
        if beat == known and now - moment < AGAIN and answered <= came and not self.to_release:
            return
        self.last_look = beat, now, answered
        with self.lock:
            self.looking = True
        try:
            self.hand_back()
        finally:
            self.looking = False

    def holds_too_long(self) -> bool:
        """Whether messages wait for too long, although the hub has heartbeats."""
        try:
            waits = monotonic_ns() - (self.prefetch.acknowledged or self.prefetch.unstarted)[0].seen
        except IndexError:
            return False
        return waits > HELD_TOO_LONG and not self.slots.is_taken()

    def has_unread_reply(self) -> bool:
        """Whether a reply has come that the hub has not read."""
        poll, opened = new_poll(), self.reading.socket
        try:
            poll.register(opened.fileno(), 1) if opened is not None else None
            return bool(poll.poll(0))
        except (OSError, ValueError):  # just closed
            return False

    def hand_back(self) -> None:
        """Hand back all that Redis lists as pending for us and that has not been started."""
        self.hand_back_acknowledged()
        expires = self.prefetch.executor.outcomes.expires
        held = self.consumer.held(self.prefetch.read_order.readable, self.slots.count + EXTRA)
        if self.not_started(held):
            self.slots.mark_taken()
            self.handed_back += self.consumer.release(self.not_started(held), expires)

    def hand_back_acknowledged(self) -> None:
        """Hand back messages that were acknowledged before their runs and not started.

        Once taken out of the buffer they are in ``to_release`` only, until Redis has answered.
        """
        with suppress(IndexError):
            while True:
                self.to_release.append(self.prefetch.acknowledged.pop().place)
        if self.to_release:
            expires = self.prefetch.executor.outcomes.expires
            self.handed_back += self.consumer.release(self.to_release[::-1], expires, "early")
            self.to_release.clear()

    def not_started(self, held: list[Place]) -> list[Place]:
        """The places, out of these, whose message has not been started."""
        started = self.slots.started_entries()
        return [place for place in held if (self.stream_numbers[place[0]], place[1]) not in started]
