"""What a message costs the server when many runners wait for it, and one will get it."""

from benchmarks.harness import Figures, Stage, Wrong
from benchmarks.report import Figure, Row, at_most
from benchmarks.tasks import Bench, ready, worker

#: Workers and runners of each: one of one, and three hundred runners on ten.
FEW, MANY = (1, 1), (10, 30)


def measure(stage: Stage) -> Figures:
    few = server_us(stage, *FEW)
    stage.clear()
    many = server_us(stage, *(MANY if not stage.short else (2, 4)))
    return {"1 runner": few, "300 runners": many, "300 ÷ 1 runner": many / few}


def server_us(stage: Stage, workers: int, runners: int) -> float:
    """Microseconds of the server's CPU for a message sent and waited for while all are idle."""
    commands = [worker("-P", "prefork", "-c", str(runners)) for _ in range(workers)]
    with stage.processes(commands) as started:
        started.until(lambda: ready(stage, workers * runners), "all runners", pause=0.1)
        bench, count = Bench(stage.url), stage.size(3000, 100)
        call(bench, stage.size(300, 20))
        cpu = stage.server_cpu()
        call(bench, count)
        return (stage.server_cpu() - cpu) / count * 1e6


def call(bench: Bench, count: int) -> None:
    for x in range(count):
        if bench.noop.enqueue(x).get(timeout=30) != x:
            raise Wrong(f"{x} did not come back")


ROWS = (
    Row(
        "idle-runners",
        measure,
        (
            Figure("1 runner", "µs"),
            Figure("300 runners", "µs"),
            Figure("300 ÷ 1 runner", "×", (at_most(2),)),
        ),
    ),
)
