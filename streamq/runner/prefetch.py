"""The prefetch buffer: messages that a runner has read and not settled yet.

A message is in one place at a time:

    unstarted     read, nothing done yet; goes back to its stream if it cannot start soon
    starting      taken out to be acknowledged before its run; Redis has not answered
    acknowledged  acknowledged before its run and not begun (pools of many tasks only)
    running       in the hands of the thread or greenlet that runs its task
    finished      has an outcome, which waits for the next settlement
    unanswered    its outcome was sent to Redis; the same settlement is repeated until answered
    parked        its outcome could not be settled, as a key is of the wrong type; tried again

      read              popleft            outcome             settle
    -------> unstarted ---------> running --------> finished --------> unanswered ---> settled
              | |  ^               |   ^             ^    ^                 |
    hand_back | |  | cancel_start  |   |             |    | after 30 s      | wrong type
              v |  |        reject |   |             |    +---- parked <----+
         stream |  |               v   |             |
                |  |          stream   |             |
                +--+--> starting --> acknowledged    |
                |  request_start                     |
                +-----> revoked or expired ----------+

Messages are started by the thread that runs tasks, or by the greenlets that do: they take from
the left of ``acknowledged`` or ``unstarted``, add to ``running``, append to ``finished``.  Messages
are handed back by a watchdog too: it takes from the right.  Each ``pop`` of a deque is atomic, so
a message is started or handed back, never both.  The lock is for the connection: it is held while
commands are sent and answered, so that one settlement at a time is on its way.

Messages in a reply that was lost are in none of these places: ``repair`` finds them in Redis's
list of what we hold.  Between ``unstarted`` and ``running`` a message is in no place either, for a
moment, so only the thread that starts messages may repair, or the reader of a greenlet pool.
"""

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from streamq.broker.consumer import MOST_SETTLED, Consumer, ConsumerFenced, Place, Start, doubtful
from streamq.core.delivery import Delivery
from streamq.execution.executor import Executor
from streamq.execution.not_run import send_revoked
from streamq.host.clock import monotonic, monotonic_ns
from streamq.runner.settlements import SettlementQueue
from streamq.runner.sources import ReadOrder
from streamq.runner.start_check import SendCommands, not_runnable
from streamq.transport.connection import ANSWER_TIMEOUT, BLOCK_MARGIN
from streamq.transport.replies import Refused, Transient, named

logger = logging.getLogger("streamq.worker")

#: Error codes of a read from a queue that does not exist, or is no stream.
UNREADABLE = ("NOGROUP", "WRONGTYPE")


class QueuesUnreadable(Transient):
    """Redis answers, but no queue can be read at the moment; the next read waits."""


