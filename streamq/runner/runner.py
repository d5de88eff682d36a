"""The life of a runner: a process that executes tasks until it is stopped."""

import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from streamq.app import App
from streamq.broker.consumer import Consumer, ConsumerFenced
from streamq.context import Request
from streamq.core.names import named
from streamq.core.outcome import millis
from streamq.execution.outcomes import Outcomes
from streamq.host.prctl import signal_at_parents_death
from streamq.routing import Queue
from streamq.runner.config import RunnerConfig
from streamq.runner.databases import close_of_thread, executor_class
from streamq.runner.inherited import OWN
from streamq.runner.lifetime import Lifetime
from streamq.runner.pools.base import Pool, PoolParts
from streamq.runner.prefetch import PrefetchBuffer
from streamq.runner.reader_lock import ReaderLock
from streamq.runner.shared_memory import RunnerSlots, SharedMemory
from streamq.runner.signals import CONTROL, FINISH, LATE, READER_LOCK, STOP, STRAY
from streamq.signals import Signal, worker_process_init, worker_process_shutdown
from streamq.transport.connection import Connection

logger = logging.getLogger("streamq.worker")

#: The share of ``shutdown_timeout`` for which a runner that stops tries to reach Redis: the rest
#: is enough to end by itself.
LAST_TRIES = 0.8


def work(app: App, config: RunnerConfig, make_pool: "Callable[[Runner], Pool]") -> int:
    """Run this process as a runner, with the pool of ``make_pool``; return the exit code."""
    die_with(config.supervisor)
    runner = Runner(app, config)
    pool = make_pool(runner)
    OWN.given = config.signals
    handle_signals(pool, runner.slots)
    if worker_process_init.links:
        call_receivers(worker_process_init, app.worker_sender(config.node))
        handle_signals(pool, runner.slots)  # again: a receiver may have set handlers of its own
    code = 1
    try:
        runner.slots.note_ready()
        run_until_stopped(pool, runner.slots)
        code = 0
    finally:
        if worker_process_shutdown.links:
            end_after(app.conf.shutdown_timeout)
            sender = app.worker_sender(config.node)
            call_receivers(worker_process_shutdown, sender, pid=os.getpid(), exitcode=code)
    return code


def run_until_stopped(pool: Pool, slots: RunnerSlots) -> None:
    """Run the pool until it is stopped or fenced, and note how it has ended."""
    pid, fenced = os.getpid(), False
    try:
        pool.run()
    except ConsumerFenced:
        fenced = True
        logger.warning("runner %d was fenced meanwhile; another takes over", pid)
    finally:
        if os.getpid() != pid:  # a forked child of a task
            os._exit(STRAY)
    slots.note_exit(fenced=fenced)


def call_receivers(moment: Signal, node: str, **given: Any) -> None:
    """Call the receivers of a signal of this process.  A child that one has forked ends here."""
    pid = os.getpid()
    moment.send(node, **given)
    if os.getpid() != pid:
        os._exit(STRAY)


def end_after(seconds: float) -> None:
    """Have the kernel end this process after so many seconds, whatever it does then.

    It holds no message any more.  A receiver that does not return must not keep it, and the
    runner that follows it, for ever.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.1))


def die_with(supervisor: int) -> None:
    """Ask the kernel to end this process when its supervisor ends, however it does."""
    signal_at_parents_death(signal.SIGKILL)
    if os.getppid() != supervisor:
        os._exit(1)


def handle_signals(pool: Pool, slots: RunnerSlots) -> None:
    """Handle the signals of this runner; the supervisor handles Ctrl-C at the terminal."""
    sequential = pool.sequential

    def end(number: int, frame: FrameType | None) -> None:
        """End by this signal if the running task is to be terminated with it.

        Otherwise ignore it: it was sent to the whole process group, and the supervisor handles it.
        """
        if sequential and slots.stop_requested(0):
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    ends = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP) if sequential else (signal.SIGINT,)
    OWN.handle(
        {
            **dict.fromkeys(ends, end),
            signal.SIGTERM: lambda *_: pool.stop(),
            signal.SIGALRM: lambda *_: None,
            LATE: lambda *_: pool.soft_limit(),
            STOP: lambda *_: pool.terminate(),
            READER_LOCK: lambda *_: pool.give_up_reader_lock(),
            FINISH: lambda *_: pool.stop(),
        }
    )
    OWN.ignore()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    OWN.set_mask(through=CONTROL)


class Runner:
    """The parts of one runner: made here, and handed to its pool."""

    def __init__(self, app: App, config: RunnerConfig) -> None:
        self.app = app
        self.config = config
        #: The name of this process's consumer, also in forked children of it.
        self.name = config.consumer(os.getpid())
        folder, conf = Path(config.folder), app.conf
        shared_memory = SharedMemory(folder / "slots", config.runners, config.slots)
        self.slots = shared_memory.of(config.number)
        self.reader_lock = ReaderLock(folder / "reader-lock")
        self.read_order = config.read_order
        self.lifetime = Lifetime(
            conf.max_tasks_per_child,
            conf.max_memory_per_child,
            LAST_TRIES * conf.shutdown_timeout,
        )

    def parts(self, *, repairs_itself: bool) -> PoolParts:
        """Make the parts of the pool; ``repairs_itself`` as for the prefetch buffer."""
        config = self.config
        return PoolParts(
            prefetch=self.prefetch(repairs_itself=repairs_itself),
            slots=self.slots,
            lifetime=self.lifetime,
            concurrency=config.concurrency,
            burst=config.burst,
            isolated=config.quarantine,
            thread_ended=close_of_thread(),
        )

    def prefetch(self, *, repairs_itself: bool) -> PrefetchBuffer:
        """Make the prefetch buffer of this runner."""
        app = self.app
        executor = executor_class()(
            Outcomes(app.tasks, app.payloads, app.conf, signer=app.signer),
            hostname=self.config.node,
            report=self.tell,
            middleware=app.middleware,
        )
        return PrefetchBuffer(
            self.consumer("runner"),
            self.read_order,
            executor,
            lease=app.conf.lease,
            declare=self.declare,
            repairs_itself=repairs_itself,
        )

    def consumer(self, role: str) -> Consumer:
        """Make a client of this runner's consumer, on a connection of its own."""
        conf = self.app.conf
        return Consumer(
            Connection(self.config.url, name=f"streamq:{role}:{self.config.node}"),
            self.app.broker.keys,
            self.name,
            dead=(conf.dead_max_length, int(millis(conf.dead_expires))),
        )

    def declare(self) -> None:
        """Declare the queues that this runner reads, where they do not exist."""
        ours = {queue.name: queue for queue in self.app.queues}
        for name in [source.queue for source in self.read_order.wanted]:
            self.app.broker.topology.restore(name, ours.get(name) or Queue(name))
        self.app.broker.client.close()

    def tell(self, request: Request, state: str, meta: Any) -> None:
        """Write a state that a running task has set."""
        app = self.app
        serializer = app.conf.result_serializer
        data = app.payloads.write(meta, serializer, None, "meta")
        content = "" if serializer == "json" else serializer
        name = named(request.id.encode(), b"%d" % request.generation)
        app.broker.results.update_state(self.name, name, state, data, content)
