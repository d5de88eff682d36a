"""One task at a time, in the runner's main thread.  Prefork is several of these."""

import contextlib
import logging
import os
import select
import sys
import time
from collections.abc import Callable
from functools import partial
from operator import itemgetter

from streamq.core.delivery import STALE, Delivery
from streamq.errors import (
    BrokerUnavailable,
    ConfigError,
    SoftTimeLimitExceeded,
    Stopped,
    Terminated,
)
from streamq.execution.outcomes import past_soft_limit
from streamq.execution.task_log import TaskLog
from streamq.host.clock import monotonic_ns, perf_counter
from streamq.host.forks import FORKS
from streamq.runner.async_exception import Raised
from streamq.runner.inherited import OWN
from streamq.runner.lifetime import Limits
from streamq.runner.patches import EVENTLET, GEVENT, check_patches, patched
from streamq.runner.pauses import Pauses
from streamq.runner.prefetch import Desk
from streamq.runner.reader_lock import Turns
from streamq.runner.shared_memory import Slots
from streamq.runner.signals import STRAY, Property, end_child, warn_ourselves
from streamq.runner.soft_limit import Alarm
from streamq.runner.sources import Pace
from streamq.runner.watchdog import Watch
from streamq.transport.replies import Refused

logger = logging.getLogger("streamq.worker")

#: Seconds that a read blocks: a connection that died in silence is noticed by then.
BLOCK = 5.0
#: Seconds between tries to reach Redis for a runner that wants to end.
STEP = 0.1
#: Seconds after its tasks in which a runner takes its signals back; where one task comes
#: right after the other it does so no more often.
GLANCE = 0.02
#: Seconds that a task takes at most for its runner to keep the turn while it runs.
QUICK = 0.001
#: Of what poll answers.
DESCRIPTOR = itemgetter(0)


