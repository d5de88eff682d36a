"""What a worker costs before it works: the time to its first result, and what idling takes."""

import statistics
import time
from pathlib import Path

from benchmarks.harness import Figures, Stage, descendants
from benchmarks.report import Figure, Row, at_most
from benchmarks.tasks import Bench, ready, worker

#: Runners of the idle worker.
RUNNERS = 4


def first_result(stage: Stage) -> Figures:
    """A task waits; the clock runs from starting the worker to holding the result."""
    result = Bench(stage.url).noop.enqueue(1)
    start = time.perf_counter()
    with stage.processes([worker("-P", "prefork", "-c", "2")]):
        result.get(timeout=30)
        return {"first result": time.perf_counter() - start}


def idle(stage: Stage) -> Figures:
    """A worker that has run something and now waits."""
    span = stage.size(15, 2)
    with stage.processes([worker("-P", "prefork", "-c", str(RUNNERS))]) as workers:
        workers.until(lambda: ready(stage, RUNNERS), "four runners")
        bench = Bench(stage.url)
        bench.send(bench.noop, 100)
        workers.until(lambda: stage.marks.count() >= 100, "100 tasks")
        time.sleep(stage.size(3, 1))
        supervisor = workers.pids[0]
        cpu, (requests, commands) = process_cpu(supervisor), asked_so_far(stage)
        time.sleep(span)
        cpu, (more, deeper) = process_cpu(supervisor) - cpu, asked_so_far(stage)
        private = [private_megabytes(pid) for pid in descendants(supervisor)]
    return {
        "supervisor CPU": cpu / span * 100,
        # One of each asked for the numbers.
        "Redis requests": (more - requests - 1) / span,
        "Redis commands": (deeper - commands - 1) / span,
        "private memory of a runner": statistics.median(private),
    }


def process_cpu(pid: int) -> float:
    """Seconds of CPU a process has used, to the nanosecond: its clock, not its ticks."""
    return time.clock_gettime((~pid << 3) | 2)


def asked_so_far(stage: Stage) -> tuple[int, int]:
    """How often clients have sent something, and the commands executed, inside scripts too."""
    stats = stage.redis.info("stats")
    return int(stats["total_reads_processed"]), int(stats["total_commands_processed"])


def private_megabytes(pid: int) -> float:
    """Memory that would be free without this process."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


ROWS = (
    Row("start", first_result, (Figure("first result", "s", (at_most(0.8),)),)),
    Row(
        "idle",
        idle,
        (
            Figure("supervisor CPU", "%", (at_most(0.2),)),
            Figure("Redis requests", "/s", (at_most(1),)),
            Figure("Redis commands", "/s"),
            Figure("private memory of a runner", "MB", (at_most(20),)),
        ),
    ),
)
