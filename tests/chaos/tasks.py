"""The app of a chaos run: its queues, and tasks that record their start and end."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from streamq import App, Exchange, Queue, Reject
from tests.chaos import recorder
from tests.chaos.history import PLACE, HistoryWriter
from tests.chaos.workload import TRIES_AGAIN, value_of

writer = HistoryWriter(os.environ[PLACE])
recorder.install(writer)

fan, after = Exchange("fan", type="fanout"), Exchange("after", type="fanout")
app = App("chaos")
app.queues = [
    Queue("work"),
    Queue("ranked", max_priority=5),
    Queue("left", fan),
    Queue("right", fan),
    Queue("doomed", dead_letter_exchange=after),
    Queue("dead_queue", after),
]


@contextmanager
def run(task: Any, number: int, kind: str) -> Iterator[str]:
    """Record the start of a task with its process and stream entry, and how it ended."""
    delivery, request = task.delivery, task.request
    entry = f"{delivery.stream} {delivery.entry.decode()}"
    token = f"{os.getpid()} {entry} {time.monotonic_ns()}"
    writer.note(
        "start",
        number=number,
        kind=kind,
        id=request.id,
        token=token,
        entry=entry,
        pid=os.getpid(),
        worker=os.environ["CHAOS_WORKER"],
        deliveries=request.deliveries,
        retries=request.retries,
    )
    how = "raised"
    try:
        yield token
        how = "returned"
    finally:
        writer.note("end", token=token, how=how)


@app.task(bind=True)
def quick(self: Any, number: int, kind: str, seconds: float) -> list[Any]:
    with run(self, number, kind) as token:
        time.sleep(seconds)
        return [value_of(number), token]


@app.task(bind=True)
def again(self: Any, number: int, kind: str, seconds: float) -> list[Any]:
    """Succeeds after ``TRIES_AGAIN`` retries."""
    with run(self, number, kind) as token:
        time.sleep(seconds)
        if self.request.retries < TRIES_AGAIN:
            raise self.retry(countdown=0.05 + number % 5 / 10)
        return [value_of(number), token]


@app.task(bind=True)
def failing(self: Any, number: int, kind: str, seconds: float) -> None:
    with run(self, number, kind) as token:
        time.sleep(seconds)
        raise ValueError(value_of(number), token)


@app.task(bind=True)
def rejected(self: Any, number: int, kind: str, seconds: float) -> list[Any]:
    """Rejects its message; the dead letter runs in another queue."""
    with run(self, number, kind) as token:
        if self.request.queue == "doomed":
            raise Reject(requeue=False)
        return [value_of(number), token]


@app.task(bind=True)
def poison(self: Any, number: int, kind: str, seconds: float) -> None:
    with run(self, number, kind):
        os.kill(os.getpid(), signal.SIGKILL)
