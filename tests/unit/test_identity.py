"""Who a consumer is, and whether its process is gone from this machine."""

import os
import subprocess
import sys

from streamq.store.keys import node_of
from streamq.worker.identity import died_here, is_gone, new_token, place


def name(pid, token=None):
    return f"worker@host:{pid}:{token or new_token()}"


def gone():
    """The pid of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    return process.pid


def test_no_two_tokens_are_the_same_and_all_name_the_place():
    tokens = {new_token() for _ in range(100)}

    assert len(tokens) == 100
    assert {token[:10] for token in tokens} == {place()}


def test_a_process_of_this_place_that_is_gone_has_died_here():
    assert died_here(name(gone()))
    assert not died_here(name(os.getpid()))


def test_nothing_is_said_of_other_places_and_of_odd_names():
    assert not died_here(name(gone(), "0" * 16))
    assert not died_here(name(gone(), place()))
    for odd in ("", "me", "a:b", ":::", "worker@host:x:" + new_token()):
        assert not died_here(odd)


def test_the_node_is_what_stands_before():
    assert node_of("w1@host:17:abc") == "w1@host"


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
