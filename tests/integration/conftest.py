"""Apps on the test server, and workers of one thread in this process."""

import gc
import secrets
import threading
from contextlib import contextmanager

import pytest

from streamq import App, Queue
from streamq.host import clock
from streamq.producer.schedules import ScheduleSource
from streamq.runner.config import RunnerConfig
from streamq.runner.pools.solo import make_solo
from streamq.runner.runner import Runner
from streamq.worker.lease_view import LeaseView
from streamq.worker.services.scheduler import Scheduler
from tests.processes import until


@pytest.fixture
def make_app(server_url, redis):
    """Makes apps of one namespace; ``namespace`` may name another."""
    made, namespace = [], f"t{secrets.token_hex(4)}"

    def make(**settings):
        settings = {"url": server_url, "namespace": namespace, **settings}
        app = App("test", **settings)
        made.append(app)
        return app

    yield make
    for app in made:
        close(app)


@pytest.fixture
def app(make_app):
    return make_app()


def close(app):
    """Close the connections of an app."""
    broker = app.__dict__.get("broker")
    if broker is None:
        return
    broker.client.close()
    broker.publisher.close()
    broker.results.waiter.connection.drop()
    gc.collect()


def pool_of(app, folder, *, burst):
    """What a worker process would run, for every queue that there is."""
    default = Queue(app.conf.task_default_queue)
    app.broker.topology.declare(app.queues or [default])
    queues = app.broker.topology.queues()
    assignment = RunnerConfig(
        number=0,
        node="worker@test",
        token=secrets.token_hex(4),
        supervisor=0,
        url=app.url,
        sources=[(name, int(own.get("max_priority", 0))) for name, own in queues.items()],
        pool="solo",
        concurrency=1,
        burst=burst,
        folder=str(folder),
        runners=1,
        slots=1,
    )
    return make_solo(Runner(app, assignment))


@pytest.fixture
def drain(tmp_path):
    """``drain(app)`` runs every waiting message in this process; returns how many ran."""

    def run(app):
        pool = pool_of(app, tmp_path, burst=True)
        before = pool.slots.ran
        pool.run()
        pool.prefetch.consumer.connection.drop()
        return pool.slots.ran - before

    return run


@pytest.fixture
def working(tmp_path):
    """``with working(app):`` runs messages as they come, in a thread.

    ``before`` is called when everything is declared and nothing has been read.
    """

    @contextmanager
    def run(app, before=None):
        pool = pool_of(app, tmp_path, burst=False)
        if before is not None:
            before()
        thread = threading.Thread(target=pool.run)
        thread.start()
        try:
            yield pool
        finally:
            pool.stop()
            thread.join(10)
            pool.prefetch.consumer.connection.drop()
            assert not thread.is_alive()

    return run


@pytest.fixture
def streams(redis):
    """``streams(app)`` tells how many messages each queue holds; empty queues are left out."""

    def count(app):
        prefix = f"{app.broker.keys.root}:queue:"
        found = {key.removeprefix(prefix): redis.xlen(key) for key in redis.keys(f"{prefix}*")}
        return {name: length for name, length in found.items() if length}

    return count


@pytest.fixture
def eventually():
    """``eventually(ready)`` asks again and again until the answer is true, and returns it."""

    return until


@pytest.fixture
def clients(redis):
    """``clients("streamq:waiting")`` lists the server's clients of that name."""
    return lambda name: [client for client in redis.client_list() if client["name"] == name]


@pytest.fixture
def supervisor():
    """Make the scheduler of a supervisor of an app, which has seen the server's time just now."""

    def supervisor(app, *, place=0, order=0):
        view, store = LeaseView(15.0), app.schedules.store
        now = clock.monotonic()
        view.record_answer(store.now() / 1000, sent=now, now=now)
        service = Scheduler(store, ScheduleSource(app, app.schedules), view, order=order)
        service.place = place
        service.begin()
        return service

    return supervisor
