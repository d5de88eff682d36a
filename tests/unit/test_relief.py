"""Handing back what waits behind long tasks; time is moved by hand."""

from types import SimpleNamespace

import pytest

from streamq.runner.shared_memory import Board
from streamq.worker.processes import STOPPED_WITHIN, Child
from streamq.worker.services.stuck_runners import AGAIN, Relief


class Unstoppable(Child):
    """A runner that no signal stops."""

    def signal(self, number):
        pass


class Full:
    """A Redis in which every runner holds something behind its task."""

    def held_after(self, consumer, stream, entry):
        return [(stream, b"2-1")]


def test_a_crowd_that_cannot_be_stopped_leaves_time_for_leases(tmp_path, monkeypatch):
    clock = SimpleNamespace(now=1000.0)
    clock.monotonic = lambda: clock.now

    def waits_in_vain(pid):
        clock.now += STOPPED_WITHIN
        return False

    monkeypatch.setattr("streamq.worker.services.stuck_runners.clock", clock)
    monkeypatch.setattr("streamq.worker.services.stuck_runners.stands_still", waits_in_vain)
    monkeypatch.setattr("streamq.worker.services.stuck_runners.LONG", 0.0)
    board, relief = Board(tmp_path / "slots", 30, 1), Relief(Full(), tmp_path / "turn")
    crowd = [Unstoppable(n, n, "me", board.of(n), ["mail"]) for n in range(30)]
    for child in crowd:
        child.slots.start(0, 0, b"1-1")

    for _ in crowd:
        began = clock.now
        relief.look(crowd)
        assert clock.now - began < 1.0

    assert len(relief.seen) == 30


class Holding:
    """A Redis in which one process holds three messages."""

    def __init__(self):
        self.released = []

    def held(self, consumer, streams, most):
        return [("mail", b"1-1"), ("mail", b"1-2"), ("mail", b"1-3")]

    def release(self, consumer, places):
        self.released += places
        return len(places)


@pytest.fixture
def silent(tmp_path, monkeypatch):
    """A process of greenlets in which one task runs and one has just ended."""
    monkeypatch.setattr("streamq.worker.services.stuck_runners.LONG", 0.0)
    monkeypatch.setattr("streamq.worker.services.stuck_runners.stands_still", lambda pid: True)
    slots = Board(tmp_path / "slots", 1, 4).of(0)
    child = Unstoppable(0, 0, "me", slots, ["mail"], sequential=False)
    child.slots.start(0, 0, b"1-1")
    child.slots.start(1, 0, b"1-2")
    child.slots.clear(1)
    return child


def test_what_a_silent_process_of_greenlets_has_not_started_goes_back(tmp_path, silent):
    relief = Relief(Holding(), tmp_path / "turn")
    silent.slots.beats(True)

    relief.look([silent])

    assert relief.recovery.released == [("mail", b"1-3")]
    assert silent.slots.taken_away()


def test_a_process_that_is_asleep_or_cannot_tell_is_left_alone(tmp_path, silent):
    relief = Relief(Holding(), tmp_path / "turn")
    silent.slots.beats(False)

    relief.look([silent])

    assert relief.recovery.released == []
    assert not silent.slots.taken_away()


def test_behind_one_task_it_is_looked_again_after_a_while_and_not_at_once(tmp_path, silent):
    """A message may come that the process has asked for before."""
    relief = Relief(Holding(), tmp_path / "turn")
    silent.slots.beats(True)

    relief.look([silent])
    relief.look([silent])
    assert len(relief.recovery.released) == 1

    relief.looked[silent.pid] -= AGAIN
    relief.look([silent])
    assert len(relief.recovery.released) == 2
