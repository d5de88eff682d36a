"""Limits of greenlets come when they are due, and nobody looks for them before."""

import time
from types import SimpleNamespace

import pytest

gevent = pytest.importorskip("gevent")

from streamq.core.delivery import Delivery  # noqa: E402
from streamq.errors import Overdue, SoftTimeLimitExceeded, Terminated  # noqa: E402
from streamq.runner.pools import task_limits as module  # noqa: E402
from streamq.runner.pools.gevent import GREENLETS, GreenletLimits  # noqa: E402


def limited(soft=0.0, hard=0.0):
    """A message with these limits."""
    delivery = Delivery("mail", b"1-1", {})
    delivery.soft, delivery.hard = soft, hard
    return delivery


class Room:
    """A process of greenlets whose clock is moved by hand."""

    def __init__(self, monkeypatch):
        self.ahead = 0.0
        self.asked = set()
        self.looks = 0
        self.met = []
        monkeypatch.setattr(module, "monotonic", lambda: time.monotonic() + self.ahead)
        slots = SimpleNamespace(count=1000, stop_requested=lambda slot: slot in self.asked)
        self.clocks = GreenletLimits(slots, GREENLETS)
        self.check_all, self.clocks.check_all = self.clocks.check_all, self.counted
        self.greenlets = [gevent.spawn(self.clocks.watch_loop)]

    def counted(self):
        self.looks += 1
        self.check_all()

    def run(self, slot=0, *, soft=0.0, hard=0.0):
        """Start a task that notes with what it is interrupted, and when by our clock."""

        def work():
            began = module.monotonic()
            self.clocks.began(slot, limited(soft, hard))
            while True:
                try:
                    gevent.sleep(60)
                except (SoftTimeLimitExceeded, Overdue, Terminated) as error:
                    self.met.append((type(error).__name__, module.monotonic() - began))
                    if not isinstance(error, SoftTimeLimitExceeded):
                        return self.clocks.ended(slot)

        self.greenlets.append(gevent.spawn(work))
        gevent.sleep(0.05)

    def pass_by(self, seconds):
        """Let so much time pass at once."""
        self.ahead += seconds
        self.clocks.check_soon()
        gevent.sleep(0.05)


@pytest.fixture
def room(monkeypatch):
    room = Room(monkeypatch)
    yield room
    gevent.killall(room.greenlets)


def test_a_long_soft_limit_comes_at_its_moment_and_the_hard_one_leaves_it_its_grace(room):
    room.run(soft=25, hard=25.5)
    room.pass_by(24.8)
    assert room.met == []

    gevent.sleep(0.3)
    (kind, moment), *more = room.met
    assert (kind, more) == ("SoftTimeLimitExceeded", [])
    assert 25 <= moment < 25.15

    gevent.sleep(0.5)
    kind, moment = room.met[1]
    assert kind == "Overdue"
    assert 25.5 <= moment < 25.65


def test_nobody_looks_while_no_limit_passes(room):
    gevent.sleep(0.1)
    assert room.looks == 0

    for slot in range(100):
        room.clocks.began(slot, limited(hard=3600))
    gevent.sleep(0.1)

    assert room.looks == 1


def test_a_shorter_limit_that_comes_later_is_not_missed(room):
    room.run(0, hard=3600)

    room.run(1, soft=0.1)
    gevent.sleep(0.2)

    assert [kind for kind, _ in room.met] == ["SoftTimeLimitExceeded"]


def test_limits_that_pass_close_together_are_looked_at_together(room):
    for slot in range(100):
        room.clocks.began(slot, limited(hard=0.1 + slot / 1000))
        room.clocks.runs[slot].thread = gevent.spawn(gevent.sleep, 60)

    gevent.sleep(0.4)

    assert room.looks <= 8
    assert all(run.stopped for run in room.clocks.runs[:100])


def test_a_task_that_was_revoked_is_stopped_at_once(room):
    room.run(3, hard=3600)
    room.asked.add(3)

    room.pass_by(0)

    assert [kind for kind, _ in room.met] == ["Terminated"]
