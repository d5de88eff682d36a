"""What a runner was ended for, and what is said of its end; with processes, without Redis."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from streamq.runner.shared_memory import Board
from streamq.worker.processes import STOPPED_WITHIN, Child, Death
from streamq.worker.services.crash_recovery import Deaths
from streamq.worker.services.hard_limits import (
    OVERDUE,
    TERMINATED,
    TRIES,
    Request,
    Verdict,
    Verdicts,
)

ENTRY = b"1-1"


@pytest.fixture
def child(tmp_path):
    """A runner that runs a task, as far as its supervisor can see."""
    slots = Board(tmp_path / "slots", 1, 1).of(0)
    slots.start(0, 0, ENTRY)
    with process("import time; print(flush=True); time.sleep(60)") as pid:
        yield Child(0, pid, "me", slots, ["mail"])


@contextlib.contextmanager
def process(code):
    """One that runs this, and has printed its first line."""
    started = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, process_group=0
    )
    with started, started.stdout:
        started.stdout.readline()
        try:
            yield started.pid
        finally:
            os.killpg(started.pid, signal.SIGKILL)


def lives(child):
    """Whether the process is there, after a signal had time to arrive."""
    time.sleep(0.1)
    return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


class Holding:
    """A Redis in which the consumer still holds these places."""

    def __init__(self, *places):
        self.places = places

    def deliveries(self, places):
        return [place if place in self.places else None for _, place in places]


def charge_for(child, status=signal.SIGSEGV, held=()):
    """What the death of a runner is charged with, and which messages."""
    deaths = Deaths(Holding(*held), None)
    deaths.mourn(Death(child, int(status)), stopped=False)
    (one,) = deaths.open
    deaths.suspect_unsettled(one)
    return one.case.charge, one.case.running, one.verdicts


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGKILL"])
def test_a_chosen_signal_reaches_the_task_that_it_is_meant_for(child, name):
    Verdicts(None, None).stop(child, child.slots.running()[0], name, "id")

    assert not lives(child)
    charge, _, (verdict,) = charge_for(child, signal.Signals[name])
    assert (charge, verdict.entry, verdict.kind) == ("none", ENTRY, TERMINATED)


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGKILL"])
def test_a_chosen_signal_spares_the_task_that_came_after(child, name):
    (run,) = child.slots.running()
    child.slots.start(0, 0, b"2-1")

    Verdicts(None, None).stop(child, run, name, "id")

    assert lives(child)
    assert not child.verdicts


def test_who_could_not_be_stopped_is_not_forgotten(child, monkeypatch):
    verdicts = Verdicts(None, None)
    request = Request(child, child.slots.running()[0], 0.0)
    verdicts.requests.append(request)

    with monkeypatch.context() as hanging:
        hanging.setattr("streamq.worker.services.hard_limits.stands_still", lambda *_: False)
        verdicts.look([child])
    assert lives(child)
    assert request.until > time.monotonic()

    request.until = 0.0
    verdicts.look([child])
    assert not lives(child)
    assert [verdict.kind for verdict in child.verdicts] == [TERMINATED]

    verdicts.look([child])
    assert verdicts.requests == []


#: It waits for a child that never becomes a program of its own: nothing can stop it.
STUCK = """
import ctypes
libc = ctypes.PyDLL(None)
if libc.vfork() == 0:
    print(flush=True)
    libc.pause()
