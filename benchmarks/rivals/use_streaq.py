# pip: streaq==7.2.0 hiredis uvloop typing_extensions
"""streaQ: 2 processes of 16 coroutines (its default), on uvloop, results in Redis.

Waiting for a result takes 0.1 s more than the task: closing the subscription does.
"""

from driver import URL, mark, serve
from streaq import Worker

worker = Worker(redis_url=URL, queue_name="bench", anyio_kwargs={"use_uvloop": True})


@worker.task(name="noop")
async def noop(x: int) -> int:
    mark()
    return x


async def enqueue(x):
    await noop.enqueue(x)


async def call(x):
    task = await noop.enqueue(x)
    return (await task.result(20)).result


WORKERS = ["streaq run use_streaq:worker --workers 2"]

if __name__ == "__main__":
    serve(workers=WORKERS, enqueue=enqueue, call=call, opened=worker)
