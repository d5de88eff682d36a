"""The concurrent pool: what every pool shares that runs many tasks in one process.

It runs its tasks and its own duties in threads of a kind that it is given (``primitives``):
greenlets under gevent.  A message here is:

    unstarted     read; the first of them are those for which task threads were spawned, the rest
                  are read ahead, for tasks that will end within ``AHEAD`` seconds
    starting      with early acknowledgement: taken out, until a settlement acknowledges it
    acknowledged  acknowledged before its run; a task thread was spawned for it
    running       its start is noted in a slot of the shared memory; a thread runs its task
    finished      its outcome waits up to ``GATHER`` seconds for others, for one settlement

             reader             task thread            task thread            settler
    stream ---------> unstarted ----------> running ----------------> finished --------> gone
                       |  |  |               ^   |                       ^
                       |  |  +-- revoked or expired: reader, task thread +
                       |  |  early: reader   |   +-- rejected: task thread ------> stream
                       |  v                  |
                       | starting ----> acknowledged -- threads cannot run: ------> stream
                       |         settled                watchdog
                       +-- read ahead for HOLD_READ_AHEAD: reader ----------------> stream
                       +-- threads cannot run: watchdog, or the supervisor -------> stream

    who              what it does                                           connection
    reader           reads, spawns task threads, clears the taken mark      its own
                     acknowledges early, repairs                            the buffer's
    settler          settles                                                the buffer's
    task threads     take, run and finish messages; reject, recheck         the buffer's
    mark_started     sets the records of longer tasks to STARTED            the buffer's
    limits           raises limits and revocations inside tasks             none
    heartbeat        notes that threads run                                 none
    watchdog         hands back what no thread can start                    its own

The pool itself is:

    RUNNING --stop, lifetime, burst--> STOPPING --no task runs--> DRAINED --all settled--> ended
    reads, starts                      hands back; tasks end      settles
       |                                  |                          |
       +-----------lease lost-------------+--------------------------+-------------------> FENCED
                                 drops what it holds, lets tasks end and settles nothing; raises

Greenlets switch only where they wait, so for all others a message goes from ``unstarted`` to
``running`` in one step.  Not for the watchdog, which is no greenlet: see ``hub_watchdog``.
"""

import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from socket import SHUT_RDWR
from typing import Any

from streamq.broker.consumer import MOST_BYTES, Consumer, ConsumerFenced
from streamq.core.delivery import Delivery
from streamq.errors import BrokerUnavailable
from streamq.host.clock import perf_counter
from streamq.runner.inherited import OWN
from streamq.runner.pools.base import BLOCK, RETRY_WHEN_STOPPING, BasePool, PoolParts
from streamq.runner.pools.primitives import PoolWatchdog, Primitives
from streamq.runner.pools.read_size import AT_ONCE, ReadSize
from streamq.runner.pools.task_limits import TaskLimits
from streamq.runner.pools.task_threads import TaskThreads
from streamq.runner.prefetch import QueuesUnreadable
from streamq.runner.signals import ProcessGuard
from streamq.transport.connection import ANSWER_TIMEOUT, BLOCK_MARGIN
from streamq.transport.replies import Disconnected, Refused

#: Seconds to wait for more room before a backlog is read, and for more outcomes before a
#: settlement: one command for many messages costs a fraction of many commands.
GATHER = 0.002
#: Seconds that a task runs before its record is set to STARTED.
STARTED_AFTER = 0.25
#: Seconds after the last read when a backlog is read even for little room.
READ_INTERVAL = 0.01
#: Seconds after which messages that were read ahead and not started go back.  Tasks of one length
#: end in waves; with less, each wave would begin without messages.
HOLD_READ_AHEAD = 0.05


