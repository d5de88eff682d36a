"""Publishing through a topic exchange whose other bindings do not match, with ever new keys."""

import itertools
import time

from benchmarks.harness import Figures, Stage, Wrong
from benchmarks.report import Figure, Row, at_most
from benchmarks.tasks import QUEUE, STREAM, Bench
from streamq import Binding, Exchange, Queue

SIZES = (10, 1_000, 10_000)

#: Turns that the exchanges take, so that noise meets all alike.
TURNS = 10


def measure(stage: Stage) -> Figures:
    bench = Bench(stage.url, queues())
    bench.app.declare()
    spent, served = dict.fromkeys(SIZES, 0.0), dict.fromkeys(SIZES, 0.0)
    keys = (f"order.{number}.created" for number in itertools.count(1_000_000))
    turn = stage.size(500, 20)
    for _ in range(TURNS):
        for size in SIZES:
            server, start = script_us(stage), time.perf_counter()
            for _ in range(turn):
                call = bench.noop.options(exchange=f"topic{size}", routing_key=next(keys))
                call.enqueue(1)
            spent[size] += time.perf_counter() - start
            served[size] += script_us(stage) - server
    expect(stage, TURNS * turn * len(SIZES))
    figures: Figures = {}
    for size in SIZES:
        figures[f"{size} bindings"] = spent[size] / TURNS / turn * 1e6
        figures[f"server, {size} bindings"] = served[size] / TURNS / turn
    return figures | {
        "10000 ÷ 10 bindings": spent[SIZES[-1]] / spent[SIZES[0]],
        "server, 10000 ÷ 10 bindings": served[SIZES[-1]] / served[SIZES[0]],
    }


def queues() -> list[Queue]:
    """One queue that each exchange reaches by one binding, one that no key reaches."""
    topics = {size: Exchange(f"topic{size}", type="topic") for size in SIZES}
    wanted = [Binding(topic, "order.*.created") for topic in topics.values()]
    others = [
        Binding(topic, pattern(number)) for size, topic in topics.items() for number in range(size)
    ]
    return [Queue(QUEUE, bindings=wanted), Queue("others", bindings=others)]


def pattern(number: int) -> str:
    """Bindings that start, end or look like the keys, and do not match them."""
    kinds = ("order.{}.created", "order.*.paid{}", "stock.{}.#", "#.refused{}", "*.{}.*")
    return kinds[number % len(kinds)].format(number)


def script_us(stage: Stage) -> float:
    """Microseconds that the server has spent in scripts."""
    return float(stage.redis.info("commandstats").get("cmdstat_evalsha", {}).get("usec", 0))


def expect(stage: Stage, total: int) -> None:
    if (waiting := stage.redis.xlen(STREAM)) != total:
        raise Wrong(f"{waiting} messages arrived, not {total}")
    if stage.redis.xlen("{streamq}:queue:others"):
        raise Wrong("messages went where no binding leads")


ROWS = (
    Row(
        "exchange",
        measure,
        (
            *(Figure(f"{size} bindings", "µs") for size in SIZES),
            Figure("10000 ÷ 10 bindings", "×", (at_most(1.3),)),
            *(Figure(f"server, {size} bindings", "µs") for size in SIZES),
            Figure("server, 10000 ÷ 10 bindings", "×", (at_most(1.3),)),
        ),
    ),
)
