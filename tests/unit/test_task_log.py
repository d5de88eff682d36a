"""What is said of how tasks ended."""

import logging

import pytest

from streamq.core.delivery import Delivery
from streamq.core.outcome import Outcome
from streamq.execution.task_log import MOST_LINES, TaskLog

FAILURE = (b"error_type", b"ValueError", b"error", b"why", b"traceback", b"ValueError: why\n")


@pytest.fixture
def said(caplog):
    """What is said of an outcome: the level and the line."""
    caplog.set_level(logging.INFO, "streamq.worker")

    def say(state, fields, **more):
        caplog.clear()
        delivery = Delivery("mail", b"1-1", {b"id": b"ID", b"task": b"t"})
        TaskLog().ended(Outcome(delivery, state, fields, **more))
        ((_, level, line),) = caplog.record_tuples
        return logging.getLevelName(level), line

    return say


@pytest.mark.parametrize("state", [b"FAILURE", b""], ids=["kept", "without a record"])
def test_a_failure_is_an_error_whether_or_not_it_leaves_a_record(said, state):
    assert said(state, FAILURE) == ("ERROR", "t[ID] failed: ValueError: why")


def test_what_went_well_says_how_long_it_took_if_that_is_known(said):
    assert said(b"SUCCESS", (b"runtime", b"0.5")) == ("INFO", "t[ID] ok in 500.0 ms")
    assert said(b"", ()) == ("INFO", "t[ID] ok")


def test_a_title_is_cut_and_moves_no_cursor():
    odd = {b"id": b"\x1b[2J" + b"a" * 300_000, b"task": b"\xff" * 3_000_000}

    title = Delivery("mail", b"1-1", odd).title

    assert title.isprintable()
    assert "\\x1b" in title
    assert len(title) < 600


def test_of_many_rejections_in_a_second_some_are_said_and_the_rest_counted(caplog, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("streamq.host.clock.monotonic", lambda: now[0])
    log = TaskLog()
    delivery = Delivery("mail", b"1-1", {b"id": b"ID", b"task": b"t", b"rejections": b"4"})
    for _ in range(700):
        log.ended(Outcome(delivery, b"", (), release=True))
    assert len(caplog.records) == MOST_LINES
    assert caplog.messages[0] == "t[ID] rejected; it goes back to its queue in 0.2 s"

    caplog.clear()
    now[0] += 1
    log.ended(Outcome(delivery, b"", (), release=True))

    assert caplog.messages[0] == f"… and {700 - MOST_LINES} more rejected"
    assert len(caplog.messages) == 2
