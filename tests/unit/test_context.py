"""The running task, as its own code sees it."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from streamq.context import Request, Running, current, current_task
from streamq.errors import ConfigError
from streamq.states import State


@pytest.fixture
def told():
    return []


@pytest.fixture
def running(told):
    return Running(Request(id="ID", task="shop.f"), lambda *said: told.append(said))


def test_no_task_runs_outside_of_one():
    assert current_task() is None


def test_the_running_task_is_seen_in_its_own_thread_only(running):
    token = current.set(running)
    try:
        assert current_task() is running
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(current_task).result() is None
    finally:
        current.reset(token)


def test_a_state_of_ones_own_is_told(running, told):
    running.update_state("HALF", {"done": 5})
    running.update_state(meta=3)

    assert told == [(running.request, "HALF", {"done": 5}), (running.request, "PROGRESS", 3)]


@pytest.mark.parametrize("state", ["", " ", 5, None, ["x"], "x" * 101])
def test_what_is_no_short_name_is_no_state(running, told, state):
    with pytest.raises(ConfigError, match="update_state needs a name for the state"):
        running.update_state(state)
    assert told == []


@pytest.mark.parametrize("state", list(State))
def test_states_that_streamq_gives_are_refused(running, told, state):
    with pytest.raises(ValueError, match=f"update_state cannot set {state}"):
        running.update_state(state)
    with pytest.raises(ConfigError):
        running.update_state(str(state))

    assert told == []


def test_outside_of_a_worker_nobody_is_told():
    Running(Request(id="ID", task="shop.f")).update_state("HALF")


def test_a_request_cannot_be_changed(running):
    with pytest.raises(AttributeError):
        running.request.id = "other"
    assert running.name == "shop.f"
