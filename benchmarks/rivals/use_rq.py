# pip: rq==3.0.0 hiredis
"""RQ: two workers that run jobs in their own process; the usual fork for each job is slower."""

from driver import URL, mark, serve
from redis import Redis
from rq import Queue

queue = Queue("bench", connection=Redis.from_url(URL))


def noop(x):
    mark()
    return x


def call(x):
    return queue.enqueue("use_rq.noop", x).latest_result(timeout=20).return_value


WORKERS = [f"rq worker bench --url {URL} --worker-class rq.SimpleWorker --quiet --path ."] * 2

if __name__ == "__main__":
    serve(workers=WORKERS, enqueue=lambda x: queue.enqueue("use_rq.noop", x), call=call)
