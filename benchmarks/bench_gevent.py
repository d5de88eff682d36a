"""Two gevent processes of 500 greenlets run tasks that only sleep, against sleeping alone."""

from collections import Counter
from functools import partial
from pathlib import Path

from benchmarks.harness import Figures, Stage, Wrong, descendants
from benchmarks.report import Figure, Row, at_least, at_most
from benchmarks.tasks import Bench, settled, worker

PROCESSES = 2
NAP = 0.1


def measure(stage: Stage) -> Figures:
    total, greenlets = stage.size(50_000, 1000), stage.size(500, 50)
    bench = Bench(stage.url)
    bench.app.enqueue_many(bench.nap.s(NAP) for _ in range(total))
    options = ("-P", "gevent", "--processes", str(PROCESSES), "-c", str(greenlets))
    with stage.processes([worker(*options)]) as workers:
        workers.until(lambda: stage.marks.count() >= total // 20, "the first tasks")
        connections = connections_by_process(stage, workers.pids[0])
        drained = stage.drain(total, partial(settled, stage), workers)
    if stage.marks.count() != total:
        raise Wrong(f"{stage.marks.count()} runs of {total} tasks")
    return {
        "tasks": drained.rate,
        "tasks ÷ ideal": drained.rate / (PROCESSES * greenlets / NAP),
        "connections of a process": max(connections.values()),
    }


def connections_by_process(stage: Stage, supervisor: int) -> Counter[int]:
    """How many of the server's clients belong to each process of the worker."""
    inodes = inodes_by_port()
    ports = [int(client["addr"].rpartition(":")[2]) for client in stage.redis.client_list()]
    wanted = {f"socket:[{inodes[port]}]" for port in ports if port in inodes}
    found: Counter[int] = Counter()
    for pid in (supervisor, *descendants(supervisor)):
        files = (link for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink())
        found[pid] = sum(str(file.readlink()) in wanted for file in files)
    return found


def inodes_by_port() -> dict[int, str]:
    """The socket behind each local TCP port."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    rows = [line.split() for line in lines]
    return {int(row[1].rpartition(":")[2], 16): row[9] for row in rows if row[9] != "0"}


ROWS = (
    Row(
        "gevent",
        measure,
        (
            Figure("tasks", "/s"),
            Figure("tasks ÷ ideal", "×", (at_least(0.9),)),
            Figure("connections of a process", "", (at_most(3),)),
        ),
    ),
)
