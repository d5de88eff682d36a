"""Handing back what waits behind a task that lets nothing else run in its process.

A runner looks after its own desk while a task runs, in a thread; a process of greenlets has one
beside its hub.  C code that keeps the interpreter's lock stops that thread too; then the
supervisor does it: it stops the process for a moment, hands back what has not been started,
leaves a mark, and lets it go on.
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
from streamq.runner import reader_lock as turns
from streamq.runner import signals as interrupts
from streamq.runner.shared_memory import Occupied
from streamq.worker.processes import Child, stands_still

logger = logging.getLogger("streamq.worker")

#: Seconds that a task runs, or a process of greenlets gives no sign of life, before the
#: supervisor looks behind it; its own thread needs a small part of that.
LONG = 1.0
#: Messages of a stream that are looked at beside as many as can run.
MORE = 200
#: Seconds between two looks behind the same task in a process of greenlets: a message may come
#: that it asked for before.
AGAIN = 1.0
#: Seconds that one look waits for processes to stop: leases are renewed between two.
BUDGET = 0.25
#: Seconds that a task runs before its runner should have passed the turn on; likewise.
KEPT = 0.4


class Relief:
    """Looks behind tasks that run long; ``turn`` is the file of the turn."""

    def __init__(self, recovery: Recovery, turn: Path) -> None:
        self.recovery = recovery
        self.turn = turn
        #: Behind which task we have looked in a process.
        self.seen: dict[int, bytes] = {}
        #: When we looked last in a process of greenlets.
        self.looked: dict[int, float] = {}

    def look(self, children: Sequence[Child]) -> None:
        """Relieve the runners whose task has been running for long."""
        self.look_at_silent([child for child in children if not child.sequential])
        self.look_at_long([child for child in children if child.sequential])

    def look_at_silent(self, children: Sequence[Child]) -> None:
        """Relieve processes of greenlets that give no sign of life."""
        pids = {child.pid for child in children}
        self.looked = {pid: moment for pid, moment in self.looked.items() if pid in pids}
        began = clock.monotonic()
        for child in children:
            now = clock.monotonic()
            if now - began > BUDGET:
                break
            due = now - self.looked.get(child.pid, -AGAIN) >= AGAIN
            if due and child.slots.silent > LONG:
                self.looked[child.pid] = now
                self.relieve(child, partial(self.not_started, child))

    def not_started(self, child: Child) -> list[Place]:
        """What a process of greenlets holds and has not started, if it gives no sign of life.

        What has ended and is not settled is among what it has noted.
        """
        if child.slots.silent <= LONG:
            return []
        numbers = {stream: number for number, stream in enumerate(child.streams)}
        held = self.recovery.held(child.consumer, child.streams, child.slots.count + MORE)
        noted = child.slots.noted()
        return [place for place in held if (numbers[place[0]], place[1]) not in noted]

    def look_at_long(self, children: Sequence[Child]) -> None:
        """Relieve runners whose task has been running for long.  Asks Redis once a task."""
        self.let_others_read(children)
        pids = {child.pid for child in children}
        self.seen = {pid: entry for pid, entry in self.seen.items() if pid in pids}
        began = clock.monotonic()
        for child in children:
            if clock.monotonic() - began > BUDGET:
                break
            running = child.slots.running()
            if running and running[0].since > LONG:
                task = running[0]
                if self.seen.get(child.pid) != task.entry:
                    self.relieve(child, partial(self.behind, child, task))
                    self.seen[child.pid] = task.entry

    def let_others_read(self, children: Sequence[Child]) -> None:
        """Make the turn anew if nobody reads although somebody could, beside a task that runs on.

        Mostly that task keeps its process from passing the turn on.  If it does not, the turn
        is made anew for nothing, which costs the idle a little work and nobody a message.
        """
        idle = [child for child in children if not child.slots.running()]
        if not idle or any(child.slots.reading for child in children):
            return
        if any(run.since > KEPT for child in children for run in child.slots.running()):
            turns.make_anew(self.turn)
            for child in idle:
                child.signal(interrupts.TURN)

    def behind(self, child: Child, task: Occupied) -> list[Place]:
        """What the runner holds of the same stream and has read after the running message.

        A runner works in the order in which it read.
        """
        if [each.entry for each in child.slots.running()] != [task.entry]:
            return []
        stream = child.streams[task.stream]
        return self.recovery.held_after(child.consumer, stream, task.entry)

    def relieve(self, child: Child, waiting: Callable[[], list[Place]]) -> None:
        """Hand back what waits behind a task, if anything does, while the process stands still."""
        if not waiting():
            return
        child.signal(signal.SIGSTOP)
        try:
            if stands_still(child.pid) and (places := waiting()):
                child.slots.take_away()
                moved = self.recovery.release(child.consumer, places)
                logger.info(
                    "%s handed back: the task before lets nothing else run in %d",
                    *(count(moved, "message"), child.pid),
                )
        finally:
            child.signal(signal.SIGCONT)