class PrefetchBuffer:
    """The messages of one consumer, and the commands that read, settle and return them.

    ``lease`` is in seconds; ``declare`` makes sure that the queues exist.  ``repairs_itself``: each
    exchange repairs if that is due; otherwise the reader calls ``repair``.
    """

    def __init__(
        self,
        consumer: Consumer,
        read_order: ReadOrder,
        executor: Executor,
        *,
        lease: float,
        declare: Callable[[], None],
        repairs_itself: bool = True,
    ) -> None:
        self.consumer = consumer
        self.read_order = read_order
        self.executor = executor
        self.lease = lease
        self.declare = declare
        self.repairs_itself = repairs_itself
        self.unstarted: deque[Delivery] = deque()
        #: Acknowledged before their runs, and not started: where several tasks run at a time.
        self.acknowledged: deque[Delivery] = deque()
        self.running: set[Delivery] = set()
        self.settlements = SettlementQueue(consumer)
        self.lock = threading.RLock()
        #: Whether a reply may have been lost, and when we last compared with Redis (monotonic s).
        self.broken = False
        self.compared_at = monotonic()

    def open(self) -> None:
        """Take or check the lease, and declare the queues.  Raises ConsumerFenced."""
        with self.lock:
            self.consumer.register(self.lease)
            self.read_order.skip(
                self.consumer.streams_of_wrong_type(self.read_order.streams),
                self.consumer.keys.queue,
            )
            self.declare()

    # Reading and settling

    def fetch(self, count: int) -> None:
        """Settle what has finished and read about ``count`` waiting messages, without blocking."""
        for streams in self.read_order.groups(count):
            wanted = count - len(self.unstarted)
            if wanted <= 0:
                return
            self.exchange(self.consumer.read_command(streams, wanted))

    def exchange(self, read: tuple[Any, ...] | None = None) -> None:
        """Settle what has finished, and read, in one round trip."""
        with self.lock:
            self.repair_if_due()
            self.settle(read)

    def settle(self, read: tuple[Any, ...] | None = None) -> None:
        """Settle and read without a repair: the watchdog may call this while tasks start."""
        with self.lock:
            settlement = self.settlements.next()
            commands = [self.consumer.settle_command(settlement)] if settlement else []
            if read is not None:
                commands += (read, self.consumer.revoked_command)
            if not commands:
                return
            replies = self.send_commands(commands)
            if read is not None:
                revoked = replies.pop()
                self.add_reply(replies.pop(), revoked)
            if settlement is not None:
                self.settlements.apply(settlement, replies.pop())
            if self.settlements.finished and read is None:
                self.settle()

    def block(self, seconds: float) -> None:
        """Settle, and send a read that blocks up to ``seconds``; ``receive`` must follow."""
        with self.lock:
            self.repair_if_due()
            settlement = self.settlements.next()
            if self.settlements.finished:  # more than one settlement can take
                self.exchange()
                settlement = None
            commands = [self.consumer.settle_command(settlement)] if settlement else []
            streams = self.read_order.readable
            if not streams:
                raise QueuesUnreadable("no queue can be read")
            read = self.consumer.read_command(streams, 1, block=seconds)
            last = (read, self.consumer.revoked_command)
            replies = self.send_commands(commands, last)
            if settlement is not None:
                self.settlements.apply(settlement, replies.pop())

    def receive(self, *, late: bool = True) -> None:
        """Read the reply to ``block``; ``late``: the block is over, wait only for the margin."""
        with self.lock:
            read, timeout = self.consumer.connection.read, BLOCK_MARGIN if late else ANSWER_TIMEOUT
            try:
                reply, revoked = read(timeout, raising=False), read(timeout, raising=False)
            except BaseException as error:
                self.mark_broken(error)
                raise
            self.add_reply(reply, revoked)

    def send_commands(
        self, commands: list[tuple[Any, ...]], last: Sequence[tuple[Any, ...]] = ()
    ) -> list[Any]:
        """Send commands and return their replies; mark the buffer broken on any failure."""
        try:
            return self.consumer.perform(commands, ANSWER_TIMEOUT, last)
        except BaseException as error:
            self.mark_broken(error)
            raise

    def mark_broken(self, error: BaseException) -> None:
        """Drop the connection after an error: a reply that held messages may be lost."""
        if not isinstance(error, ConsumerFenced):
            self.broken = True
            self.consumer.connection.drop()

    def reconnect(self) -> None:
        """Drop the connection: another one to this server has timed out without an error."""
        with self.lock:
            self.consumer.connection.drop()

    def add_reply(
        self, reply: Any, revoked: Any, send: SendCommands | None = None, seen: int | None = None
    ) -> int:
        """Add the messages of a reply to ``unstarted``; return how many the reply held.

        ``revoked`` is the reply about revoked ids, given no earlier than ``seen`` (monotonic ns);
        ``send`` uses the connection that was read from.
        """
        if isinstance(reply, Refused) and reply.code == "NOGROUP" and self.read_order.quarantine:
            return 0  # nothing has been quarantined in this queue yet
        if isinstance(reply, Refused) and reply.code in UNREADABLE:
            self.open()  # the error makes the next read wait
            raise QueuesUnreadable(f"a queue could not be read: {reply}")
        if isinstance(reply, Exception):
            raise reply
        if isinstance(revoked, Exception):
            raise named(revoked, self.consumer.revoked_command)
        deliveries = self.consumer.deliveries(reply)
        if deliveries:
            self.read_order.advance(deliveries[-1].stream)
        now = monotonic_ns() if seen is None else seen
        for delivery in deliveries:
            self.executor.admit(delivery)
            delivery.seen = now
        self.unstarted += self.runnable(deliveries, send or self.send_commands, revoked)
        return len(deliveries)

    def runnable(
        self, deliveries: list[Delivery], send: SendCommands, revoked: list[bytes] | None
    ) -> list[Delivery]:
        """Return the messages that may run; revoked and expired ones are finished."""
        asked = doubtful(deliveries, revoked)
        if not asked:
            return deliveries
        rejected = not_runnable(self.consumer, asked, send)
        for delivery, reason in rejected.items():
            delivery.early = False  # it is still to be acknowledged
            self.drop(delivery, reason)
        return [delivery for delivery in deliveries if delivery not in rejected]

    def drop(self, delivery: Delivery, reason: bytes) -> None:
        """Finish a message that must not run: it is settled as revoked or expired."""
        delivery.seen = 0
        outcome = self.executor.outcomes.revoked(delivery, reason)
        self.settlements.finished.append(outcome)
        logger.info("%s is not run: %s", delivery.title, reason.decode())
        send_revoked(self.executor, outcome)

    def recheck(self, *held: Delivery) -> None:
        """Ask again whether stale messages may run, and finish those that may not.

        ``held`` are messages that the caller has taken out; a finished one has ``seen`` 0.
        """
        with self.lock:
            waiting = (*held, *self.acknowledged, *self.unstarted)
            now = monotonic_ns()
            asked = [each for each in waiting if each.needs_recheck(now)]
            rejected = not_runnable(self.consumer, asked, self.send_commands) if asked else {}
            now = monotonic_ns()
            for delivery in asked:
                if delivery not in rejected:
                    delivery.seen = now
                elif delivery in held or self.remove(delivery):
                    self.drop(delivery, rejected[delivery])

    def remove(self, delivery: Delivery) -> bool:
        """Take a message out of the buffer; return False if it was handed back meanwhile."""
        with contextlib.suppress(ValueError):
            self.acknowledged.remove(delivery)
            return True
        with contextlib.suppress(ValueError):
            self.unstarted.remove(delivery)
            delivery.early = False  # it is still to be acknowledged
            return True
        return False

    # Starting and handing back

    def request_start(self, deliveries: Sequence[Delivery]) -> Start:
        """Queue messages for acknowledgement before they run; ``await_start`` must follow."""
        start = Start(deliveries)
        self.settlements.starts.append(start)
        return start

    def await_start(self, start: Start) -> None:
        """Settle until this start is answered; may be called again after a failure."""
        while start.mine is None:
            self.exchange()

    def cancel_start(self, start: Start) -> None:
        """Cancel an unanswered start: its messages are unstarted again, to be handed back."""
        with self.lock:
            self.settlements.cancel_start(start)
            self.unstarted.extendleft(reversed(start.deliveries))

    def mark_started(self, deliveries: Sequence[Delivery]) -> None:
        """Set the records of those of these messages that still run to STARTED."""
        with self.lock:
            command = self.consumer.mark_started_command(self.running.intersection(deliveries))
            if command is not None:
                self.send_commands([command])

    def note_sole_task(self, delivery: Delivery) -> None:
        """Note in Redis that this message is the sole task of this consumer."""
        with self.lock:
            reply = self.send_commands([self.consumer.sole_task_command(delivery)])[0]
            if isinstance(reply, Exception):
                raise reply

    def hand_back(self) -> int:
        """Hand back unstarted messages, as many as one command takes; return how many."""
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
            expires = self.executor.outcomes.expires
            self.return_with(self.consumer.release_command([d.place for d in returned], expires))
            return len(returned)

    def hand_all_back(self) -> None:
        """Hand back all unstarted messages."""
        while self.hand_back():
            pass

    def reject(self, delivery: Delivery) -> None:
        """Return a message that its task has rejected to its queue.

        An error of the queue (it is gone, or of the wrong type) is logged and delays nothing else.
        """
        try:
            self.return_with(self.consumer.reject_command(delivery, self.executor.outcomes.expires))
        except Refused as error:
            logger.error("%s cannot go back to its queue: %s", delivery.title, error)

    def return_with(self, command: tuple[Any, ...]) -> None:
        """Send a command that returns messages; ``repair`` finds what fails to go back."""
        with self.lock:
            reply = self.send_commands([command])[0]
            if isinstance(reply, Exception):
                self.broken = True
                raise reply

    def drop_unstarted(self) -> None:
        """Drop the unstarted messages, which another process or thread has handed back.

        Takes no lock: none of them may start while this would wait.
        """
        self.unstarted.clear()
        self.broken = True  # repair finds what was not handed back

    # Repair after lost replies

    def repair_if_due(self) -> None:
        """Repair if that is due, unless the reader calls ``repair`` between two reads."""
        if self.repairs_itself and (self.broken or monotonic() - self.compared_at > self.lease):
            self.repair()

    def repair(self) -> None:
        """Find messages that Redis gave us in replies that were lost.

        Due after every broken connection; and once per lease, because a dead connection that the
        server still serves may take a message later.
        """
        if self.broken or monotonic() - self.compared_at > self.lease:
            with self.lock:
                self.compare_with_redis()

    def compare_with_redis(self) -> None:
        """Reclaim what Redis lists as pending for us and the buffer does not hold."""
        if not self.consumer.has_lease():
            raise ConsumerFenced(self.consumer.name)
        if self.read_order.skipped:
            self.open()
        for stream in self.read_order.readable:
            held = {(each.stream, each.entry) for each in self.held()}  # before the reply
            command = self.consumer.read_command([stream], 10_000, since="0")
            reply = self.consumer.perform([command], ANSWER_TIMEOUT)[0]
            if isinstance(reply, Refused) and reply.code in UNREADABLE:
                self.open()
                continue
            if isinstance(reply, Exception):
                raise reply
            self.reclaim(self.consumer.deliveries(reply), held)
        self.broken, self.compared_at = False, monotonic()

    def reclaim(self, pending: list[Delivery], held: set[Place]) -> None:
        """Add pending messages that were not held when Redis was asked."""
        found = [each for each in pending if each.place not in held]
        now = monotonic_ns()
        for delivery in found:
            self.executor.admit(delivery)
            delivery.seen = now
        self.unstarted += self.runnable(found, self.send_commands, None)

    def held(self) -> list[Delivery]:
        """All messages of the buffer, and those that are starting or not settled."""
        settlements = self.settlements
        return [*self.unstarted, *settlements.starting(), *self.running, *settlements.settling()]

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left to do, except for outcomes that cannot be settled now."""
        return not (self.unstarted or self.running) and self.settlements.settled
