# pip: huey[redis]==3.5.4 hiredis
"""Huey: a consumer with 2 processes; a task is taken off the queue before it runs (at most once).

Where the benchmark waits for results, waiters are told (``notify_result``), else they would poll;
where it does not, they are not, which doubles the speed.
"""

import os

from driver import URL, mark, serve
from huey import RedisHuey

huey = RedisHuey("bench", url=URL, notify_result="BENCH_WAITED" in os.environ)


@huey.task(name="noop")
def noop(x):
    mark()
    return x


WORKERS = ["python -m huey.bin.huey_consumer use_huey.huey -k process -w 2 -n -q"]

if __name__ == "__main__":
    import use_huey  # tasks are named after their module, which must not be __main__

    task = use_huey.noop
    serve(workers=WORKERS, enqueue=task, call=lambda x: task(x).get(blocking=True, timeout=20))
