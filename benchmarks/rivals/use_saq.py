# pip: saq[redis,hiredis]==0.26.4 typing_extensions
"""SAQ: 2 processes of 10 coroutines each (its default), results in Redis.

Its waiters are let poll every millisecond: ``job.refresh(until_complete=…)``, which listens
instead, does not hear of a task that ended before it listened.
"""

from contextlib import asynccontextmanager

from driver import URL, mark, serve
from saq import Queue

queue = Queue.from_url(URL)


async def noop(ctx, *, x):
    mark()
    return x


async def call(x):
    return await queue.apply("noop", x=x, timeout=20, poll_interval=0.001)


@asynccontextmanager
async def opened():
    await queue.connect()
    yield
    await queue.disconnect()


settings = {"queue": queue, "functions": [("noop", noop)], "concurrency": 10}

WORKERS = ["saq use_saq.settings --workers 2 --quiet"]

if __name__ == "__main__":
    serve(
        workers=WORKERS,
        enqueue=lambda x: queue.enqueue("noop", x=x),
        call=call,
        opened=opened(),
    )
