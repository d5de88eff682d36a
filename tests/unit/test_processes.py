"""What is known of a runner that has ended."""

import os

import pytest

from streamq.runner.shared_memory import SharedMemory
from streamq.worker.processes import RunnerExit, RunnerProcess, has_ended


@pytest.fixture
def child(tmp_path):
    """A runner that ends at once."""
    pid = os.fork()
    if pid == 0:
        os._exit(3)
    return RunnerProcess(0, pid, "me", SharedMemory(tmp_path / "slots", 1, 1).of(0), ["mail"])


def test_one_that_somebody_else_has_waited_for_has_ended_and_nobody_knows_how(child):
    os.waitpid(child.pid, 0)

    assert has_ended(child.pid)
    assert RunnerExit(child, None).reason == (
        f"runner {child.pid} ended before it ran any task; "
        "a module of yours that waits for every child has taken its exit status"
    )


def test_one_that_has_ended_can_still_be_asked_how(child):
    while not has_ended(child.pid):
        pass

    assert os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1]) == 3
