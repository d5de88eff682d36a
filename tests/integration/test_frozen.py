"""Where a user's test freezes time, waits still end, and what is sent arrives."""

import asyncio
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from freezegun import freeze_time

import streamq
from streamq import ResultTimeout
from streamq.errors import BrokerUnavailable

MOMENT = "2020-02-02 02:02:02"


@pytest.fixture
def double(app):
    return app.task(name="double")(lambda x: x * 2)


@contextmanager
def frozen(most=5.0):
    """Time stands still in here, which lasts no longer than this by a clock that is not frozen."""
    began = os.times().elapsed
    with freeze_time(MOMENT):
        assert time.time() == time.time() == datetime(2020, 2, 2, 2, 2, 2, tzinfo=UTC).timestamp()
        yield
    assert os.times().elapsed - began < most


def run(app, main):
    """Run a coroutine in an event loop of its own, and close what it opened."""

    async def tidy():
        try:
            return await main
        finally:
            await app.aclose()

    return asyncio.run(tidy())


def test_waiting_for_a_result_ends(double):
    with frozen():
        result = double.enqueue(2)
        with pytest.raises(ResultTimeout):
            result.get(timeout=0.2)
        with pytest.raises(ResultTimeout):
            list(streamq.as_completed([result], timeout=0.2))


def test_waiting_for_a_result_in_asyncio_ends(app, double):
    async def wait():
        await (await double.aenqueue(2)).aget(timeout=0.2)

    with frozen(), pytest.raises(ResultTimeout):
        run(app, wait())


def test_a_wait_in_asyncio_that_is_cancelled_is_not_taken_for_one_that_ended(app, double):
    async def wait():
        waiting = asyncio.create_task((await double.aenqueue(2)).aget(timeout=30))
        while not app.broker.asyncio.waiting:
            await asyncio.sleep(0)
        waiting.cancel()
        await waiting

    with frozen(), pytest.raises(asyncio.CancelledError):
        run(app, wait())


def test_a_result_comes_as_ever(app, double, working):
    async def wait():
        return await (await double.aenqueue(3)).aget(timeout=10)

    with frozen(), working(app):
        assert double.enqueue(2).get(timeout=10) == 4
        assert run(app, wait()) == 6


def test_sending_to_a_redis_that_is_away_ends(make_app):
    task = make_app(url="redis://localhost:1", publish_timeout=1).task(name="t")(lambda: None)

    with frozen(), pytest.raises(BrokerUnavailable):
        task.enqueue()


def test_sending_from_asyncio_to_a_redis_that_is_away_ends(make_app):
    app = make_app(url="redis://localhost:1", publish_timeout=1)
    task = app.task(name="t")(lambda: None)

    with frozen(), pytest.raises(BrokerUnavailable):
        run(app, task.aenqueue())


def test_ids_are_those_of_the_real_time(double):
    """They sort by it, and those of two runs of a test must differ."""
    with frozen():
        id = double.enqueue(1).id

    assert int(id[:11], 16) / 1000 > datetime(2024, 1, 1, tzinfo=UTC).timestamp()


def test_time_that_was_frozen_before_streamq_was_loaded_stands_still_for_others_alone():
    code = f"""
        from freezegun import freeze_time
        with freeze_time("{MOMENT}"):
            from streamq.host import clock
            began = clock.monotonic(), clock.perf_counter(), clock.time_ns()
            while clock.monotonic() == began[0]: pass
        assert clock.time() > {datetime(2024, 1, 1, tzinfo=UTC).timestamp()}
        assert clock.perf_counter() > began[1]
    """
    subprocess.run([sys.executable, "-c", "if 1:" + code], check=True, timeout=20)
