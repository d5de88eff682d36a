"""What a runner takes back from its tasks."""

import signal

import pytest

from streamq.runner.signals import LATE, OURS, STOP, Property


@pytest.fixture
def ours():
    """What belongs to this process; it is as before afterwards."""
    handlers = {number: signal.getsignal(number) for number in OURS}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield Property(0)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def test_signals_that_a_task_ignores_are_heard_again(ours):
    before = {number: signal.getsignal(number) for number in OURS}
    for number in OURS:
        signal.signal(number, signal.SIG_IGN)

    ours.take_back()

    assert {number: signal.getsignal(number) for number in OURS} == before


def test_signals_that_a_task_blocks_are_heard_again(ours):
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    assert {LATE, STOP} <= signal.pthread_sigmask(signal.SIG_BLOCK, ())

    ours.take_back()

    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_what_somebody_blocked_before_the_runner_stays_blocked():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        ours = Property(0)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

        ours.take_back()

        assert signal.SIGUSR1 in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
