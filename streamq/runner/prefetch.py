"""What one runner has in hand, and its dealings with Redis about it.

Messages come in as *unstarted*, run, and wait as *finished* until they are settled.  The
one who runs tasks and the one who looks after the desk meanwhile both take from the same
deques, so that a message is started or handed back, never both; a lock keeps them from
speaking on the connection at the same time.
"""

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from streamq.broker.consumer import (
    MOST_SETTLED,
    Consumer,
    Fenced,
    Place,
    Start,
    doubtful,
)
from streamq.core.delivery import Delivery
from streamq.execution.executor import Execution
from streamq.host.clock import monotonic, monotonic_ns
from streamq.runner.settlements import Ledger
from streamq.runner.sources import Intake
from streamq.transport.connection import ANSWER_TIMEOUT, BLOCK_MARGIN
from streamq.transport.replies import Passing, Refused, named

logger = logging.getLogger("streamq.worker")

#: Sends commands in one packet and returns their replies.
Talk = Callable[[list[tuple[Any, ...]]], list[Any]]

#: Codes of a read from a queue that is not there, or is no stream.
UNREADABLE = ("NOGROUP", "WRONGTYPE")

#: Why a message is not run, by the letter that screen.lua answers.
REASONS = {"r": b"revoked", "e": b"expired"}


