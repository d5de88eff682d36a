"""What signals ask of a worker."""

import os

import pytest

from streamq.worker.signals import Stops


@pytest.fixture
def stops():
    stops = Stops()
    yield stops
    os.close(stops.bell)
    os.close(stops.rope)


@pytest.mark.parametrize(
    ("signals", "count"),
    [
        (("ask", "ask"), 1),
        (("ask_now", "ask_now"), 2),
        (("ask", "ask_now"), 2),
        (("hang_up", "ask"), 1),
        (("hang_up", "ask", "hang_up"), 1),
    ],
)
def test_what_comes_to_us_and_to_our_group_is_one_request(stops, signals, count):
    for name in signals:
        getattr(stops, name)(0, None)

    assert stops.count == count


@pytest.mark.parametrize(("name", "count"), [("ask", 2), ("ask_now", 3)])
def test_what_comes_later_is_another_one(stops, name, count):
    getattr(stops, name)(0, None)
    stops.asked -= 1.0
    getattr(stops, name)(0, None)

    assert stops.count == count
