"""The life of a runner: a process that executes tasks until it is told to stop."""

import ctypes
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from streamq.app import App
from streamq.broker.consumer import Consumer, Fenced
from streamq.context import Request
from streamq.core.names import named
from streamq.core.outcome import millis
from streamq.execution.executor import Execution
from streamq.routing import Queue
from streamq.runner import signals as interrupts
from streamq.runner.config import Assignment
from streamq.runner.inherited import OWN
from streamq.runner.lifetime import Limits
from streamq.runner.pools.solo import Solo
from streamq.runner.prefetch import Desk
from streamq.runner.reader_lock import Turns
from streamq.runner.shared_memory import Board, Slots
from streamq.runner.signals import STRAY
from streamq.transport.connection import Connection

logger = logging.getLogger("streamq.worker")

PR_SET_PDEATHSIG = 1
#: How much of ``shutdown_timeout`` a runner that stops spends at most on trying to reach
#: Redis: then it still ends by itself.
LAST_TRIES = 0.8


def work(app: App, assignment: Assignment, pool_of: "Callable[[Runner], Any]") -> int:
    """Be this runner, with the pool that ``pool_of`` makes.  Returns the exit code."""
    die_with(assignment.supervisor)
    runner = Runner(app, assignment)
    pool = pool_of(runner)
    OWN.given = assignment.signals
    listen(pool, runner.slots)
    pid, fenced = os.getpid(), False
    runner.slots.arrive()
    try:
        pool.run()
    except Fenced:
        fenced = True
        logger.warning("runner %d was declared dead meanwhile; another takes over", pid)
    finally:
        if os.getpid() != pid:  # a child of a task
            os._exit(STRAY)
    runner.slots.leave(fenced=fenced)
    return 0


def die_with(supervisor: int) -> None:
    """Ask the kernel to end this process when its supervisor ends, however it does."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:
        os._exit(1)


def listen(pool: Any, slots: Slots) -> None:
    """Hear what the supervisor says; a Ctrl-C at the terminal is the supervisor's affair."""
    sequential = isinstance(pool, Solo)

    def end(number: int, frame: FrameType | None) -> None:
        """End by a signal that somebody chose to terminate the running task with.

        One that is meant for the worker reaches its runners too, and is the supervisor's affair.
        """
        if sequential and slots.asked_to_stop(0):
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    ends = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP) if sequential else (signal.SIGINT,)
    OWN.handle(
        {
            **dict.fromkeys(ends, end),
            signal.SIGTERM: lambda *_: pool.stop(),
            signal.SIGALRM: lambda *_: None,
            interrupts.LATE: lambda *_: pool.soft_limit(),
            interrupts.STOP: lambda *_: pool.terminate(),
            interrupts.TURN: lambda *_: pool.skip_turn(),
            interrupts.FINISH: lambda *_: pool.stop(),
        }
    )
    OWN.ignore()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    OWN.let(through=interrupts.CONTROL)


def one_by_one(runner: "Runner") -> Solo:
    """The pool of a forked runner: one task at a time."""
    desk = runner.desk(repairs_itself=True)
    return Solo(
        desk,
        runner.slots,
        runner.turns,
        runner.limits,
        burst=runner.assignment.burst,
        alone=runner.assignment.alone,
    )


class Runner:
    """Puts the parts of one runner together."""

    def __init__(self, app: App, assignment: Assignment) -> None:
        self.app = app
        self.assignment = assignment
        #: Of this process: a task may tell from a child of it.
        self.name = assignment.consumer(os.getpid())
        folder, conf = Path(assignment.folder), app.conf
        board = Board(folder / "slots", assignment.runners, assignment.slots)
        self.slots = board.of(assignment.number)
        self.turns = Turns(folder / "turn")
        self.intake = assignment.intake
        self.limits = Limits(
            conf.max_tasks_per_child,
            conf.max_memory_per_child,
            LAST_TRIES * conf.shutdown_timeout,
        )

    def desk(self, *, repairs_itself: bool) -> Desk:
        """The desk of this runner."""
        app = self.app
        execution = Execution(
            app.tasks,
            app.payloads,
            app.conf,
            hostname=self.assignment.node,
            tell=self.tell,
            seal=app.seal,
        )
        return Desk(
            self.consumer("runner"),
            self.intake,
            execution,
            lease=app.conf.lease,
            declare=self.declare,
            repairs_itself=repairs_itself,
        )

    def consumer(self, role: str) -> Consumer:
        """This runner's consumer, on a connection of its own."""
        conf = self.app.conf
        return Consumer(
            Connection(self.assignment.url, name=f"streamq:{role}:{self.assignment.node}"),
            self.app.store.keys,
            self.name,
            dead=(conf.dead_max_length, int(millis(conf.dead_expires))),
        )

    def declare(self) -> None:
        """Make sure that what this runner reads is there."""
        ours = {queue.name: queue for queue in self.app.queues}
        for name in [source.queue for source in self.intake.wanted]:
            self.app.store.topology.restore(name, ours.get(name) or Queue(name))
        self.app.store.client.close()

    def tell(self, request: Request, state: str, meta: Any) -> None:
        """Write a state that a running task named."""
        app = self.app
        serializer = app.conf.result_serializer
        data = app.payloads.write(meta, serializer, None, "meta")
        content = "" if serializer == "json" else serializer
        name = named(request.id.encode(), b"%d" % request.generation)
        app.store.results.tell(self.name, name, state, data, content)
