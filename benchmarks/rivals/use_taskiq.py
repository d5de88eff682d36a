# pip: taskiq-redis==1.2.4 hiredis uvloop
"""taskiq on Redis Streams: 2 processes, acknowledged when the result is saved (its defaults).

Its waiters poll; they are let poll every millisecond.  It never deletes what was done.
"""

from contextlib import asynccontextmanager

from driver import URL, mark, serve
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

broker = RedisStreamBroker(URL, queue_name="bench", consumer_id="0").with_result_backend(
    RedisAsyncResultBackend(URL, result_ex_time=86_400)
)


@broker.task(task_name="noop")
async def noop(x: int) -> int:
    mark()
    return x


async def call(x):
    task = await noop.kiq(x)
    return (await task.wait_result(check_interval=0.001, timeout=20)).return_value


@asynccontextmanager
async def opened():
    await broker.startup()
    yield
    await broker.shutdown()


WORKERS = ["taskiq worker use_taskiq:broker --workers 2 --log-level WARNING"]

if __name__ == "__main__":
    serve(workers=WORKERS, enqueue=noop.kiq, call=call, opened=opened())
