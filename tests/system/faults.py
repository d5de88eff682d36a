"""What may happen to a worker from outside: killed, frozen, thawed."""

import contextlib
import signal
import time
from collections.abc import Iterator
from typing import Any

from streamq.worker.signals import SAME_REQUEST
from tests.processes import hit, until

#: A lease that tests can wait for, in seconds, and what P6 allows beyond it.
LEASE, MARGIN = 1.0, 2.0

#: Tasks that say when they begin, and end when they are allowed to.
TASKS = """
@app.task(bind=True)
def hold(self, number, until="go"):
    note(f"begin {number} {os.getpid()} {time.time():.3f}")
    while not (HERE / until).exists():
        time.sleep(0.01)
    note(f"end {number} {os.getpid()} {time.time():.3f}")
    return [number, self.request.deliveries]

@app.task
def last(number, seconds):
    note(f"begin {number} {os.getpid()} {time.time():.3f}")
    time.sleep(seconds)
    return [number, os.getpid()]

@app.task
def quick(number=0):
    return number
"""

PREFORK, GEVENT = ("-c", 2), ("-P", "gevent", "--processes", 1, "-c", 10)


def kill_host(worker: Any) -> None:
    """Kill a worker as its machine's end would: nobody is left to say anything."""
    everybody = family(worker)
    hit(everybody, signal.SIGSTOP)
    hit(everybody, signal.SIGKILL)
    worker.process.wait(timeout=10)


@contextlib.contextmanager
def frozen(*pids: int) -> Iterator[None]:
    """Freeze processes for a block."""
    hit(pids, signal.SIGSTOP)
    try:
        yield
    finally:
        hit(pids, signal.SIGCONT)


def family(worker: Any) -> list[int]:
    """A supervisor and its runners."""
    return [worker.pid, *worker.runners()]


def ask_to_end(worker: Any) -> None:
    """Send a signal, and wait until the next one would be another request."""
    worker.signal()
    until(lambda: "finishing the running tasks" in worker.said, "the worker has heard it")
    time.sleep(2 * SAME_REQUEST)


def without_fences(site: Any) -> None:
    """Let workers run a copy in which who has lost its lease may settle all the same."""
    site.changed_package(
        "includes/consumer_calls.lua",
        "if not redis.call('ZRANK', key_of('leases'), consumer) then",
        "if false then",
    )
    site.changed_package(
        "settle.lua",
        "      settled = redis.call('XACK', key, 'workers', entry)\n",
        "      redis.call('XACK', key, 'workers', entry) settled = 1\n",
    )
    site.changed_module(
        "streamq/runner/prefetch.py", "if not self.consumer.has_lease():", "if False:"
    )


def begun(site: Any, number: object = None) -> list[tuple[int, int, float]]:
    """Number, process and moment of each beginning of a task, in their order."""
    found = []
    for line in site.notes():
        word, *rest = line.split()
        if word == "begin" and number in (None, int(rest[0])):
            found.append((int(rest[0]), int(rest[1]), float(rest[2])))
    return found


def since(moment: float) -> float:
    """Seconds of the wall clock since then."""
    return time.time() - moment


def letters(site: Any, queue: str = "default") -> list[str]:
    """The ids of a queue's dead letters."""
    return list(site.redis.zrange(f"{{streamq}}:dead:{queue}", 0, -1))


def letter(site: Any, result: Any, queue: str = "default") -> dict[str, str]:
    """A dead letter's fields."""
    return dict(site.redis.hgetall(f"{{streamq}}:dead:{queue}:{result.id}"))
