"""Handing back what waits behind a task that lets nothing else run in its process.

A runner looks after its own desk while a task runs, in a thread.  C code that keeps the
interpreter's lock stops that thread too; then the supervisor does it: it stops the process
for a moment, hands back what has not been started, leaves a mark, and lets it go on.
"""

import logging
import signal
from collections.abc import Sequence
from pathlib import Path

from streamq import clock
from streamq.runner import interrupts, turns
from streamq.runner.slots import Occupied
from streamq.store.recovery import Recovery
from streamq.units import count
from streamq.worker.children import Child, stands_still

logger = logging.getLogger("streamq.worker")

#: Seconds that a task runs before the supervisor looks behind it; the runner's own thread
#: needs a hundredth of that.
LONG = 1.0
#: Seconds that one look waits for processes to stop: leases are renewed between two.
BUDGET = 0.25
#: Seconds that a task runs before its runner should have passed the turn on; likewise.
KEPT = 0.4


class Relief:
    """Looks behind tasks that run long, once for each; ``turn`` is the file of the turn."""

    def __init__(self, recovery: Recovery, turn: Path) -> None:
        self.recovery = recovery
        self.turn = turn
        self.seen: dict[int, bytes] = {}

    def look(self, children: Sequence[Child]) -> None:
        """Relieve the runners whose task has been running for long.  Asks Redis once a task."""
        children = [child for child in children if child.sequential]
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
                    if self.behind(child, task):
                        self.relieve(child, task)
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

    def behind(self, child: Child, task: Occupied) -> list[bytes]:
        """What the runner holds of the same stream and has read after the running message.

        A runner works in the order in which it read.
        """
        stream = child.streams[task.stream]
        return self.recovery.held_after(child.consumer, stream, task.entry)

    def relieve(self, child: Child, task: Occupied) -> None:
        """Hand back what waits behind this task, while the process stands still."""
        child.signal(signal.SIGSTOP)
        try:
            if not stands_still(child.pid):
                return
            now = child.slots.running()
            if [each.entry for each in now] != [task.entry]:
                return
            stream = child.streams[task.stream]
            waiting = self.behind(child, task)
            child.slots.take_away()
            moved = self.recovery.release(child.consumer, stream, waiting)
            logger.info(
                "%s handed back: the task before lets nothing else run in %d",
                *(count(moved, "message"), child.pid),
            )
        finally:
            child.signal(signal.SIGCONT)
