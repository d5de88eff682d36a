"""Who a consumer is, and whether its process still runs."""

import os
import subprocess
import sys

from streamq.worker.identity import died_here, is_gone, new_token


def test_a_process_that_runs_is_not_gone():
    assert not is_gone(os.getpid())
    assert not died_here(f"w@here:{os.getpid()}:{new_token()}")


def test_a_process_that_ended_is_gone_although_nobody_has_waited_for_it():
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    assert os.path.exists(f"/proc/{child.pid}")
    assert is_gone(child.pid)
    assert died_here(f"w@here:{child.pid}:{new_token()}")
    child.wait()
    assert is_gone(child.pid)


def test_nothing_is_said_of_a_process_of_another_place():
    assert not died_here(f"w@here:999999999:{'a' * len(new_token())}")
