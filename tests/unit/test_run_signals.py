"""Signals of runs and of sending: their order and arguments, and receivers that fail."""

import gc
import logging
import sys
import timeit
import traceback

import pytest

from streamq import App, Ignore, Reject, Task, signals
from streamq.errors import ConfigError
from streamq.signals import RUN_SIGNALS, Signal


@pytest.fixture
def app():
    return App("shop", url="redis://nowhere.invalid")


@pytest.fixture
def noted():
    """What the run signals have told, by name."""
    told = []

    def note(signal, sender, **given):
        told.append((signal.name, sender, given))

    for signal in RUN_SIGNALS.signals:
        signal.connect(note)
    yield told
    for signal in RUN_SIGNALS.signals:
        assert signal.disconnect(note)
    assert not RUN_SIGNALS.connected


class Hooked(Task):
    """Notes its hooks among the signals."""

    def __init__(self):
        self.told = []

    def before_start(self, *args):
        self.told.append(("before_start", self, {}))

    def on_success(self, *args):
        self.told.append(("on_success", self, {}))

    def on_failure(self, *args):
        self.told.append(("on_failure", self, {}))

    def on_retry(self, *args):
        self.told.append(("on_retry", self, {}))

    def after_return(self, *args):
        self.told.append(("after_return", self, {}))


