"""Handing back what waits behind long tasks; time is moved by hand."""

from types import SimpleNamespace

from streamq.runner.slots import Board
from streamq.worker.children import STOPPED_WITHIN, Child
from streamq.worker.relief import Relief


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

    monkeypatch.setattr("streamq.worker.relief.clock", clock)
    monkeypatch.setattr("streamq.worker.relief.stands_still", waits_in_vain)
    monkeypatch.setattr("streamq.worker.relief.LONG", 0.0)
    board, relief = Board(tmp_path / "slots", 30, 1), Relief(Full(), tmp_path / "turn")
    crowd = [Unstoppable(n, n, "me", board.of(n), ["mail"]) for n in range(30)]
    for child in crowd:
        child.slots.start(0, 0, b"1-1")

    for _ in crowd:
        began = clock.now
        relief.look(crowd)
        assert clock.now - began < 1.0

    assert len(relief.seen) == 30
