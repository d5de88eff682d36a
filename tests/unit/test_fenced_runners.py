"""What a supervisor does with runners that lost their lease; time is moved by hand."""

import signal
from types import SimpleNamespace

import pytest

from streamq.runner.shared_memory import SharedMemory
from streamq.runner.signals import FINISH
from streamq.worker.lease_view import LeaseView
from streamq.worker.processes import RunnerProcess
from streamq.worker.services.crash_recovery import CrashRecovery
from streamq.worker.services.fenced_runners import FencedRunners

TIMEOUT = 30.0


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=1000.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr("streamq.worker.services.fenced_runners.clock", clock)
    return clock


class Runner(RunnerProcess):
    """A runner that notes its signals."""

    def signal(self, number):
        self.__dict__.setdefault("signals", []).append(number)


@pytest.fixture
def runner(tmp_path):
    slots = SharedMemory(tmp_path / "slots", 1, 1).of(0)
    return Runner(0, 1, "me", slots, ["mail"])


def fenced_runners(runner):
    processes = SimpleNamespace(children={runner.pid: runner})
    crash_recovery = CrashRecovery(None, None, None)
    view = LeaseView(15.0)
    return FencedRunners(processes, crash_recovery, view, shutdown_timeout=TIMEOUT)


def news(*fenced, of=("me",)):
    return SimpleNamespace(consumers=frozenset(of), fenced=frozenset(fenced))


def test_a_runner_that_is_fenced_is_told_once_and_killed_if_it_does_not_end(clock, runner, caplog):
    service = fenced_runners(runner)
    service.on_renewal(news())

    service.on_renewal(news("me"))
    clock.now += TIMEOUT - 1
    service.on_renewal(news("me"))
    assert runner.signals == [FINISH, FINISH]
    clock.now += 2
    service.on_renewal(news("me"))

    assert runner.signals[-1] == signal.SIGKILL
    assert runner.kill_reason == "it had been fenced"
    assert service.crash_recovery.counts() == {"crashed": 0, "fenced": 1}
    assert caplog.messages == ["runner 1 was fenced meanwhile; it stops"]


def test_a_runner_without_a_lease_that_is_only_starting_is_left_alone(clock, runner):
    service = fenced_runners(runner)

    service.on_renewal(news("me"))

    assert (runner.leased, runner.fenced_at) == (False, None)


def test_nothing_is_known_of_a_runner_whose_lease_was_not_to_be_renewed(clock, runner):
    service = fenced_runners(runner)

    service.on_renewal(news(of=()))

    assert not runner.leased
