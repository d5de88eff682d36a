"""The gevent pool: a concurrent pool whose threads are greenlets.

The standard library has been patched before anything else was imported.
"""

import gevent
from gevent.event import Event

from streamq.runner.pools.concurrent import ConcurrentPool
from streamq.runner.pools.hub_watchdog import HubWatchdog
from streamq.runner.pools.primitives import Primitives
from streamq.runner.pools.task_limits import LimitedRun, TaskLimits
from streamq.runner.runner import Runner

GREENLETS = Primitives(
    spawn=gevent.spawn,
    spawn_task=gevent.spawn_raw,
    sleep=gevent.sleep,
    event=Event,
    current=gevent.getcurrent,
)


class GreenletLimits(TaskLimits):
    """The limits of tasks in greenlets: raised inside a task where it waits for something.

    A task that never waits blocks the whole process; then its supervisor kills the process.
    """

    def interrupt(self, slot: int, run: LimitedRun, error: BaseException) -> None:
        """Raise an exception inside a task, unless the task has ended by then."""

        def throw() -> None:
            if self.runs[slot] is run:
                run.thread.throw(error)

        gevent.get_hub().loop.run_callback(throw)


def make_gevent(runner: Runner) -> ConcurrentPool:
    """Make the pool of a process that gevent has patched."""
    parts, reader = runner.parts(repairs_itself=False), runner.consumer("reader")
    watchdog = HubWatchdog(runner.consumer("watch"), parts.prefetch, parts.slots, reader.connection)
    limits = GreenletLimits(parts.slots, GREENLETS)
    return ConcurrentPool(parts, reader, GREENLETS, limits, watchdog)
