"""A million messages waiting: do they slow anything down, and what do they weigh?"""

import time
from functools import partial

from benchmarks.harness import Figures, Stage
from benchmarks.report import Figure, Row, at_least, at_most
from benchmarks.tasks import Bench, settled, worker

#: The share of the backlog that is drained, and also the size of the small backlog.
PART = 0.2
SLICES = 10


def measure(stage: Stage) -> Figures:
    total = stage.size(1_000_000, 20_000)
    before = small_drain(stage, int(total * PART))
    rates, bytes_each = pile(stage, total)
    large = drain(stage, total, PART)
    after = small_drain(stage, int(total * PART))
    small = (before + after) / 2  # around the large one, so that a drift of the machine meets both
    _, bytes_ignored = pile(stage, total, ignore_result=True)
    return {
        "drain, small backlog": small,
        "drain, large backlog": large,
        "drain, large ÷ small": large / small,
        "enqueue, last fifth ÷ first": sum(rates[-2:]) / sum(rates[:2]),
        "a waiting message": bytes_each,
        "a waiting message, ignore_result": bytes_ignored,
    }


def pile(stage: Stage, total: int, *, ignore_result: bool = False) -> tuple[list[float], float]:
    """Make a backlog; return the rate of each slice, and bytes of Redis per message."""
    stage.clear()
    bench = Bench(stage.url)
    call = bench.noop.options(ignore_result=ignore_result)
    bench.app.declare()
    memory, rates = stage.redis.info("memory")["used_memory"], []
    for _ in range(SLICES):
        start = time.perf_counter()
        bench.send(call, total // SLICES)
        rates.append(total / SLICES / (time.perf_counter() - start))
    return rates, (stage.redis.info("memory")["used_memory"] - memory) / total


def small_drain(stage: Stage, total: int) -> float:
    pile(stage, total)
    return drain(stage, total, 1.0)


def drain(stage: Stage, total: int, part: float) -> float:
    stage.wait_for_rewrite()
    with stage.processes([worker("-P", "prefork", "-c", "2")]) as workers:
        return stage.drain(total, partial(settled, stage), workers, part=part).rate


ROWS = (
    Row(
        "backlog",
        measure,
        (
            Figure("drain, small backlog", "/s"),
            Figure("drain, large backlog", "/s"),
            Figure("drain, large ÷ small", "×", (at_least(0.9),)),
            Figure("enqueue, last fifth ÷ first", "×", (at_least(0.9),)),
            Figure("a waiting message", "B", (at_most(320),)),
            Figure("a waiting message, ignore_result", "B", (at_most(180),)),
        ),
    ),
)
