# pip: celery[redis]==5.7.0 hiredis
"""Celery: prefork of 2, acknowledged late, results in Redis, JSON.

Gossip and mingle are off and the prefetch is wide, as its guide advises for short tasks.
"""

from celery import Celery
from driver import URL, mark, serve

app = Celery("use_celery", broker=URL, backend=URL)
app.conf.update(
    task_acks_late=True,
    worker_prefetch_multiplier=64,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
)


@app.task
def noop(x):
    mark()
    return x


WORKERS = [
    "celery -A use_celery worker -P prefork -c 2 -l warning --without-gossip --without-mingle"
]

if __name__ == "__main__":
    import use_celery  # tasks are named after their module, which must not be __main__

    task = use_celery.noop
    serve(workers=WORKERS, enqueue=task.delay, call=lambda x: task.delay(x).get(timeout=20))
