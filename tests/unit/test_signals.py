"""What signals ask of a worker."""

import os

import pytest

from streamq.worker.signals import StopSignals


@pytest.fixture
def stops():
    stops = StopSignals()
    yield stops
    os.close(stops.wakeup_w)
    os.close(stops.wakeup_r)


@pytest.mark.parametrize(
    ("signals", "count"),
    [
        (("request_stop", "request_stop"), 1),
        (("request_stop_now", "request_stop_now"), 2),
        (("request_stop", "request_stop_now"), 2),
        (("hang_up", "request_stop"), 1),
        (("hang_up", "request_stop", "hang_up"), 1),
    ],
)
def test_what_comes_to_us_and_to_our_group_is_one_request(stops, signals, count):
    for name in signals:
        getattr(stops, name)(0, None)

    assert stops.count == count


@pytest.mark.parametrize(("name", "count"), [("request_stop", 2), ("request_stop_now", 3)])
def test_what_comes_later_is_another_one(stops, name, count):
    getattr(stops, name)(0, None)
    stops.signalled -= 1.0
    getattr(stops, name)(0, None)

    assert stops.count == count
