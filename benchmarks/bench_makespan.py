"""How long a bag of sleeping tasks takes, against handing each to the first runner that is free.

That is greedy list scheduling in order of arrival.  A worker that hoards messages behind a slow
task is late here, and all the more after it has learnt from no-op tasks that tasks are short.
"""

import heapq
import time
from collections.abc import Sequence

from benchmarks.harness import Figures, Processes, Stage
from benchmarks.report import Figure, Row, at_most
from benchmarks.tasks import Bench, ready, settled, worker

RUNNERS = 4
NAP = 0.05
SLOW = 2.0

#: Where the slow task stands: early, so that there is much to hoard behind it.
SLOW_AT = 8


def measure(stage: Stage) -> Figures:
    count = stage.size(100, 20)
    equal = [NAP] * count
    mixed = [*equal[:SLOW_AT], stage.size(20, 6) * SLOW / 20, *equal[SLOW_AT + 1 :]]
    figures: Figures = {}
    with stage.processes([worker("-P", "prefork", "-c", str(RUNNERS))]) as workers:
        workers.until(lambda: ready(stage, RUNNERS), "four runners")
        bench = Bench(stage.url)
        lateness(stage, bench, workers, [NAP] * RUNNERS)  # every runner has run something
        figures["equal"] = lateness(stage, bench, workers, equal)
        figures["one slow"] = lateness(stage, bench, workers, mixed)
        finish(stage, workers, len(bench.send(bench.noop, stage.size(5000, 500))))
        figures["one slow, after no-op tasks"] = lateness(stage, bench, workers, mixed)
    return figures


def lateness(stage: Stage, bench: Bench, workers: Processes, naps: Sequence[float]) -> float:
    """The makespan, as a multiple of the greedy one."""
    stage.marks.clear()
    start = time.perf_counter()
    bench.app.enqueue_many(bench.nap.s(seconds) for seconds in naps)
    finish(stage, workers, len(naps))
    return (time.perf_counter() - start) / greedy(naps)


def finish(stage: Stage, workers: Processes, total: int) -> None:
    workers.until(lambda: stage.marks.count() >= total and settled(stage), f"{total} tasks")


def greedy(naps: Sequence[float]) -> float:
    """The makespan when each task starts, in order, on the runner that is free first."""
    free = [0.0] * RUNNERS
    for seconds in naps:
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)


ROWS = (
    Row(
        "makespan",
        measure,
        tuple(
            Figure(name, "× greedy", (at_most(1.08),))
            for name in ("equal", "one slow", "one slow, after no-op tasks")
        ),
    ),
)
