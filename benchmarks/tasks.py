"""streamq as the rows use it: the tasks, the app that producers and workers share, the workers."""

import contextlib
import itertools
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import redis

from benchmarks.harness import Stage
from streamq import App, Queue

QUEUE = "bench"
STREAM = "{streamq}:queue:bench"
STREAMS = (f"{STREAM}:returned", STREAM)
LEASES = "{streamq}:leases"

#: Calls that one ``enqueue_many`` is given: what it returns would else fill the memory.
SLICE = 50_000

_mark = os.open(os.environ.get("BENCH_MARKS", os.devnull), os.O_WRONLY | os.O_APPEND)


def noop(x: int) -> int:
    os.write(_mark, b".")
    return x


def nap(seconds: float) -> None:
    time.sleep(seconds)
    os.write(_mark, b".")


class Bench:
    """An app with the two tasks and one queue, as fresh as the server it is for."""

    def __init__(self, url: str | None, queues: Iterable[Queue] = (Queue(QUEUE),)) -> None:
        self.app = App("bench", url=url)
        self.app.queues = list(queues)
        self.noop = self.app.task(name="bench.noop")(noop)
        self.nap = self.app.task(name="bench.nap")(nap)

    def send(self, call: Any, total: int) -> list[Any]:
        """Enqueue ``call`` so often; return the results of the last slice."""
        results: list[Any] = []
        for start in range(0, total, SLICE):
            numbers = range(start, min(start + SLICE, total))
            results = self.app.enqueue_many(call.s(number) for number in numbers)
        return results


#: What the workers run.
app = Bench(os.environ.get("BENCH_URL")).app

_names = itertools.count(1)


def streamq(*words: str) -> list[str]:
    """The command line of a streamq command."""
    script = Path(sys.executable).with_name("streamq")
    program = [str(script)] if script.exists() else [sys.executable, "-m", "streamq"]
    return [*program, *words]


def worker(*options: str, spec: str = "benchmarks.tasks:app") -> list[str]:
    """The command line of a worker of its own name."""
    name = f"bench{next(_names)}@%h"
    common = ["-A", spec, "-Q", QUEUE, "-l", "warning", "-n", name]
    return streamq("worker", *common, *options)


def ready(stage: Stage, runners: int) -> bool:
    """Whether so many runners may take work: each has a lease before its first read."""
    return stage.redis.zcard(LEASES) >= runners


def settled(stage: Stage) -> bool:
    """Whether the server holds nothing more of the queue: nothing waits, nothing is pending."""
    if any(stage.redis.xlen(stream) for stream in STREAMS):
        return False
    with contextlib.suppress(redis.ResponseError):  # a stream that nobody has needed yet
        groups = [group for stream in STREAMS for group in stage.redis.xinfo_groups(stream)]
        return not any(group["pending"] for group in groups)
    return True
