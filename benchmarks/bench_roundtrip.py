"""From ``enqueue`` to holding the result, one at a time, nothing else going on."""

import time

from benchmarks.harness import Figures, Stage, Wrong, percentile
from benchmarks.report import Figure, Row, at_most
from benchmarks.tasks import Bench, ready, worker


def measure(stage: Stage) -> Figures:
    bench = Bench(stage.url)
    with stage.processes([worker("-P", "prefork", "-c", "2")]) as workers:
        workers.until(lambda: ready(stage, 2), "two runners")
        for x in range(50):
            call(bench, x)
        times = [call(bench, x) for x in range(stage.size(3000, 200))]
    return {"p50": percentile(times, 0.5), "p99": percentile(times, 0.99)}


def call(bench: Bench, x: int) -> float:
    """Milliseconds of one call."""
    start = time.perf_counter()
    if bench.noop.enqueue(x).get(timeout=10) != x:
        raise Wrong(f"{x} did not come back")
    return (time.perf_counter() - start) * 1e3


ROWS = (
    Row(
        "roundtrip",
        measure,
        (Figure("p50", "ms", (at_most(0.4),)), Figure("p99", "ms", (at_most(3),))),
    ),
)
