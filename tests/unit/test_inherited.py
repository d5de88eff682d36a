"""What a worker was given, and what a forked child is rid of before it runs anything."""

import os
import signal
import time

import pytest

from streamq.runner import inherited
from streamq.runner.inherited import OWN, Inherited


@pytest.fixture
def ours():
    """Handle SIGTERM as a runner does; it is as before afterwards."""
    before, heard = signal.getsignal(signal.SIGTERM), []
    OWN.given = Inherited()
    OWN.handle({signal.SIGTERM: lambda *_: heard.append(os.getpid())})
    yield heard
    OWN.handlers.clear()
    signal.signal(signal.SIGTERM, before)


def test_no_signal_reaches_our_handler_in_a_child_however_soon_it_comes(ours):
    for _ in range(50):
        child = os.fork()
        if child == 0:
            time.sleep(10)
            os._exit(1)
        os.kill(child, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
    os.kill(os.getpid(), signal.SIGTERM)
    assert ours == [os.getpid()]


def test_what_was_ignored_is_ignored_in_a_child(ours):
    OWN.given = Inherited(frozenset([signal.SIGTERM]))
    child = os.fork()
    if child == 0:
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(5)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5


def test_a_worker_that_begins_anew_knows_what_it_was_given(monkeypatch):
    given = Inherited(frozenset([signal.SIGINT]), frozenset([signal.SIGUSR1]))
    value = given.environment()[inherited.VARIABLE]
    monkeypatch.setenv(inherited.VARIABLE, value)

    assert Inherited.read() == given
    assert inherited.VARIABLE not in os.environ
    assert Inherited.read() != given
