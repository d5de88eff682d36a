"""Messages a second from one producer: one by one beside redis-py's own XADD, and many at once."""

import time
from collections.abc import Callable

import redis

from benchmarks.harness import Figures, Stage, Wrong
from benchmarks.report import Figure, Row, at_least
from benchmarks.tasks import STREAM, Bench

#: Turns that the two ways to enqueue one by one take, so that noise meets both alike.
TURNS = 20


def measure(stage: Stage) -> Figures:
    figures = one_by_one(stage)
    stage.clear()
    figures["many, with results"] = many(stage, ignore_result=False)
    stage.clear()
    figures["many, ignore_result"] = many(stage, ignore_result=True)
    return figures


def one_by_one(stage: Stage) -> Figures:
    """A task by ``enqueue`` in turn with the same fields by ``xadd``, in this process."""
    bench, client = Bench(stage.url), redis.Redis.from_url(stage.url)

    def enqueue(x: int) -> None:
        bench.noop.enqueue(x)

    def xadd(x: int) -> None:
        fields = {"id": f"{x:026}", "task": "bench.noop", "args": f"[{x}]", "kwargs": "{}"}
        client.xadd("{streamq}:bench:xadd", fields)  # type: ignore[arg-type]

    spent = {enqueue: 0.0, xadd: 0.0}
    turn = stage.size(1000, 50)
    for way in spent:
        timed(way, turn)  # connects, and warms up
    for _ in range(TURNS):
        for way in spent:
            spent[way] += timed(way, turn)
    expect(stage, (TURNS + 1) * turn)
    rates = {way: TURNS * turn / seconds for way, seconds in spent.items()}
    return {
        "one by one": rates[enqueue],
        "redis-py XADD": rates[xadd],
        "one by one ÷ XADD": rates[enqueue] / rates[xadd],
    }


def timed(way: Callable[[int], None], count: int) -> float:
    start = time.perf_counter()
    for x in range(count):
        way(x)
    return time.perf_counter() - start


def many(stage: Stage, *, ignore_result: bool) -> float:
    bench, total = Bench(stage.url), stage.size(200_000, 5000)
    call = bench.noop.options(ignore_result=ignore_result)
    bench.send(call, 100)
    start = time.perf_counter()
    bench.send(call, total)
    took = time.perf_counter() - start
    expect(stage, total + 100)
    return total / took


def expect(stage: Stage, total: int) -> None:
    if (waiting := stage.redis.xlen(STREAM)) != total:
        raise Wrong(f"{waiting} messages wait, not {total}")


ROWS = (
    Row(
        "enqueue",
        measure,
        (
            Figure("one by one", "/s"),
            Figure("redis-py XADD", "/s"),
            Figure("one by one ÷ XADD", "×", (at_least(0.85),)),
            Figure("many, with results", "/s", (at_least(60_000),)),
            Figure("many, ignore_result", "/s", (at_least(90_000),)),
        ),
    ),
)