class Solo:
    """Reads, runs and settles until it is stopped."""

    def __init__(
        self,
        desk: Desk,
        slots: Slots,
        turns: Turns,
        limits: Limits,
        *,
        burst: bool,
        alone: bool = False,
    ) -> None:
        self.desk = desk
        self.slots = slots
        self.turns = turns
        self.limits = limits
        self.burst = burst
        self.pace = Pace()
        self.log = TaskLog()
        self.pauses = Pauses()
        self.watch = Watch(desk, fenced=self.stop, slow=turns.pass_on)
        self.alarm = Alarm(warn_ourselves)
        self.raised: Raised | None = None
        self.forks = FORKS.count
        self.stopping = False
        #: What others had patched before the first task.
        self.patched = patched()
        #: Whether no task has run since its signals were taken back, and when that was.
        self.tidy, self.tidied = True, 0.0
        #: Whether what runs here is noted in Redis first, because it may end us.
        self.isolated = alone
        self.alone = False
        self.bell, self.rope = os.pipe()
        os.set_blocking(self.bell, False)
        os.set_blocking(self.rope, False)
        OWN.keep(self.bell, self.rope)
        self.poll, self.watched = select.poll(), -1
        self.ran = 0
        self.numbers = {stream: n for n, stream in enumerate(desk.intake.streams)}

    def stop(self) -> None:
        """Take no more messages.  Safe to call from a signal handler, and twice."""
        self.stopping = True
        with contextlib.suppress(OSError):  # it is full, or a task has closed it
            os.write(self.rope, b".")
        self.turns.interrupt()

    def skip_turn(self) -> None:
        """Wait for another turn: this one may never be passed on.  For signal handlers."""
        self.turns.interrupt()

    def run(self) -> None:
        """Work until stopped, or in a burst until nothing waits.  Raises Fenced."""
        self.property = Property(self.bell)
        self.persist(self.desk.open)
        self.watch.start()
        while not self.stopping:
            self.persist(self.turn)
            if self.limits.reached(self.ran):
                break
        self.watch.stop()
        self.persist(self.put_in_order)

    def turn(self) -> None:
        """Settle and read; where nothing waits, wait; run what came."""
        if not self.alone:
            count = 1 if self.isolated else self.pace.count
            self.desk.fetch(min(count, self.limits.left(self.ran)))
            if self.pauses.tries:  # a runner that waits for a message is not away
                self.slots.away(False)
        if self.desk.unstarted:
            self.turns.pass_on()
        elif self.burst and self.desk.empty:
            self.stopping = True
        elif not (self.burst and self.desk.ledger.finished):  # settled as we read once more
            self.wait()
        self.perform()

    def wait(self) -> None:
        """Wait for one message.  One idle runner of a worker blocks on Redis at a time."""
        self.log.flush()
        self.alone = False
        if not self.turns.take_at_once():
            self.take_signals_back()
            self.desk.exchange()  # what has finished cannot wait as long as we may have to
            if self.desk.ledger.aside:  # nobody ends our wait when it is to be tried again
                self.rest(1.0)
                return
            if not self.turns.take():
                return
        if self.stopping:
            return
        self.slots.reads(True)
        self.desk.block(BLOCK)
        at_once = self.desk.consumer.connection.has_reply
        ready = self.listen()
        self.slots.reads(False)
        if self.bell in ready and not self.stopping:
            self.silence()
        if self.bell in ready or self.stopping:
            # The answer that may come is found when the consumer is retired.
            self.desk.broken = True
            self.desk.consumer.connection.drop()
            return
        self.desk.arrived(late=not ready)
        # Who had to wait for a message and runs it quickly is back before another runner has
        # woken up: it keeps the turn, and waits for the next without looking for a backlog.
        self.alone = not at_once and self.pace.each < QUICK
        if not self.alone:
            self.turns.pass_on()

    def silence(self) -> None:
        """Empty the bell: what rang it was no request to stop, and it would ring for ever."""
        with contextlib.suppress(OSError):
            os.read(self.bell, 4096)

    def listen(self) -> list[int]:
        """Wait until Redis answers or we are told to stop; return the descriptors that say so."""
        connection = self.desk.consumer.connection.fileno()
        if self.desk.consumer.connection.has_reply:
            return [connection]
        if connection != self.watched:
            self.watched, self.poll = connection, select.poll()
            self.poll.register(self.bell, select.POLLIN)
            self.poll.register(connection, select.POLLIN)
        ready = self.poll.poll(GLANCE * 1000)
        if not ready or perf_counter() - self.tidied > GLANCE:
            self.take_signals_back()
        if not ready:
            ready = self.poll.poll((BLOCK + 1) * 1000)
        return list(map(DESCRIPTOR, ready))

    def perform(self) -> None:
        """Run what is on the desk."""
        if not self.alone:
            self.take_signals_back()
        unstarted, began, number = self.desk.unstarted, perf_counter(), 0
        modules = sys.modules
        most = self.limits.left(self.ran)
        while not self.stopping and number < most:
            try:
                delivery = unstarted.popleft()
            except IndexError:
                break
            if delivery.early and not self.acknowledge(delivery):
                continue
            self.execute(delivery)
            number += 1
            if GEVENT in modules or EVENTLET in modules:
                self.look_for_patches()
        if number:
            self.ran = self.slots.ran = self.ran + number
            self.pace.ran(number, perf_counter() - began)
            self.tidy = False
            self.look_after_ourselves()

    def look_after_ourselves(self) -> None:
        """End in good order if we have not got any more what we live by."""
        if self.property.stolen:
            logger.warning("a task has closed the descriptors of runner %d; it ends", os.getpid())
            self.stopping = True

    def look_for_patches(self) -> None:
        """End in good order if a task, or what it has imported, has patched what we wait with."""
        if patched() == self.patched:
            return
        try:
            check_patches("of this worker")
        except ConfigError as error:
            logger.error("runner %d ends after what a task has done: %s", os.getpid(), error)
            self.stopping = True

    def take_signals_back(self) -> None:
        """Take back the signals that tasks have taken: some of them end a wait.

        To be called before whatever waits for long.
        """
        if not self.tidy:
            self.tidy, self.tidied = True, perf_counter()
            self.property.take_back()

    def acknowledge(self, delivery: Delivery) -> bool:
        """Acknowledge a message before it runs; tell whether it is still ours to run."""
        start = self.desk.begin([delivery])
        self.persist(partial(self.desk.complete, start))
        if start.mine is None:
            self.desk.give_up(start)
        return bool(start.mine)

    def execute(self, delivery: Delivery) -> None:
        """Run one message and put its outcome on the desk."""
        desk, slots = self.desk, self.slots
        if self.isolated:
            self.persist(partial(desk.note_alone, delivery))
        desk.running.add(delivery)
        started = slots.start(0, self.numbers[delivery.stream], delivery.entry, delivery.hard)
        doubtful = started - delivery.seen > STALE or slots.taken_away()
        if doubtful and not self.may_start(delivery, started):
            slots.withdraw(0)
            desk.running.remove(delivery)
            return
        self.watch.began(delivery)
        if delivery.soft:
            self.property.take_back()  # the task before may have kept signals from us
            self.alarm.began(delivery)
        try:
            outcome = desk.execution.run(delivery)
        except (SoftTimeLimitExceeded, Stopped) as error:  # on the way in, or out
            outcome = desk.execution.interrupted(delivery, error)
        except SystemExit as error:  # of a child that the task has forked
            end_child(error)
        if self.forks != FORKS.mark[0]:  # a child: what runs in this slot is its parent's
            os._exit(STRAY)
        if delivery.soft:
            self.told()
        self.watch.ended()
        slots.clear(0)
        if outcome.release:
            self.persist(partial(desk.give_back, delivery))
        else:
            desk.ledger.finished.append(outcome)
        desk.running.remove(delivery)
        self.log.ended(outcome)

    def may_start(self, delivery: Delivery, started: int) -> bool:
        """Whether a message that was said to start is still ours, and may still run.

        Time has passed since it was read if the one before kept everything else from running.
        """
        slots, number = self.slots, self.numbers[delivery.stream]
        while True:
            if slots.taken_away() and not delivery.early:
                slots.notice()
                self.desk.lose_unstarted()
                return False
            if started - delivery.seen <= STALE:
                return True
            slots.withdraw(0)  # else its time limit would begin
            self.persist(partial(self.desk.look_again, delivery))
            if not delivery.seen or (self.stopping and delivery.is_stale(monotonic_ns())):
                return False
            started = slots.start(0, number, delivery.entry, delivery.hard)

    # Interrupting the task: for signal handlers, which run in the thread that runs it

    def soft_limit(self) -> None:
        """Raise inside the task, if it still is the one that has passed its soft limit.

        Once more if that was lost on the way to it.
        """
        task, before = self.desk.execution.inside, self.raised
        if task is None or not self.alarm.rings_for(task):
            return
        if before is None:
            error = past_soft_limit(task)
            self.raised = Raised(error, task.manner and task.manner.task.function)
            raise error
        if before.arrived:
            self.told()
        elif not before.is_handled:
            self.raised = None
            self.soft_limit()

    def told(self) -> None:
        """The task has ended, or has met its limit."""
        self.alarm.ended()
        self.raised = None

    def terminate(self) -> None:
        """Raise inside the task, if it still is the one that was revoked."""
        if self.desk.execution.inside is not None and self.slots.asked_to_stop(0):
            raise Terminated

    def put_in_order(self) -> None:
        """Settle what has finished and hand back what has not been started."""
        self.desk.exchange()
        self.desk.hand_all_back()

    def rest(self, seconds: float) -> None:
        """Sleep; a request to stop ends it, and later ones are short."""
        self.take_signals_back()
        if self.stopping:
            time.sleep(min(seconds, STEP))
        else:
            try:
                if select.select([self.bell], [], [], seconds)[0] and not self.stopping:
                    self.silence()
            except OSError:  # a task has closed it
                time.sleep(seconds)

    def persist(self, act: Callable[[], None]) -> None:
        """Do this; if Redis is away, wait until it is back.  A stop ends the wait."""
        while True:
            try:
                act()
            except (BrokerUnavailable, Refused) as error:
                self.slots.reads(False)
                self.slots.away(isinstance(error, BrokerUnavailable))
                self.rest(self.pauses.next(error))
                if self.stopping and self.limits.out_of_patience(self.pauses.since):
                    return
            else:
                if self.pauses.tries:
                    self.slots.away(False)
                    self.pauses.over()
                return