class Desk:
    """One consumer, the messages it holds, and the way to be rid of them."""

    def __init__(
        self,
        consumer: Consumer,
        intake: Intake,
        execution: Execution,
        *,
        lease: float,
        declare: Callable[[], None],
        repairs_itself: bool = True,
    ) -> None:
        self.consumer = consumer
        self.intake = intake
        self.execution = execution
        self.lease = lease
        self.declare = declare
        self.repairs_itself = repairs_itself
        self.unstarted: deque[Delivery] = deque()
        #: What was acknowledged before it runs, where several are at a time, and has not started.
        self.acknowledged: deque[Delivery] = deque()
        self.running: set[Delivery] = set()
        self.ledger = Ledger(consumer)
        self.lock = threading.RLock()
        self.broken = False
        self.compared = monotonic()

    def open(self) -> None:
        """Take a lease, or make sure of it, and of the streams.  Raises Fenced."""
        with self.lock:
            self.consumer.register(self.lease)
            self.leave_out_foreign()
            self.declare()

    def leave_out_foreign(self) -> None:
        """Read no queue of which a key holds something else, and say so once."""
        before, foreign = self.intake.left_out, {}
        for stream in self.consumer.foreign(self.intake.streams):
            foreign[stream.partition(":")[0]] = stream
        for queue in foreign.keys() - before:
            key = self.consumer.keys.queue(foreign[queue])
            logger.error("%s is no stream: queue %s is not read until that is gone", key, queue)
        for queue in before - foreign.keys():
            logger.warning("queue %s is read again", queue)
        self.intake.left_out = set(foreign)

    # Reading and settling

    def fetch(self, count: int) -> None:
        """Settle what has finished and read up to about ``count`` waiting messages, at once."""
        for streams in self.intake.groups(count):
            wanted = count - len(self.unstarted)
            if wanted <= 0:
                return
            self.exchange(self.consumer.read_command(streams, wanted))

    def exchange(self, read: tuple[Any, ...] | None = None) -> None:
        """Settle what has finished, and read, in one round trip."""
        with self.lock:
            self.repair_if_mine()
            self.settle(read)

    def settle(self, read: tuple[Any, ...] | None = None) -> None:
        """The same without looking for what may have been lost.

        For the one who looks after the desk: while a message is on its way from *unstarted*
        to *running*, only who carries it may compare what we hold with what Redis says.
        """
        with self.lock:
            settlement = self.ledger.next()
            commands = [self.consumer.settle_command(settlement)] if settlement else []
            if read is not None:
                commands += (read, self.consumer.revoked_command)
            if not commands:
                return
            replies = self.talk(commands)
            if read is not None:
                revoked = replies.pop()
                self.take(replies.pop(), revoked)
            if settlement is not None:
                self.ledger.heed(settlement, replies.pop())
            if self.ledger.finished and read is None:
                self.settle()

    def block(self, seconds: float) -> None:
        """Settle, and send a read that waits for one message; ``arrived`` must follow."""
        with self.lock:
            self.repair_if_mine()
            settlement = self.ledger.next()
            if self.ledger.finished:  # more than one call may settle
                self.exchange()
                settlement = None
            commands = [self.consumer.settle_command(settlement)] if settlement else []
            streams = self.intake.readable
            if not streams:
                raise Passing("no queue can be read")
            read = self.consumer.read_command(streams, 1, block=seconds)
            last = (read, self.consumer.revoked_command)
            replies = self.talk(commands, last)
            if settlement is not None:
                self.ledger.heed(settlement, replies.pop())

    def arrived(self, *, late: bool = True) -> None:
        """Take the answer of ``block``, which is there, or is waited for no more if it is late."""
        with self.lock:
            read, timeout = self.consumer.connection.read, BLOCK_MARGIN if late else ANSWER_TIMEOUT
            try:
                reply, revoked = read(timeout, raising=False), read(timeout, raising=False)
            except BaseException as error:
                self.doubt(error)
                raise
            self.take(reply, revoked)

    def talk(
        self, commands: list[tuple[Any, ...]], last: Sequence[tuple[Any, ...]] = ()
    ) -> list[Any]:
        """Send commands and return their replies; remember if the connection broke."""
        try:
            return self.consumer.perform(commands, ANSWER_TIMEOUT, last)
        except BaseException as error:
            self.doubt(error)
            raise

    def doubt(self, error: BaseException) -> None:
        """Whatever is interrupted leaves in doubt what Redis has given us."""
        if not isinstance(error, Fenced):
            self.broken = True
            self.consumer.connection.drop()

    def connect_anew(self) -> None:
        """Another connection of ours has died in silence: this one may be as dead."""
        with self.lock:
            self.consumer.connection.drop()

    def take(
        self, reply: Any, revoked: Any, talk: Talk | None = None, seen: int | None = None
    ) -> int:
        """Put what was read on the desk; return how much that was.

        ``revoked`` is the answer to what is revoked, and was given no earlier than ``seen``;
        ``talk`` sends commands on the connection that was read from.
        """
        if isinstance(reply, Refused) and reply.code == "NOGROUP" and self.intake.alone:
            return 0  # nobody has been suspected in this queue yet
        if isinstance(reply, Refused) and reply.code in UNREADABLE:
            self.open()
            raise Passing(f"a queue could not be read: {reply}")  # not to ask again at once
        if isinstance(reply, Exception):
            raise reply
        if isinstance(revoked, Exception):
            raise named(revoked, self.consumer.revoked_command)
        deliveries = self.consumer.deliveries(reply)
        if deliveries:
            self.intake.gave(deliveries[-1].stream)
        now = monotonic_ns() if seen is None else seen
        for delivery in deliveries:
            self.execution.admit(delivery)
            delivery.seen = now
        self.unstarted += self.screened(deliveries, talk or self.talk, revoked)
        return len(deliveries)

    def screened(
        self, deliveries: list[Delivery], talk: Talk, revoked: list[bytes] | None
    ) -> list[Delivery]:
        """Those of the messages that may run; what is revoked or has expired is finished."""
        asked = doubtful(deliveries, revoked)
        if not asked:
            return deliveries
        unfit = self.unfit(asked, talk)
        for delivery, reason in unfit.items():
            delivery.early = False  # it is still to be acknowledged
            self.drop(delivery, reason)
        return [delivery for delivery in deliveries if delivery not in unfit]

    def unfit(self, asked: Sequence[Delivery], talk: Talk) -> dict[Delivery, bytes]:
        """Ask Redis which of these messages must not run, and why."""
        answer = talk([self.consumer.screen_command(asked)])[0]
        if isinstance(answer, Exception):
            raise answer
        return {
            delivery: REASONS[letter]
            for delivery, letter in zip(asked, answer.decode(), strict=True)
            if letter != "1"
        }

    def drop(self, delivery: Delivery, reason: bytes) -> None:
        """Finish a message that must not run."""
        delivery.seen = 0
        self.ledger.finished.append(self.execution.endings.revoked(delivery, reason))
        logger.info("%s is not run: %s", delivery.title, reason.decode())

    def look_again(self, *held: Delivery) -> None:
        """Ask once more about what was read a while ago, and finish what must not run any more.

        ``held`` are in the hands of whoever asks; of those, what was never ``seen`` is finished.
        """
        with self.lock:
            waiting = (*held, *self.acknowledged, *self.unstarted)
            now = monotonic_ns()
            asked = [each for each in waiting if each.is_stale(now)]
            unfit = self.unfit(asked, self.talk) if asked else {}
            now = monotonic_ns()
            for delivery in asked:
                if delivery not in unfit:
                    delivery.seen = now
                elif delivery in held or self.withdraw(delivery):
                    self.drop(delivery, unfit[delivery])

    def withdraw(self, delivery: Delivery) -> bool:
        """Take a message off the desk; False if it has been handed back meanwhile."""
        with contextlib.suppress(ValueError):
            self.acknowledged.remove(delivery)
            return True
        with contextlib.suppress(ValueError):
            self.unstarted.remove(delivery)
            delivery.early = False  # it is still to be acknowledged
            return True
        return False

    # Starting and handing back

    def begin(self, deliveries: Sequence[Delivery]) -> Start:
        """Ask for messages to be acknowledged before they run; ``complete`` must follow."""
        start = Start(deliveries)
        self.ledger.starts.append(start)
        return start

    def complete(self, start: Start) -> None:
        """Settle until this start is answered.  May be called again after a failure."""
        while start.mine is None:
            self.exchange()

    def give_up(self, start: Start) -> None:
        """Wait no longer for this start: what is still ours is handed back."""
        with self.lock:
            self.ledger.forget(start)
            self.unstarted.extendleft(reversed(start.deliveries))

    def show_started(self, deliveries: Sequence[Delivery]) -> None:
        """Show in their records that these messages are running, if they still are."""
        with self.lock:
            command = self.consumer.show_started_command(self.running.intersection(deliveries))
            if command is not None:
                self.talk([command])

    def note_alone(self, delivery: Delivery) -> None:
        """Note in Redis that this message runs with nothing beside it."""
        with self.lock:
            reply = self.talk([self.consumer.alone_command(delivery)])[0]
            if isinstance(reply, Exception):
                raise reply

    def hand_back(self) -> int:
        """Give back whatever has not been started; return how much that was."""
        with self.lock:
            returned: list[Delivery] = []
            while len(returned) < MOST_SETTLED:
                try:
                    returned.append(self.unstarted.pop())
                except IndexError:
                    break
            if not returned:
                return 0
            returned.reverse()
            expires = self.execution.endings.expires
            self.return_by(self.consumer.release_command([d.place for d in returned], expires))
            return len(returned)

    def hand_all_back(self) -> None:
        """Give back everything that has not been started."""
        while self.hand_back():
            pass

    def give_back(self, delivery: Delivery) -> None:
        """Give back what its task has rejected.

        The queue may be gone, or be something else by now: then nothing else waits for that.
        """
        try:
            self.return_by(self.consumer.reject_command(delivery, self.execution.endings.expires))
        except Refused as error:
            logger.error("%s cannot go back to its queue: %s", delivery.title, error)

    def return_by(self, command: tuple[Any, ...]) -> None:
        """Give back by this call.  What fails to go back is found again by ``repair``."""
        with self.lock:
            reply = self.talk([command])[0]
            if isinstance(reply, Exception):
                self.broken = True
                raise reply

    def lose_unstarted(self) -> None:
        """Drop what has not been started: somebody else has given it back.

        Waits for nobody: nothing of it may start meanwhile.
        """
        self.unstarted.clear()
        self.broken = True  # what was not given back is found again

    # What Redis gave us and we do not have

    def repair_if_mine(self) -> None:
        """Repair, unless whoever reads does that between two reads."""
        if self.repairs_itself and (self.broken or monotonic() - self.compared > self.lease):
            self.repair()

    def repair(self) -> None:
        """Find what Redis has given us in answers that were lost.

        Looks after every broken connection; and once a lease, because a connection that
        the server does not know to be dead may take a message later.
        """
        if self.broken or monotonic() - self.compared > self.lease:
            with self.lock:
                self.compare()

    def compare(self) -> None:
        """Take from Redis's list of what we hold whatever is not in hand."""
        if not self.consumer.has_lease():
            raise Fenced(self.consumer.name)
        if self.intake.left_out:
            self.open()
        for stream in self.intake.readable:
            held = {
                (each.stream, each.entry) for each in self.in_hand()
            }  # and may be settled by then
            command = self.consumer.read_command([stream], 10_000, since="0")
            reply = self.consumer.perform([command], ANSWER_TIMEOUT)[0]
            if isinstance(reply, Refused) and reply.code in UNREADABLE:
                self.open()
                continue
            if isinstance(reply, Exception):
                raise reply
            self.reclaim(self.consumer.deliveries(reply), held)
        self.broken, self.compared = False, monotonic()

    def reclaim(self, pending: list[Delivery], held: set[Place]) -> None:
        """Put on the desk what is ours and was not in hand when Redis was asked for it."""
        found = [each for each in pending if each.place not in held]
        now = monotonic_ns()
        for delivery in found:
            self.execution.admit(delivery)
            delivery.seen = now
        self.unstarted += self.screened(found, self.talk, None)

    def in_hand(self) -> list[Delivery]:
        """Every message that this runner knows it holds."""
        ledger = self.ledger
        return [*self.unstarted, *ledger.starting(), *self.running, *ledger.settling()]

    @property
    def empty(self) -> bool:
        """Whether nothing is in hand but what cannot be settled now."""
        return not (self.unstarted or self.running) and self.ledger.settled
