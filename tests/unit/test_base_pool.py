"""What all pools share: calls that are repeated while Redis is away, and the run of one message."""

from types import SimpleNamespace

import pytest

from streamq.core.delivery import Delivery
from streamq.errors import BrokerUnavailable, SoftTimeLimitExceeded, Terminated
from streamq.host.forks import FORKS
from streamq.runner.lifetime import Lifetime
from streamq.runner.pools.base import BasePool, PoolParts, run_message
from streamq.runner.shared_memory import SharedMemory


class QuickPool(BasePool):
    """A pool that notes its pauses, and whether its supervisor is told, instead of sleeping."""

    def __init__(self, folder):
        slots = SharedMemory(folder / "slots", 1, 1).of(0)
        super().__init__(PoolParts(prefetch=None, slots=slots, lifetime=Lifetime(retry_seconds=9)))
        self.now = 100.0
        self.paused = []

    def pause(self, seconds):
        self.paused.append(seconds)
        self.now += seconds
        assert self.slots.unreachable


@pytest.fixture
def pool(tmp_path, monkeypatch):
    pool = QuickPool(tmp_path)
    monkeypatch.setattr("streamq.host.clock.monotonic", lambda: pool.now)
    return pool


def failing(times):
    """An act that fails so often before it succeeds."""
    left = [BrokerUnavailable("away")] * times

    def act():
        if left:
            raise left.pop()

    return act


def test_an_act_is_repeated_until_redis_answers_and_the_supervisor_knows(pool):
    pool.persist(failing(7))

    assert pool.paused == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert not pool.slots.unreachable
    pool.persist(failing(1))
    assert pool.paused[7:] == [0.05], "the next outage begins with the shortest pause"


def test_a_pool_that_stops_gives_up_after_its_retry_time(pool):
    pool.stopping = True

    pool.persist(failing(1000))

    assert 9 < sum(pool.paused) < 10.1
    assert pool.slots.unreachable


def executor(error, outcome="returned"):
    """An executor whose run raises this."""

    def run(delivery):
        if error is not None:
            raise error
        return outcome

    return SimpleNamespace(run=run, interrupted=lambda delivery, error: (delivery, error))


@pytest.mark.parametrize("error", [SoftTimeLimitExceeded("late"), Terminated()], ids=str)
def test_a_limit_that_comes_as_a_run_begins_or_ends_is_its_outcome(error):
    delivery = Delivery("mail", b"1-1", {})

    assert run_message(executor(error), delivery, FORKS.count) == (delivery, error)
    assert run_message(executor(None), delivery, FORKS.count) == "returned"


def test_a_forked_child_that_returns_from_a_task_ends_there(monkeypatch):
    class Exit(Exception):
        pass

    def leave(code):
        raise Exit(code)

    monkeypatch.setattr("os._exit", leave)
    with pytest.raises(Exit, match="99"):
        run_message(executor(None), None, FORKS.count + 1)
    with pytest.raises(Exit, match="3"):
        run_message(executor(SystemExit(3)), None, FORKS.count)
