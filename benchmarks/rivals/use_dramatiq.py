# pip: dramatiq[redis]==2.2.1 hiredis
"""Dramatiq: 2 processes of 8 threads (its defaults), results in Redis."""

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from driver import URL, mark, serve

broker = RedisBroker(url=URL)
broker.add_middleware(Results(backend=RedisBackend(url=URL)))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def noop(x):
    mark()
    return x


WORKERS = ["dramatiq use_dramatiq -p 2 -t 8"]

if __name__ == "__main__":
    serve(
        workers=WORKERS,
        enqueue=noop.send,
        call=lambda x: noop.send(x).get_result(block=True, timeout=20_000),
    )
