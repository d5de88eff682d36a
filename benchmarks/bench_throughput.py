"""No-op tasks a second through two prefork runners, from a backlog that already waits."""

import random
from functools import partial
from typing import Any

from benchmarks.harness import Figures, Stage, Wrong
from benchmarks.report import PEERS, Figure, Row, at_least
from benchmarks.tasks import Bench, settled, worker

#: How a task may be acknowledged and kept, and how many fill a round.
WAYS: dict[str, tuple[dict[str, Any], int]] = {
    "late ack, results": ({}, 240_000),
    "late ack, no results": ({"ignore_result": True}, 300_000),
    "early ack, results": ({"acks_late": False}, 60_000),
}


def measure(stage: Stage) -> Figures:
    figures: Figures = {}
    for way, (options, full) in WAYS.items():
        stage.clear()
        bench, total = Bench(stage.url), stage.size(full, 4000)
        results = bench.send(bench.noop.options(**options), total)
        with stage.processes([worker("-P", "prefork", "-c", "2")]) as workers:
            drained = stage.drain(total, partial(settled, stage), workers)
        verify(stage, total, [] if options.get("ignore_result") else results)
        figures |= {way: drained.rate, f"server, {way}": drained.server_us}
    return figures


def verify(stage: Stage, total: int, results: list[Any]) -> None:
    """Each task ran once, and results are where they should be."""
    if stage.marks.count() != total:
        raise Wrong(f"{stage.marks.count()} runs of {total} tasks")
    states = {result.state for result in random.sample(results, min(100, len(results)))}
    if states - {"SUCCESS"}:
        raise Wrong(f"results that are not there: {states}")


ROWS = (
    Row(
        "throughput",
        measure,
        (
            Figure(
                "late ack, results",
                "/s",
                (
                    at_least(40_000),
                    at_least(0.5, of="bare: drain, batches of 64"),
                    at_least(35, of="celery: drain"),
                    at_least(8, of=f"{PEERS}: drain"),
                ),
            ),
            Figure("server, late ack, results", "µs a task"),
            Figure("late ack, no results", "/s", (at_least(55_000),)),
            Figure("server, late ack, no results", "µs a task"),
            Figure("early ack, results", "/s", (at_least(8_000),)),
            Figure("server, early ack, results", "µs a task"),
        ),
    ),
)
