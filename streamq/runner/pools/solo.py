"""The sequential pool: one task at a time, in the runner's main thread.

A prefork worker has several runners with this pool.
"""

import contextlib
import logging
import os
import select
import sys
import time
from functools import partial
from operator import itemgetter

from streamq.core.delivery import RECHECK_AFTER, Delivery
from streamq.errors import ConfigError, Terminated
from streamq.execution.task_log import TaskLog
from streamq.host.clock import monotonic_ns, perf_counter
from streamq.host.forks import FORKS
from streamq.runner.async_exception import Raised
from streamq.runner.inherited import OWN
from streamq.runner.patches import EVENTLET, GEVENT, check_patches, patched
from streamq.runner.pools.base import (
    BLOCK,
    RETRY_WHEN_STOPPING,
    BasePool,
    PoolParts,
    run_message,
)
from streamq.runner.reader_lock import ReaderLock
from streamq.runner.runner import Runner
from streamq.runner.signals import ProcessGuard, interrupt_main_thread
from streamq.runner.soft_limit import SoftLimitTimer, new_soft_limit
from streamq.runner.sources import AdaptivePrefetch
from streamq.runner.watchdog import Watchdog

logger = logging.getLogger("streamq.worker")

#: Seconds of idleness after which a runner restores its signal handlers; and between two
#: restorations while tasks follow each other quickly.
RESTORE_INTERVAL = 0.02
#: Seconds that a task takes at most for its runner to keep the reader lock while it runs.
QUICK = 0.001
#: The descriptor of a (descriptor, events) pair that poll returns.
DESCRIPTOR = itemgetter(0)