class ConcurrentPool(BasePool):
    """The reader, the settler and the task threads of one runner: they work until stopped.

    ``consumer`` is the reader's, on a connection of its own.
    """

    sequential = False

    def __init__(
        self,
        parts: PoolParts,
        consumer: Consumer,
        primitives: Primitives,
        limits: TaskLimits,
        watchdog: PoolWatchdog,
    ) -> None:
        super().__init__(parts)
        self.consumer = consumer
        self.spawn, self.sleep = primitives.spawn, primitives.sleep
        self.limits = limits
        self.watchdog = watchdog
        self.tasks = TaskThreads(parts, primitives, limits, watchdog, self.hand_back)
        self.room = self.tasks.room
        self.fenced = False
        self.drained = False
        #: Whether the reader is in a blocking read; whether the last messages acknowledge early.
        self.blocking = False
        self.acks_early = False
        #: The number of tasks run when messages last went back; no reading ahead until it changes.
        self.ran_when_returned = -1
        #: When the reader last sent a read, and when it last got messages (perf_counter).
        self.asked_at = self.received_at = 0.0
        self.read_size = ReadSize()
        #: Room for so many messages is enough to read a backlog at once.
        self.backlog_read = max(1, min(AT_ONCE, parts.concurrency // 10))

    def stop(self) -> None:
        """Take no more messages.  Safe to call from a signal handler, and twice.

        Breaks a blocking read only: messages that the reader is acknowledging would be lost.
        """
        self.stopping = self.tasks.stopping = True
        self.room.set()
        socket = self.consumer.connection.socket
        if self.blocking and socket is not None:
            with suppress(OSError):  # already closed; this may run inside any task
                socket.shutdown(SHUT_RDWR)

    def give_up_reader_lock(self) -> None:
        """Do nothing: a process with many tasks reads without the reader lock."""

    def soft_limit(self) -> None:
        """Do nothing: a thread of the pool checks the limits."""

    def terminate(self) -> None:
        """Check soon which tasks are to be stopped.  Called by a signal handler."""
        self.limits.check_soon()

    def run(self) -> None:
        """Work until stopped, or in a burst until no message waits.  Raises ConsumerFenced."""
        tasks = self.tasks
        tasks.guard = ProcessGuard(OWN.keep(*os.pipe()))
        self.persist(self.prefetch.open)
        duties = (
            self.read_loop,
            self.settle_loop,
            self.mark_started_loop,
            self.limits.watch_loop,
            self.watchdog.beat_loop,
        )
        threads = reader, settler, *helpers = [self.spawn(duty) for duty in duties]
        for thread in threads:
            thread.link_exception(lambda _: self.stop())  # the others depend on it
        self.watchdog.start()
        reader.join()
        self.stopping = tasks.stopping = True
        self.hand_back(self.prefetch.hand_all_back)
        while tasks.busy:
            self.room.clear()
            self.room.wait(1.0)
        self.watchdog.stop()
        self.drained = True
        tasks.outcome_ready.set()
        settler.join()
        for helper in helpers:
            helper.kill()
        if self.fenced:
            raise ConsumerFenced(self.prefetch.consumer.name)
        for thread in threads:
            thread.get()  # raises its error, if it failed

    # Reading

    def read_loop(self) -> None:
        """Read whenever there is room, or soon will be, until stopped.

        While there is a backlog, or messages are read ahead, wait ``READ_INTERVAL`` for more room.
        """
        backlog = False
        while not self.stopping and not self.lifetime.reached(self.tasks.ran):
            if self.slots.is_taken():
                self.read_size.learn(late=True)
                self.watchdog.remove_mark()
            wanted, due = self.wanted(), self.asked_at + READ_INTERVAL
            at_once = wanted >= self.backlog_read if backlog else not self.has_read_ahead
            if wanted < 1 or (not at_once and perf_counter() < due):
                self.wait_for_room(due if wanted > 0 else None)
                continue
            try:
                backlog = self.read()
                if self.pauses.failing:
                    self.redis_answered()
                if self.burst and not (backlog or self.tasks.busy or self.slots.is_taken()):
                    return
            except ConsumerFenced:
                self.fence()
                return
            except (BrokerUnavailable, Refused) as error:
                self.blocking, self.prefetch.broken = False, True
                self.consumer.connection.drop()
                if isinstance(error, Disconnected) and error.timed_out:
                    self.prefetch.reconnect()
                if not self.is_stopping():  # a stop breaks a blocking read: no failure
                    self.sleep(self.note_failure(error))

    def is_stopping(self) -> bool:
        """Whether ``stop`` was called, which breaks the connection of a blocking read."""
        return self.stopping

    def wanted(self) -> int:
        """The number of messages to read: to start now, and as tasks end within ``AHEAD``."""
        tasks = self.tasks
        self.read_size.measure(tasks.ran)
        room = tasks.room_for() - len(self.prefetch.unstarted) - len(self.prefetch.acknowledged)
        if self.acks_early or tasks.isolated or tasks.ran == self.ran_when_returned:
            return room
        return room + self.read_size.ahead()

    @property
    def has_read_ahead(self) -> bool:
        """Whether more messages are unstarted than task threads were spawned for."""
        return len(self.prefetch.unstarted) > self.tasks.waking

    def wait_for_room(self, due: float | None) -> None:
        """Wait for room, at most until ``due`` (perf_counter); None waits for ever.

        Messages read ahead go back after ``HOLD_READ_AHEAD``.
        """
        ends = [due] if due is not None else []
        if self.prefetch.unstarted:
            ends.append(self.received_at + HOLD_READ_AHEAD)
        self.room.clear()
        if self.room.wait(max(0.0, min(ends) - perf_counter()) if ends else None):
            self.sleep(GATHER)
        if self.prefetch.unstarted and perf_counter() > self.received_at + HOLD_READ_AHEAD:
            self.ran_when_returned = self.tasks.ran
            self.hand_back(self.prefetch.hand_all_back)

    def read(self) -> bool:
        """Read once and start what came; return whether more messages may be waiting."""
        self.asked_at = perf_counter()
        self.prefetch.repair()
        if not self.prefetch.read_order.readable:
            raise QueuesUnreadable("no queue can be read")
        if self.read_size.careful:
            self.sleep(0)  # the last tasks may show first that they block all others
        self.read_size.learn(late=self.watchdog.has_lagged())
        count, found = min(self.wanted(), self.read_size.limit), 0
        for streams in self.prefetch.read_order.groups(count):
            if found < count:
                found += self.read_streams(
                    self.consumer.read_command(streams, count - found), BLOCK
                )
        if not (found or self.has_read_ahead or self.burst or self.stopping):
            command = self.consumer.read_command(self.prefetch.read_order.readable, 1, block=BLOCK)
            self.blocking = True
            found += self.read_streams(command, BLOCK + BLOCK_MARGIN)
            self.blocking = False
        elif not (found or self.has_read_ahead):
            self.sleep(READ_INTERVAL)
        if found:
            self.received_at = perf_counter()
        if not self.stopping:
            self.start_messages()
        return found > 0

    def read_streams(self, command: tuple[object, ...], timeout: float) -> int:
        """Send a read and add its messages to the buffer; return how many it brought."""
        connection = self.consumer.connection
        connection.send([command, self.consumer.revoked_command])
        reply = connection.read(timeout, raising=False)
        revoked = connection.read(raising=False)
        count = self.prefetch.add_reply(
            reply, revoked, self.send_commands, self.watchdog.reply_moment()
        )
        if self.prefetch.settlements.finished:
            self.tasks.outcome_ready.set()
        return count

    def send_commands(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Send commands on the connection of the reader; return their replies."""
        return self.consumer.perform(commands, ANSWER_TIMEOUT)

    def start_messages(self) -> None:
        """Spawn task threads for unstarted messages, as far as there is room.

        They take messages in order as they begin: until then a message can go back.
        """
        unstarted, tasks = self.prefetch.unstarted, self.tasks
        chosen = islice(unstarted, tasks.room_for())
        early = deque(delivery for delivery in chosen if delivery.early)
        self.acks_early = bool(early)
        for delivery in early:
            unstarted.remove(delivery)
        tasks.spawn()
        while early:
            size, part = 0, list[Delivery]()
            while early and size < MOST_BYTES:
                size += early[0].size
                part.append(early.popleft())
            self.prefetch.acknowledged += self.acknowledge(part)
            tasks.spawn()

    # Settling

    def settle_loop(self) -> None:
        """Settle outcomes, many at a time, until the pool has ended and all are settled."""
        while not (self.drained and self.prefetch.is_empty):
            self.tasks.outcome_ready.wait(1.0)
            self.tasks.outcome_ready.clear()
            self.sleep(GATHER)
            self.slots.ran = self.tasks.ran
            self.tasks.guard.restore()
            try:
                if self.prefetch.settlements.is_pending:
                    settled = self.persist(self.prefetch.exchange)
                    if self.drained and not settled:
                        return  # Redis is away: others have what is not settled
            except ConsumerFenced:
                self.fence()
                return

    def mark_started_loop(self) -> None:
        """Set the records of tasks that run for ``STARTED_AFTER`` to STARTED.  Never returns."""
        while True:
            young, self.tasks.newly_started = self.tasks.newly_started, []
            self.sleep(STARTED_AFTER)
            shown = [each for each in young if each in self.prefetch.running]
            try:
                for start in range(0, len(shown), 100):
                    self.prefetch.mark_started(shown[start : start + 100])
            except (BrokerUnavailable, Refused, ConsumerFenced):
                continue  # reader and settler meet the same error, and handle it

    def hand_back(self, act: Callable[[], object]) -> None:
        """Call ``act``, which returns messages to Redis, until it succeeds; stop if fenced."""
        try:
            self.persist(act)
        except ConsumerFenced:
            self.fence()

    def fence(self) -> None:
        """Stop after a fencing: other workers have our messages; running tasks may end."""
        self.fenced = True
        self.prefetch.unstarted.clear()
        self.prefetch.acknowledged.clear()
        self.stop()

    def pause(self, seconds: float) -> None:
        """Sleep for ``seconds``; while stopping, briefly."""
        self.sleep(min(seconds, RETRY_WHEN_STOPPING) if self.stopping else seconds)
