"""What a runner takes back from its tasks."""

import signal

import pytest

from streamq.runner.signals import LATE, RUNNER_SIGNALS, STOP, ProcessGuard


@pytest.fixture
def ours():
    """What belongs to this process; it is as before afterwards."""
    handlers = {number: signal.getsignal(number) for number in RUNNER_SIGNALS}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield ProcessGuard(0)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def test_signals_that_a_task_ignores_are_heard_again(ours):
    before = {number: signal.getsignal(number) for number in RUNNER_SIGNALS}
    for number in RUNNER_SIGNALS:
        signal.signal(number, signal.SIG_IGN)

    ours.restore()

    assert {number: signal.getsignal(number) for number in RUNNER_SIGNALS} == before


def test_signals_that_a_task_blocks_are_heard_again(ours):
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    assert {LATE, STOP} <= signal.pthread_sigmask(signal.SIG_BLOCK, ())

    ours.restore()

    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_what_somebody_blocked_before_the_runner_stays_blocked():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        ours = ProcessGuard(0)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

        ours.restore()

        assert signal.SIGUSR1 in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
