"""What many schedules cost the server, how late their ticks are, and how long listing them takes.

A thousand schedules of about fifty seconds: twenty ticks a second.  Their intervals differ by
milliseconds, so ticks come as independent events do, and now and then several at once.  Fifty
supervisors fire them: two real workers, which run what is sent, and forty-eight in one process.
"""

import os
import subprocess
import sys
import time

from benchmarks.harness import Figures, Processes, Stage, Wrong, percentile
from benchmarks.report import Figure, Row, at_most
from benchmarks.scheduled import INTERVAL, SPEC
from benchmarks.tasks import Bench, ready, streamq, worker

#: Workers with one runner each, and supervisors beside them.
WORKERS, BESIDE = 2, 48
KEY = "{streamq}:schedule:beat-%04d:runs"
#: Seconds until everything has started, and declarations are settled.
SETTLING = 6.0


def measure(stage: Stage) -> Figures:
    count, beside = stage.size(1000, 50), stage.size(BESIDE, 3)
    span = stage.size(30, 3)
    idle = watched(stage, 0, beside, span)
    stage.clear()
    plain = watched(stage, 0, beside, span, plain=count / INTERVAL)
    stage.clear()
    busy = watched(stage, count, beside, span)
    tasks = plain["cpu"] - idle["cpu"]
    return {
        "server, idle": idle["cpu"] * 100,
        "server, ticking": busy["cpu"] * 100,
        "ticks": (busy["cpu"] - idle["cpu"]) * 100,
        "plain tasks": tasks * 100,
        "late, p50": busy["p50"],
        "late, p99": busy["p99"],
        "late, most": busy["most"],
        "ls": busy["ls"],
    }


def watched(
    stage: Stage, count: int, beside: int, span: float, *, plain: float = 0.0
) -> dict[str, float]:
    """The server's CPU as a part of a core while schedules tick, or plain tasks are sent."""
    commands = [worker("-P", "prefork", "-c", "1", spec=SPEC) for _ in range(WORKERS)]
    commands.append([sys.executable, "-m", "benchmarks.scheduled", str(beside)])
    environment = {"BENCH_SCHEDULES": str(count)}
    with stage.processes(commands, environment=environment) as started:
        started.until(lambda: all_up(stage, WORKERS + beside), "all supervisors", pause=0.1)
        time.sleep(SETTLING if not stage.short else 1.0)
        since, cpu, clock = server_ms(stage), stage.server_cpu(), time.monotonic()
        bench = Bench(stage.url)
        if plain:
            for number in range(round(span * plain)):
                bench.noop.enqueue(number)
                time.sleep(max(0.0, clock + number / plain - time.monotonic()))
        else:
            time.sleep(span)
        used = (stage.server_cpu() - cpu) / (time.monotonic() - clock)
        found = {"cpu": used}
        if count:
            found |= lateness(stage, count, since, span)
            found["ls"] = listing(stage, started)
        return found


def all_up(stage: Stage, count: int) -> bool:
    return ready(stage, WORKERS) and stage.redis.zcard("{streamq}:workers") >= count


def server_ms(stage: Stage) -> int:
    seconds, micros = stage.redis.time()
    return int(seconds * 1000 + micros // 1000)


def lateness(stage: Stage, count: int, since: int, span: float) -> dict[str, float]:
    """How late ticks were by the server's clock, in milliseconds; each as its run tells it."""
    pipeline = stage.redis.pipeline(transaction=False)
    for number in range(count):
        pipeline.xrange(KEY % number, min=str(since))
    runs = [fields for found in pipeline.execute() for _, fields in found]
    late = [float(fields[b"late_ms"]) for fields in runs if fields[b"outcome"] == b"done"]
    if len(late) < 0.7 * span * count / INTERVAL or len(late) != len(runs):
        raise Wrong(f"{len(late)} ticks of {len(runs)} in {span} s")
    if any(int(fields[b"missed"]) for fields in runs):
        raise Wrong("moments were missed")
    return {"p50": percentile(late, 0.5), "p99": percentile(late, 0.99), "most": max(late)}


def listing(stage: Stage, started: Processes) -> float:
    """Milliseconds that listing all schedules takes longer than listing none."""
    started.check()
    told = {**os.environ, "STREAMQ_URL": stage.url}
    command, least = streamq("schedules", "ls"), {}
    for _ in range(stage.size(5, 1)):
        for namespace in ("streamq", "empty"):
            environment, began = {**told, "STREAMQ_NAMESPACE": namespace}, time.perf_counter()
            where = {"env": environment, "cwd": stage.folder, "stdout": subprocess.DEVNULL}
            subprocess.run(command, check=True, **where)
            took = (time.perf_counter() - began) * 1000
            least[namespace] = min(least.get(namespace, took), took)
    return least["streamq"] - least["empty"]


ROWS = (
    Row(
        "schedules",
        measure,
        (
            Figure("server, idle", "%"),
            Figure("server, ticking", "%"),
            Figure("ticks", "%", (at_most(1),)),
            Figure("plain tasks", "%"),
            Figure("late, p50", "ms"),
            Figure("late, p99", "ms"),
            Figure("late, most", "ms", (at_most(50),)),
            Figure("ls", "ms", (at_most(100),)),
        ),
    ),
)