"""


def test_who_waits_in_the_kernel_is_ended_at_its_limit(tmp_path):
    with process(STUCK) as pid:
        child = overdue(Child(0, pid, "me", Board(tmp_path / "slots", 1, 1).of(0), ["mail"]))

        Verdicts(None, None).look([child])

        assert not lives(child)
        assert charge_for(child, signal.SIGKILL)[2] == [Verdict("mail", ENTRY, OVERDUE)]


class Unstoppable(Child):
    """A runner that no signal stops."""

    def signal(self, number):
        pass


def overdue(child):
    """It runs a task that is over its limit."""
    child.slots.start(0, 0, ENTRY, hard=0.001)
    while child.slots.running()[0].overdue < 0:
        pass
    return child


def test_a_crowd_that_cannot_be_stopped_leaves_time_for_leases_and_is_ended(tmp_path, monkeypatch):
    clock = SimpleNamespace(now=1000.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr("streamq.worker.services.hard_limits.clock", clock)

    def waits_in_vain(pid, states):
        clock.now += STOPPED_WITHIN
        return False

    monkeypatch.setattr("streamq.worker.services.hard_limits.stands_still", waits_in_vain)
    board, verdicts = Board(tmp_path / "slots", 30, 1), Verdicts(None, None)
    crowd = [overdue(Unstoppable(n, n, "me", board.of(n), ["mail"])) for n in range(30)]

    while not all(child.ended for child in crowd):
        began = clock.now
        verdicts.look(crowd)
        assert clock.now - began < 1.0
        clock.now = max(clock.now, verdicts.next_moment(crowd))

    assert clock.now - 1000.0 < 30 * STOPPED_WITHIN * (TRIES + 1)


def test_a_limit_that_passes_soon_is_told_beforehand(child):
    now = time.monotonic()
    child.slots.start(0, 0, ENTRY, hard=100.0)
    far = Verdicts(None, None).next_moment([child])
    child.slots.start(0, 0, ENTRY, hard=0.5)

    near = Verdicts(None, None).next_moment([child])

    assert far == float("inf")
    assert now + 0.5 <= near <= time.monotonic() + 0.5


def test_who_stops_in_its_time_is_asked_no_more(child):
    verdicts = Verdicts(None, None)
    verdicts.requests.append(Request(child, child.slots.running()[0], time.monotonic() + 60))
    child.slots.clear(0)

    verdicts.look([child])

    assert verdicts.requests == []


def test_a_verdict_on_a_task_that_has_ended_excuses_no_crash_of_another(child):
    verdicts = Verdicts(None, None)
    verdicts.note(child, child.slots.running()[0], TERMINATED)
    child.slots.start(0, 0, b"2-1")

    assert charge_for(child) == ("alone", [("mail", b"2-1")], [])


def test_a_runner_that_dies_with_its_task_unsettled_makes_a_suspect_of_it(child):
    child.slots.clear(0)
    place = ("mail", ENTRY)

    assert charge_for(child, held=[place]) == ("suspects", [place], [])


def test_what_has_returned_and_is_unsettled_is_suspected_beside_what_runs(child, tmp_path):
    child.slots = Board(tmp_path / "greenlets", 1, 3).of(0)
    child.slots.start(0, 0, ENTRY)
    child.slots.start(1, 0, b"2-1")
    child.slots.clear(1)

    beside = ("mail", b"2-1")
    assert charge_for(child, held=[beside]) == ("suspects", [("mail", ENTRY), beside], [])


def test_what_was_settled_is_not_suspected_beside_what_runs(child, tmp_path):
    child.slots = Board(tmp_path / "greenlets", 1, 3).of(0)
    child.slots.start(0, 0, ENTRY)
    child.slots.start(1, 0, b"2-1")
    child.slots.clear(1)

    assert charge_for(child) == ("alone", [("mail", ENTRY)], [])


def test_who_has_run_nothing_has_no_suspect(child):
    child.slots.reset()

    assert charge_for(child) == ("suspects", [], [])


def test_a_runner_that_we_ended_ran_out_of_nothing(child):
    assert Death(child, int(signal.SIGKILL)).reason.endswith("while it ran the task")
    killed = Death(child, int(signal.SIGKILL), scarce=True)
    assert killed.reason.endswith("while it ran the task (out of memory?)")

    child.end("its task was overdue")

    assert killed.reason == f"runner {child.pid} was ended by its worker: its task was overdue"
    assert charge_for(child, signal.SIGKILL)[0] == "none"


@pytest.mark.parametrize("code", [0, 3])
def test_a_runner_that_ends_without_a_task_was_not_ended_by_one(child, code):
    child.slots.reset()

    reason = Death(child, code << 8).reason

    if code:
        told = f"could not start: it exited with code {code}; its traceback is on standard error"
        assert told in reason
    else:
        assert reason.endswith("exited with code 0 before it ran any task")
    assert "after it ran" not in reason


def test_a_runner_that_had_been_ready_is_not_said_to_have_failed_to_start(child):
    child.slots.reset()
    child.leased = True

    assert Death(child, 3 << 8).reason.endswith("exited with code 3 before it ran any task")


def test_a_runner_that_ends_after_its_task_is_told_as_such(child):
    child.slots.clear(0)

    assert Death(child, 3 << 8).reason.endswith("exited with code 3 after it ran the task")
