"""What a runner was ended for, and what is said of its end; with processes, without Redis."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from streamq.runner.shared_memory import SharedMemory
from streamq.worker.processes import STOPPED_WITHIN, RunnerExit, RunnerProcess
from streamq.worker.services.crash_recovery import CrashRecovery
from streamq.worker.services.hard_limits import (
    OVERDUE,
    TERMINATED,
    TRIES,
    ForcedEnd,
    HardLimits,
    StopRequest,
)

ENTRY = b"1-1"


@pytest.fixture
def child(tmp_path):
    """A runner that runs a task, as far as its supervisor can see."""
    slots = SharedMemory(tmp_path / "slots", 1, 1).of(0)
    slots.note_start(0, 0, ENTRY)
    with process("import time; print(flush=True); time.sleep(60)") as pid:
        yield RunnerProcess(0, pid, "me", slots, ["mail"])


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
    crash_recovery = CrashRecovery(Holding(*held), None, None)
    crash_recovery.on_exit(RunnerExit(child, int(status)), stopped=False)
    (one,) = crash_recovery.open
    crash_recovery.blame_unsettled(one)
    return one.request.blame, one.request.running, one.forced_ends


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGKILL"])
def test_a_chosen_signal_reaches_the_task_that_it_is_meant_for(child, name):
    HardLimits(None, None, None).stop(child, child.slots.running()[0], name, "id")

    assert not lives(child)
    blame, _, (forced_end,) = charge_for(child, signal.Signals[name])
    assert (blame, forced_end.entry, forced_end.kind) == ("none", ENTRY, TERMINATED)


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGKILL"])
def test_a_chosen_signal_spares_the_task_that_came_after(child, name):
    (run,) = child.slots.running()
    child.slots.note_start(0, 0, b"2-1")

    HardLimits(None, None, None).stop(child, run, name, "id")

    assert lives(child)
    assert not child.forced_ends


def test_who_could_not_be_stopped_is_not_forgotten(child, monkeypatch):
    hard_limits = HardLimits(None, None, None)
    request = StopRequest(child, child.slots.running()[0], 0.0)
    hard_limits.requests.append(request)

    with monkeypatch.context() as hanging:
        hanging.setattr("streamq.worker.services.hard_limits.wait_suspended", lambda *_: False)
        hard_limits.enforce([child])
    assert lives(child)
    assert request.until > time.monotonic()

    request.until = 0.0
    hard_limits.enforce([child])
    assert not lives(child)
    assert [each.kind for each in child.forced_ends] == [TERMINATED]

    hard_limits.enforce([child])
    assert hard_limits.requests == []


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
        child = overdue(
            RunnerProcess(0, pid, "me", SharedMemory(tmp_path / "slots", 1, 1).of(0), ["mail"])
        )

        HardLimits(None, None, None).enforce([child])

        assert not lives(child)
        assert charge_for(child, signal.SIGKILL)[2] == [ForcedEnd("mail", ENTRY, OVERDUE)]


class Unstoppable(RunnerProcess):
    """A runner that no signal stops."""

    def signal(self, number):
        pass


def overdue(child):
    """It runs a task that is over its limit."""
    child.slots.note_start(0, 0, ENTRY, hard=0.001)
    while child.slots.running()[0].overdue < 0:
        pass
    return child


def test_many_that_cannot_be_stopped_leave_time_for_leases_and_are_ended(tmp_path, monkeypatch):
    clock = SimpleNamespace(now=1000.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr("streamq.worker.services.hard_limits.clock", clock)

    def waits_in_vain(pid, states):
        clock.now += STOPPED_WITHIN
        return False

    monkeypatch.setattr("streamq.worker.services.hard_limits.wait_suspended", waits_in_vain)
    shared_memory, hard_limits = (
        SharedMemory(tmp_path / "slots", 30, 1),
        HardLimits(None, None, None),
    )
    children = [overdue(Unstoppable(n, n, "me", shared_memory.of(n), ["mail"])) for n in range(30)]

    while not all(child.kill_reason for child in children):
        began = clock.now
        hard_limits.enforce(children)
        assert clock.now - began < 1.0
        clock.now = max(clock.now, hard_limits.next_moment(children))

    assert clock.now - 1000.0 < 30 * STOPPED_WITHIN * (TRIES + 1)


def test_a_limit_that_passes_soon_is_told_beforehand(child):
    now = time.monotonic()
    child.slots.note_start(0, 0, ENTRY, hard=100.0)
    far = HardLimits(None, None, None).next_moment([child])
    child.slots.note_start(0, 0, ENTRY, hard=0.5)

    near = HardLimits(None, None, None).next_moment([child])

    assert far == float("inf")
    assert now + 0.5 <= near <= time.monotonic() + 0.5


def test_who_stops_in_its_time_is_asked_no_more(child):
    hard_limits = HardLimits(None, None, None)
    hard_limits.requests.append(StopRequest(child, child.slots.running()[0], time.monotonic() + 60))
    child.slots.clear(0)

    hard_limits.enforce([child])

    assert hard_limits.requests == []


def test_a_forced_end_of_a_task_that_has_ended_excuses_no_crash_of_another(child):
    hard_limits = HardLimits(None, None, None)
    hard_limits.note_forced_end(StopRequest(child, child.slots.running()[0], 0.0))
    child.slots.note_start(0, 0, b"2-1")

    assert charge_for(child) == ("sole_task", [("mail", b"2-1")], [])


def test_a_task_that_is_unsettled_when_its_runner_dies_is_suspected(child):
    child.slots.clear(0)
    place = ("mail", ENTRY)

    assert charge_for(child, held=[place]) == ("suspected", [place], [])


def test_what_has_returned_and_is_unsettled_is_suspected_beside_what_runs(child, tmp_path):
    child.slots = SharedMemory(tmp_path / "greenlets", 1, 3).of(0)
    child.slots.note_start(0, 0, ENTRY)
    child.slots.note_start(1, 0, b"2-1")
    child.slots.clear(1)

    beside = ("mail", b"2-1")
    assert charge_for(child, held=[beside]) == ("suspected", [("mail", ENTRY), beside], [])


def test_what_was_settled_is_not_suspected_beside_what_runs(child, tmp_path):
    child.slots = SharedMemory(tmp_path / "greenlets", 1, 3).of(0)
    child.slots.note_start(0, 0, ENTRY)
    child.slots.note_start(1, 0, b"2-1")
    child.slots.clear(1)

    assert charge_for(child) == ("sole_task", [("mail", ENTRY)], [])


def test_a_runner_that_has_run_nothing_suspects_no_message(child):
    child.slots.reset()

    assert charge_for(child) == ("suspected", [], [])


def test_a_runner_that_we_ended_ran_out_of_nothing(child):
    assert RunnerExit(child, int(signal.SIGKILL)).reason.endswith("while it ran the task")
    killed = RunnerExit(child, int(signal.SIGKILL), oom_seen=True)
    assert killed.reason.endswith("while it ran the task (out of memory?)")

    child.kill("its task was overdue")

    assert killed.reason == f"runner {child.pid} was ended by its worker: its task was overdue"
    assert charge_for(child, signal.SIGKILL)[0] == "none"


@pytest.mark.parametrize("code", [0, 3])
def test_a_runner_that_ends_without_a_task_was_not_ended_by_one(child, code):
    child.slots.reset()

    reason = RunnerExit(child, code << 8).reason

    if code:
        told = f"could not start: it exited with code {code}; its traceback is on standard error"
        assert told in reason
    else:
        assert reason.endswith("exited with code 0 before it ran any task")
    assert "after it ran" not in reason


def test_a_runner_that_had_been_ready_is_not_said_to_have_failed_to_start(child):
    child.slots.reset()
    child.leased = True

    assert RunnerExit(child, 3 << 8).reason.endswith("exited with code 3 before it ran any task")


def test_a_runner_that_ends_after_its_task_is_told_as_such(child):
    child.slots.clear(0)

    assert RunnerExit(child, 3 << 8).reason.endswith("exited with code 3 after it ran the task")
