"""One checkout's part in ``benchmarks.against``: plays short turns of the main job when told to.

Run with a checkout in the path, so that its streamq, tasks and workers are the ones that play.
Reads the name of a figure from each line, plays one turn of it, and answers what a message cost,
in microseconds.  Between turns it sleeps, and its worker waits for messages, so that two
of these, each with a server of its own, do not get in each other's way.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import redis

import streamq
from benchmarks.harness import Processes, Stage, Wrong, descendants, percentile
from benchmarks.tasks import STREAM, Bench, ready, settled, worker

#: How a task of the draining turns is acknowledged and kept, and how many make a turn.
DRAINS: dict[str, tuple[dict[str, Any], int]] = {
    "drain: late ack, results": ({}, 20_000),
    "drain: late ack, no results": ({"ignore_result": True}, 25_000),
    "drain: early ack, results": ({"acks_late": False}, 4_000),
}


class Player:
    """One side: an app, a server, and from the first draining turn on a worker."""

    def __init__(self, url: str, folder: Path, processes: Processes) -> None:
        self.stage = Stage(url, folder)
        self.bench = Bench(url)
        self.client = redis.Redis.from_url(url)
        self.processes = processes
        self.turns: dict[str, Callable[[], float]] = {
            "enqueue: one by one": lambda: self.enqueueing(self.one_by_one, 1_000),
            "enqueue: redis-py XADD": lambda: self.enqueueing(self.xadd, 1_000),
            "enqueue: many, with results": lambda: self.enqueueing(self.many, 10_000),
            "enqueue: many, ignore_result": lambda: self.enqueueing(self.many_ignored, 10_000),
            "round trip": self.round_trip,
            **{name: lambda name=name: self.draining(*DRAINS[name]) for name in DRAINS},  # type: ignore[misc]
        }

    # Enqueueing, with no worker

    def enqueueing(self, way: Callable[[int], None], count: int) -> float:
        """Microseconds of a message that is enqueued; the server was emptied before."""
        self.stage.clear()
        way(10)  # declares and connects
        start = time.perf_counter()
        way(count)
        took = time.perf_counter() - start
        if way != self.xadd and (waiting := self.client.xlen(STREAM)) != count + 10:
            raise Wrong(f"{waiting} messages wait, not {count + 10}")
        return took / count * 1e6

    def one_by_one(self, count: int) -> None:
        for x in range(count):
            self.bench.noop.enqueue(x)

    def xadd(self, count: int) -> None:
        for x in range(count):
            fields = {"id": f"{x:026}", "task": "bench.noop", "args": f"[{x}]", "kwargs": "{}"}
            self.client.xadd("{streamq}:bench:xadd", fields)  # type: ignore[arg-type]

    def many(self, count: int) -> None:
        self.bench.send(self.bench.noop, count)

    def many_ignored(self, count: int) -> None:
        self.bench.send(self.bench.noop.options(ignore_result=True), count)

    # With a worker

    def draining(self, options: dict[str, Any], total: int) -> float:
        """Microseconds of a task, from a backlog that waits until nothing is left of it."""
        self.employ()
        self.stage.marks.clear()
        with self.frozen():
            self.bench.send(self.bench.noop.options(**options), total)
            start = time.perf_counter()
        self.processes.until(lambda: self.stage.marks.count() >= total, f"{total} tasks to run")
        self.processes.until(lambda: settled(self.stage), "the server to say that nothing is left")
        took = time.perf_counter() - start
        if (runs := self.stage.marks.count()) != total:
            raise Wrong(f"{runs} runs of {total} tasks")
        self.forget_results()
        return took / total * 1e6

    def round_trip(self) -> float:
        """Microseconds from ``enqueue`` to holding the value, at the median."""
        self.employ()
        times = []
        for x in range(200):
            start = time.perf_counter()
            if self.bench.noop.enqueue(x).get(timeout=10) != x:
                raise Wrong(f"{x} did not come back")
            times.append(time.perf_counter() - start)
        self.forget_results()
        return percentile(times, 0.5) * 1e6

    def employ(self) -> None:
        """Start the worker, if none is there, with two runners that know their task."""
        if not self.processes.running:
            self.stage.clear()
            command = worker("-P", "prefork", "-c", "2")
            environment = {**os.environ, **self.stage.environment}
            self.processes.start(command, environment=environment, cwd=Path.cwd())
            self.processes.until(lambda: ready(self.stage, 2), "two runners")
            for x in range(50):
                self.bench.noop.enqueue(x).get(timeout=10)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """The worker stands still while the block fills its queue: far less than its lease."""
        family = [pid for each in self.processes.pids for pid in (each, *descendants(each))]
        for pid in family:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in family:
                os.kill(pid, signal.SIGCONT)

    def forget_results(self) -> None:
        """Keep the server as small as it was: records expire only in a day."""
        records = self.client.scan_iter("{streamq}:task:*", count=2000)
        while some := [key for _, key in zip(range(2000), records, strict=False)]:
            self.client.unlink(*some)


def main() -> None:
    url, folder = sys.argv[1], Path(sys.argv[2])
    print(Path(streamq.__file__).parent.parent, flush=True)
    processes = Processes(folder / "workers.log")
    try:
        player = Player(url, folder, processes)
        for line in sys.stdin:
            print(player.turns[line.strip()](), flush=True)
    finally:
        processes.stop()


if __name__ == "__main__":
    main()