ENDS = {
    "returns": (
        lambda: 5,
        "task_prerun before_start on_success task_success after_return task_postrun",
        "SUCCESS",
    ),
    "fails": (
        lambda: 1 / 0,
        "task_prerun before_start on_failure task_failure after_return task_postrun",
        "FAILURE",
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_signals_and_hooks_have_one_order(app, noted, end):
    function, order, state = ENDS[end]
    task = app.task(base=Hooked, name="end")(lambda: function())
    task.told = noted

    task.apply()

    assert [name for name, _, _ in noted] == order.split()
    assert all(sender is task for _, sender, _ in noted)
    (_, _, last) = noted[-1]
    assert (last["state"], last["task"]) == (state, task)


def test_a_retry_is_followed_by_no_after_return(app, noted):
    @app.task(base=Hooked, bind=True, name="again")
    def again(self):
        if not self.request.retries:
            self.retry(exc=ValueError("not yet"), countdown=0)

    again.told = noted
    again.apply()

    first = ["task_prerun", "before_start", "on_retry", "task_retry", "task_postrun"]
    assert [name for name, _, _ in noted][:5] == first
    assert noted[4][2]["state"] == "RETRY"
    assert noted[5][0] == "task_prerun"
    assert str(noted[3][2]["reason"].exc) == "not yet"
    assert noted[3][2]["request"].retries == 0


@pytest.mark.parametrize(("raised", "state"), [(Ignore, "IGNORED"), (Reject, "REJECTED")])
def test_a_directive_is_followed_by_task_postrun_alone(app, noted, raised, state):
    def directive():
        raise raised

    app.task(name="directive")(directive).apply()

    names = [name for name, _, _ in noted]
    assert names in (
        ["task_prerun", "task_postrun"],
        ["task_prerun", "task_failure", "task_postrun"],
    )
    assert noted[-1][2]["state"] in (state, "FAILURE")


@pytest.mark.parametrize("retries", [0, 1])
def test_hooks_and_receivers_may_log_the_exception_that_is_handled(app, retries, caplog):
    class Logged(Task):
        def on_failure(self, exc, task_id, args, kwargs, einfo):
            logging.getLogger("shop").exception("failed")
            seen.append((*sys.exc_info(), einfo.tb))

        on_retry = on_failure

    seen = []
    cause = KeyError("cause")

    @app.task(base=Logged, autoretry_for=(ValueError,), max_retries=retries, default_retry_delay=0)
    def odd():
        raise ValueError("odd") from cause

    @signals.task_failure.connect
    def receive(traceback, **given):
        seen.append((*sys.exc_info(), traceback))

    try:
        raise OSError("of the caller")
    except OSError:
        assert odd.apply().state == "FAILURE"
    signals.task_failure.disconnect(receive)

    assert len(seen) == retries + 2
    for kind, error, frames, given in seen:
        assert (kind, str(error), error.__cause__) == (ValueError, "odd", cause)
        assert frames is given
        assert "while_handling" not in traceback.format_exc() + caplog.text
    assert caplog.text.count('raise ValueError("odd") from cause') == retries + 1
    assert sys.exc_info() == (None, None, None)


def test_a_failure_of_a_value_that_cannot_be_sent_is_told(app, noted):
    app.task(name="odd")(object).apply()

    assert [name for name, _, _ in noted] == ["task_prerun", "task_failure", "task_postrun"]
    assert "object" in str(noted[1][2]["exception"])


@pytest.mark.parametrize("raised", [RuntimeError("odd"), SystemExit(3)], ids=repr)
def test_a_receiver_that_raises_is_logged_and_changes_nothing(app, noted, caplog, raised):
    @signals.task_prerun.connect
    def odd(**kwargs):
        raise raised

    assert app.task(name="fine")(lambda: 1).apply().get() == 1
    assert noted[-1][2]["state"] == "SUCCESS"
    signals.task_prerun.disconnect(odd)
    (record,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert "task_prerun: the receiver" in record.getMessage()
    assert "odd failed" in record.getMessage()


# Connections


def test_a_receiver_is_connected_bare_called_or_for_one_sender(app):
    signal, told = Signal("some", "x"), []

    @signal.connect
    def bare(**kwargs):
        told.append("bare")

    @signal.connect(sender="shop.a")
    def named(sender, **kwargs):
        told.append("named")

    task = app.task(name="shop.a")(lambda: 1)
    signal.connect(lambda **kwargs: told.append("task"), sender=task, weak=False)

    signal.send("other", x=1)
    assert told == ["bare"]
    signal.send("shop.a", x=1)
    assert told == ["bare", "bare", "named"]
    signal.send(task, x=1)
    assert told == ["bare", "bare", "named", "bare", "named", "task"]


def test_a_connection_lives_as_long_as_its_receiver_unless_it_is_strong():
    signal, told = Signal("some"), []

    def connect():
        def weak(**kwargs):
            told.append("weak")

        def strong(**kwargs):
            told.append("strong")

        signal.connect(weak)
        signal.connect(strong, weak=False)

    connect()
    gc.collect()
    signal.send(None)

    assert told == ["strong"]
    assert len(signal.links) == 1


def test_one_dispatch_uid_is_one_connection():
    signal, told = Signal("some"), []
    for number in (1, 2):
        signal.connect(
            lambda number=number, **kwargs: told.append(number), weak=False, dispatch_uid="mine"
        )

    signal.send(None)

    assert told == [2]
    assert signal.disconnect(dispatch_uid="mine")
    assert not signal.disconnect(dispatch_uid="mine")


def test_one_dispatch_uid_is_one_connection_of_each_sender():
    signal, told = Signal("some"), []
    for sender in ("shop.a", "shop.b"):
        signal.connect(
            lambda sender, **kwargs: told.append(sender), sender, weak=False, dispatch_uid="mine"
        )
        signal.send(sender)

    signal.send("shop.a")

    assert told == ["shop.a", "shop.b", "shop.a"]


def test_a_bound_method_is_connected_as_long_as_its_object_lives():
    class Book:
        def note(self, **kwargs):
            told.append(self)

    signal, told, book = Signal("some"), [], Book()
    for _ in range(2):  # each time another object, of the same method
        signal.connect(book.note)

    signal.send(None)
    assert told == [book]
    told.clear()
    del book
    gc.collect()
    signal.send(None)
    assert told == []


@pytest.mark.parametrize("receiver", [lambda sender: 0, 5, "tasks.note"])
def test_what_cannot_receive_is_refused(receiver):
    with pytest.raises(ConfigError, match="some"):
        Signal("some", "x").connect(receiver)


def test_looking_for_receivers_costs_next_to_nothing():
    seconds = min(timeit.repeat(lambda: RUN_SIGNALS.connected, number=10_000, repeat=5)) / 10_000

    assert seconds < 0.2e-6
