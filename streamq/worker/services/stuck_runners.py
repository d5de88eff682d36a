"""Stuck runners: what waits behind a task that lets nothing else run in its process is handed back.

A runner has a watchdog thread that settles and hands back while a task runs; a process of greenlets
has one beside its hub.  C code that keeps the interpreter's lock stops that thread too.  Then
the supervisor does it: it suspends the process for a moment, hands back what has not been started,
leaves a mark in shared memory, and continues the process.
"""

import logging
import signal
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from streamq.broker.consumer import Place
from streamq.broker.recovery import Recovery
from streamq.core.text import count
from streamq.host import clock
from streamq.runner import reader_lock
from streamq.runner import signals as interrupts
from streamq.runner.shared_memory import RunningTask
from streamq.worker.processes import RunnerProcess, RunnerProcesses, wait_suspended
from streamq.worker.services.service import EACH_ROUND, Service

logger = logging.getLogger("streamq.worker")

#: Seconds that a task runs, or the hub of a process of greenlets is silent, before the
#: supervisor hands back for it; its own thread needs a small part of that.
LONG = 1.0
#: Messages of a stream that are listed beside as many as can run.
MORE = 200
#: Seconds between two checks of the same silent process of greenlets: a message may come that it
#: asked for before.
AGAIN = 1.0
#: Seconds that one check waits for processes to stop: leases are renewed between two.
BUDGET = 0.25
#: Seconds that a task runs before its runner should have released the reader lock; likewise.
KEPT = 0.4


class StuckRunners(Service):
    """The service that hands back for runners whose process is stuck in a task.

    ``lock_file`` is the file of the reader lock.
    """

    moment = EACH_ROUND

    def __init__(self, recovery: Recovery, lock_file: Path, processes: RunnerProcesses) -> None:
        self.recovery = recovery
        self.lock_file = lock_file
        self.processes = processes
        #: By process: the last task that was handed back for.
        self.handled: dict[int, bytes] = {}
        #: By process of greenlets: when it was checked last.
        self.checked: dict[int, float] = {}

    def run(self) -> None:
        """Hand back for the runners that are stuck."""
        self.check(list(self.processes.children.values()))

    def check(self, children: Sequence[RunnerProcess]) -> None:
        """Hand back for the runners that are stuck, and break the reader lock if one keeps it."""
        self.check_silent([child for child in children if not child.sequential])
        self.check_long_tasks([child for child in children if child.sequential])

    def check_silent(self, children: Sequence[RunnerProcess]) -> None:
        """Hand back for processes of greenlets whose hub is silent."""
        pids = {child.pid for child in children}
        self.checked = {pid: moment for pid, moment in self.checked.items() if pid in pids}
        began = clock.monotonic()
        for child in children:
            now = clock.monotonic()
            if now - began > BUDGET:
                break
            due = now - self.checked.get(child.pid, -AGAIN) >= AGAIN
            if due and child.slots.silent > LONG:
                self.checked[child.pid] = now
                self.hand_back(child, partial(self.not_started, child))
                if self.time_is_up():
                    break

    def not_started(self, child: RunnerProcess) -> list[Place]:
        """The messages that a silent process of greenlets holds and has not started.

        Those that have ended and are not settled are among what it has noted.
        """
        if child.slots.silent <= LONG:
            return []
        numbers = {stream: number for number, stream in enumerate(child.streams)}
        held = self.recovery.held(child.consumer, child.streams, child.slots.count + MORE)
        noted = child.slots.started_entries()
        return [place for place in held if (numbers[place[0]], place[1]) not in noted]

    def check_long_tasks(self, children: Sequence[RunnerProcess]) -> None:
        """Hand back for runners whose task runs longer than ``LONG``.  Asks Redis once a task."""
        self.let_others_read(children)
        pids = {child.pid for child in children}
        self.handled = {pid: entry for pid, entry in self.handled.items() if pid in pids}
        began = clock.monotonic()
        for child in children:
            if clock.monotonic() - began > BUDGET:
                break
            running = child.slots.running()
            if running and running[0].since > LONG:
                task = running[0]
                if self.handled.get(child.pid) != task.entry:
                    self.hand_back(child, partial(self.read_after, child, task))
                    self.handled[child.pid] = task.entry
                    if self.time_is_up():
                        break

    def let_others_read(self, children: Sequence[RunnerProcess]) -> None:
        """Break the reader lock if no runner reads although one is idle, beside a long task.

        Mostly that task keeps its process from releasing the lock.  If it does not, the lock is
        broken for nothing, which costs idle runners a little work, and no message.
        """
        idle = [child for child in children if not child.slots.running()]
        if not idle or any(child.slots.reading for child in children):
            return
        if any(run.since > KEPT for child in children for run in child.slots.running()):
            reader_lock.break_lock(self.lock_file)
            for child in idle:
                child.signal(interrupts.READER_LOCK)

    def read_after(self, child: RunnerProcess, task: RunningTask) -> list[Place]:
        """The messages that a runner holds of the same stream and has read after the running one.

        A runner works in the order in which it read.
        """
        if [each.entry for each in child.slots.running()] != [task.entry]:
            return []
        stream = child.streams[task.stream]
        return self.recovery.held_after(child.consumer, stream, task.entry)

    def hand_back(self, child: RunnerProcess, waiting: Callable[[], list[Place]]) -> None:
        """Hand back what waits behind a task, if anything does, while the process is suspended."""
        if not waiting():
            return
        child.signal(signal.SIGSTOP)
        try:
            if wait_suspended(child.pid) and (places := waiting()):
                child.slots.mark_taken()
                moved = self.recovery.release(child.consumer, places)
                logger.info(
                    "%s handed back: the task before lets nothing else run in runner %d",
                    *(count(moved, "message"), child.pid),
                )
        finally:
            child.signal(signal.SIGCONT)
