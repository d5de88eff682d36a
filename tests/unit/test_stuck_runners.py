"""Handing back what waits behind long tasks; time is moved by hand."""

from types import SimpleNamespace

import pytest

from streamq.runner.shared_memory import SharedMemory
from streamq.worker.processes import STOPPED_WITHIN, RunnerProcess
from streamq.worker.services.stuck_runners import AGAIN, StuckRunners


class Unstoppable(RunnerProcess):
    """A runner that no signal stops."""

    def signal(self, number):
        pass


class Full:
    """A Redis in which every runner holds something behind its task."""

    def held_after(self, consumer, stream, entry):
        return [(stream, b"2-1")]


def test_many_that_cannot_be_stopped_leave_time_for_leases(tmp_path, monkeypatch):
    clock = SimpleNamespace(now=1000.0)
    clock.monotonic = lambda: clock.now

    def waits_in_vain(pid):
        clock.now += STOPPED_WITHIN
        return False

    monkeypatch.setattr("streamq.worker.services.stuck_runners.clock", clock)
    monkeypatch.setattr("streamq.worker.services.stuck_runners.wait_suspended", waits_in_vain)
    monkeypatch.setattr("streamq.worker.services.stuck_runners.LONG", 0.0)
    shared_memory, stuck_runners = (
        SharedMemory(tmp_path / "slots", 30, 1),
        StuckRunners(Full(), tmp_path / "reader_lock", None),
    )
    children = [Unstoppable(n, n, "me", shared_memory.of(n), ["mail"]) for n in range(30)]
    for child in children:
        child.slots.note_start(0, 0, b"1-1")

    for _ in children:
        began = clock.now
        stuck_runners.check(children)
        assert clock.now - began < 1.0

    assert len(stuck_runners.handled) == 30


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
    monkeypatch.setattr("streamq.worker.services.stuck_runners.wait_suspended", lambda pid: True)
    slots = SharedMemory(tmp_path / "slots", 1, 4).of(0)
    child = Unstoppable(0, 0, "me", slots, ["mail"], sequential=False)
    child.slots.note_start(0, 0, b"1-1")
    child.slots.note_start(1, 0, b"1-2")
    child.slots.clear(1)
    return child


def test_what_a_silent_process_of_greenlets_has_not_started_goes_back(tmp_path, silent):
    stuck_runners = StuckRunners(Holding(), tmp_path / "reader_lock", None)
    silent.slots.note_alive(True)

    stuck_runners.check([silent])

    assert stuck_runners.recovery.released == [("mail", b"1-3")]
    assert silent.slots.is_taken()


def test_a_process_that_is_asleep_or_cannot_tell_is_left_alone(tmp_path, silent):
    stuck_runners = StuckRunners(Holding(), tmp_path / "reader_lock", None)
    silent.slots.note_alive(False)

    stuck_runners.check([silent])

    assert stuck_runners.recovery.released == []
    assert not silent.slots.is_taken()


def test_behind_one_task_it_is_looked_again_after_a_while_and_not_at_once(tmp_path, silent):
    """A message may come that the process has asked for before."""
    stuck_runners = StuckRunners(Holding(), tmp_path / "reader_lock", None)
    silent.slots.note_alive(True)

    stuck_runners.check([silent])
    stuck_runners.check([silent])
    assert len(stuck_runners.recovery.released) == 1

    stuck_runners.checked[silent.pid] -= AGAIN
    stuck_runners.check([silent])
    assert len(stuck_runners.recovery.released) == 2