class Solo(BasePool):
    """The loop that reads, runs and settles until it is stopped."""

    sequential = True

    def __init__(self, parts: PoolParts, reader_lock: ReaderLock) -> None:
        super().__init__(parts)
        prefetch = self.prefetch
        self.reader_lock = reader_lock
        self.adaptive = AdaptivePrefetch()
        self.log = TaskLog()
        self.watchdog = Watchdog(prefetch, on_fenced=self.stop, on_slow=reader_lock.release)
        self.soft_limit_timer = SoftLimitTimer(interrupt_main_thread)
        self.raised: Raised | None = None
        self.forks = FORKS.count
        #: The modules that gevent or eventlet had patched before the first task.
        self.patched = patched()
        #: Whether no task has run since signals were restored, and when that was (perf_counter).
        self.signals_restored, self.restored_at = True, 0.0
        #: Whether the next read blocks at once, without looking for a backlog.
        self.skip_fetch = False
        self.wakeup_r, self.wakeup_w = os.pipe()
        os.set_blocking(self.wakeup_r, False)
        os.set_blocking(self.wakeup_w, False)
        OWN.keep(self.wakeup_r, self.wakeup_w)
        self.poller, self.polled = select.poll(), -1
        self.ran = 0
        self.stream_numbers = prefetch.read_order.numbers

    def stop(self) -> None:
        """Take no more messages.  Safe to call from a signal handler, and twice."""
        self.stopping = True
        with contextlib.suppress(OSError):  # it is full, or a task has closed it
            os.write(self.wakeup_w, b".")
        self.reader_lock.interrupt()

    def give_up_reader_lock(self) -> None:
        """Stop waiting for a broken reader lock.  Called by a signal handler."""
        self.reader_lock.interrupt()

    def run(self) -> None:
        """Work until stopped, or in a burst until no message waits.  Raises ConsumerFenced."""
        self.guard = ProcessGuard(self.wakeup_r)
        self.persist(self.prefetch.open)
        self.watchdog.start()
        while not self.stopping:
            self.persist(self.read_and_run)
            if self.lifetime.reached(self.ran):
                break
        self.watchdog.stop()
        self.persist(self.settle_and_hand_back)

    def read_and_run(self) -> None:
        """Settle and read, wait if no message is there, and run what came."""
        if not self.skip_fetch:
            count = 1 if self.isolated else self.adaptive.count
            self.prefetch.fetch(min(count, self.lifetime.remaining(self.ran)))
            if self.pauses.failing:  # it waits for a message, and reaches Redis
                self.slots.note_unreachable(False)
        if self.prefetch.unstarted:
            self.reader_lock.release()
        elif self.burst and self.prefetch.is_empty:
            self.stopping = True
        elif not (self.burst and self.prefetch.settlements.finished):
            self.wait()  # else the next fetch settles, and may end the burst
        self.run_unstarted()

    def wait(self) -> None:
        """Wait for one message, with the reader lock: one runner of a worker blocks at a time."""
        self.log.flush()
        self.skip_fetch = False
        if not self.reader_lock.try_acquire():
            self.restore_signals()
            self.prefetch.exchange()  # finished tasks are settled before a long wait
            if self.prefetch.settlements.parked:  # no signal would end the wait for a retry
                self.pause(1.0)
                return
            if not self.reader_lock.acquire():
                return
        if self.stopping:
            return
        self.slots.note_reading(True)
        self.prefetch.block(BLOCK)
        at_once = self.prefetch.consumer.connection.has_reply
        ready = self.poll_reply()
        self.slots.note_reading(False)
        if self.wakeup_r in ready and not self.stopping:
            self.drain_wakeup_pipe()
        if self.wakeup_r in ready or self.stopping:
            # Messages in a reply that still comes are found when the consumer is retired.
            self.prefetch.broken = True
            self.prefetch.consumer.connection.drop()
            return
        self.prefetch.receive(late=not ready)
        # A runner that waited for a message and runs it quickly is back before another runner
        # has woken up: it keeps the lock, and blocks again without looking for a backlog.
        self.skip_fetch = not at_once and self.adaptive.task_seconds < QUICK
        if not self.skip_fetch:
            self.reader_lock.release()

    def drain_wakeup_pipe(self) -> None:
        """Empty the wake-up pipe after a wake-up that was no stop: it would end each later wait."""
        with contextlib.suppress(OSError):
            os.read(self.wakeup_r, 4096)

    def poll_reply(self) -> list[int]:
        """Wait for a reply or a wake-up, ``BLOCK`` + 1 s at most; return the ready descriptors."""
        connection = self.prefetch.consumer.connection.fileno()
        if self.prefetch.consumer.connection.has_reply:
            return [connection]
        if connection != self.polled:
            self.polled, self.poller = connection, select.poll()
            self.poller.register(self.wakeup_r, select.POLLIN)
            self.poller.register(connection, select.POLLIN)
        ready = self.poller.poll(RESTORE_INTERVAL * 1000)
        if not ready or perf_counter() - self.restored_at > RESTORE_INTERVAL:
            self.restore_signals()
        if not ready:
            ready = self.poller.poll((BLOCK + 1) * 1000)
        return list(map(DESCRIPTOR, ready))

    def run_unstarted(self) -> None:
        """Run the unstarted messages, as many as this runner's lifetime allows."""
        if not self.skip_fetch:
            self.restore_signals()
        unstarted, began, number = self.prefetch.unstarted, perf_counter(), 0
        modules = sys.modules
        most = self.lifetime.remaining(self.ran)
        while not self.stopping and number < most:
            try:
                delivery = unstarted.popleft()
            except IndexError:
                break
            if delivery.early and not self.acknowledge([delivery]):
                continue
            self.execute(delivery)
            number += 1
            if GEVENT in modules or EVENTLET in modules:
                self.check_for_patches()
        if number:
            self.ran = self.slots.ran = self.ran + number
            self.adaptive.learn(number, perf_counter() - began)
            self.signals_restored = False
            self.check_descriptors()

    def check_descriptors(self) -> None:
        """Stop if a task has closed the descriptors of this runner."""
        if self.guard.descriptors_closed:
            logger.warning("a task has closed the descriptors of runner %d; it ends", os.getpid())
            self.stopping = True

    def check_for_patches(self) -> None:
        """Stop if a task, or a module it imported, has patched what this pool waits with."""
        if patched() == self.patched:
            return
        try:
            check_patches("of this worker")
        except ConfigError as error:
            logger.error("runner %d ends after what a task has done: %s", os.getpid(), error)
            self.stopping = True

    def restore_signals(self) -> None:
        """Restore signal handlers that tasks may have replaced: signals end waits.

        To be called before each long wait.
        """
        if not self.signals_restored:
            self.signals_restored, self.restored_at = True, perf_counter()
            self.guard.restore()

    def execute(self, delivery: Delivery) -> None:
        """Run one message and queue its outcome for settlement."""
        prefetch, slots = self.prefetch, self.slots
        if self.isolated:
            self.persist(partial(prefetch.note_sole_task, delivery))
        prefetch.running.add(delivery)
        started = slots.note_start(
            0, self.stream_numbers[delivery.stream], delivery.entry, delivery.hard
        )
        if started - delivery.seen > RECHECK_AFTER or slots.is_taken():
            if not self.may_start(delivery, started):
                slots.cancel_start(0)
                prefetch.running.remove(delivery)
                return
            started = monotonic_ns()
        self.watchdog.began(delivery, started)
        if delivery.soft:
            self.guard.restore()  # the task before may have blocked them
            self.soft_limit_timer.began(delivery)
        outcome = run_message(prefetch.executor, delivery, self.forks)
        if delivery.soft:
            self.soft_limit_done()
        self.watchdog.ended()
        slots.clear(0)
        if outcome.release:
            self.persist(partial(prefetch.reject, delivery))
        else:
            prefetch.settlements.finished.append(outcome)
        prefetch.running.remove(delivery)
        self.log.ended(outcome)

    def may_start(self, delivery: Delivery, started: int) -> bool:
        """Whether a message whose start is noted is still ours, and may still run.

        Called when a long task before it has delayed it: since it was read it may have been
        handed back, revoked, or expired.  ``started`` is the noted moment (monotonic ns).
        """
        slots, number = self.slots, self.stream_numbers[delivery.stream]
        while True:
            if slots.is_taken() and not delivery.early:
                slots.clear_taken()
                self.prefetch.drop_unstarted()
                return False
            if started - delivery.seen <= RECHECK_AFTER:
                return True
            slots.cancel_start(0)  # its time limit must not begin yet
            self.persist(partial(self.prefetch.recheck, delivery))
            if not delivery.seen or (self.stopping and delivery.needs_recheck(monotonic_ns())):
                return False
            started = slots.note_start(0, number, delivery.entry, delivery.hard)

    # Interrupting the task: called by signal handlers, in the thread that runs it

    def soft_limit(self) -> None:
        """Raise the soft limit inside the task that has passed it, if that one still runs.

        Raises again if the first exception was lost before it reached the task.
        """
        task, before = self.prefetch.executor.inside, self.raised
        if task is None or not self.soft_limit_timer.is_late(task):
            return
        if before is None:
            raised = self.raised = new_soft_limit(task)
            raise raised.error
        if before.arrived:
            self.soft_limit_done()
        elif not before.is_handled:
            self.raised = None
            self.soft_limit()

    def soft_limit_done(self) -> None:
        """Stop the timer: the task has ended, or has received its soft limit."""
        self.soft_limit_timer.ended()
        self.raised = None

    def terminate(self) -> None:
        """Raise Terminated inside the task that is to be stopped, if that one still runs."""
        if self.prefetch.executor.inside is not None and self.slots.stop_requested(0):
            raise Terminated

    def settle_and_hand_back(self) -> None:
        """Settle finished messages and hand back unstarted ones."""
        self.prefetch.exchange()
        self.prefetch.hand_all_back()

    def pause(self, seconds: float) -> None:
        """Sleep for ``seconds``, or until a stop; while stopping, briefly."""
        self.slots.note_reading(False)
        self.restore_signals()
        if self.stopping:
            time.sleep(min(seconds, RETRY_WHEN_STOPPING))
        else:
            try:
                if select.select([self.wakeup_r], [], [], seconds)[0] and not self.stopping:
                    self.drain_wakeup_pipe()
            except OSError:  # a task has closed it
                time.sleep(seconds)


def make_solo(runner: Runner) -> Solo:
    """Make the pool of a forked runner: one task at a time."""
    return Solo(runner.parts(repairs_itself=True), runner.reader_lock)
