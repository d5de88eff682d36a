"""Who a consumer is, and whether its process is gone from this machine."""

import os
import shlex
import subprocess
import sys

from streamq.transport.keys import node_of
from streamq.worker.identity import Life, died_here, life_of, new_token, place, state_of
from tests.edits import CHECKOUT
from tests.processes import HIDING, OTHER_USER, needs_namespaces


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

    assert state_of(child.pid) == "Z"
    assert life_of(child.pid, place()) is Life.GONE
    assert died_here(f"w@here:{child.pid}:{new_token()}")
    child.wait()
    assert life_of(child.pid, place()) is Life.GONE


def test_nothing_is_said_of_a_process_of_another_place():
    assert not died_here(f"w@here:999999999:{'a' * len(new_token())}")
    for where in ("a" * 10, "0" * 10, ""):
        assert life_of(gone(), where) is Life.UNKNOWN
        assert life_of(os.getpid(), where) is Life.UNKNOWN


def test_no_number_of_a_process_is_the_number_of_all():
    """To signal 0 or -1 would ask for a group, or for everybody."""
    assert life_of(0, place()) is life_of(-1, place()) is Life.UNKNOWN
    assert life_of(10**30, place()) is Life.GONE


#: What a program says of a process, which may be another user's.
LOOK = """
import sys
from streamq.worker.identity import life_of, place, state_of
pid = int(sys.argv[1])
print(life_of(pid, place()).value, state_of(pid) or "-")
"""


def looked_at(pid, *prefix, setup=""):
    """What is seen of a process from somewhere else; ``setup`` is a command of that place."""
    words = f'{setup}exec {" ".join(map(shlex.quote, prefix))} "$@"'
    found = subprocess.run(
        ["unshare", "--mount", "sh", "-c", words, "sh", sys.executable, "-c", LOOK, str(pid)],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout.split()


@needs_namespaces
def test_a_process_that_proc_hides_from_another_user_lives():
    assert looked_at(os.getpid(), *OTHER_USER, setup=HIDING) == ["alive", "-"]
    assert looked_at(gone(), *OTHER_USER, setup=HIDING) == ["gone", "-"]


@needs_namespaces
def test_what_proc_says_of_another_namespace_is_not_believed():
    """There, process 1 is the shell; /proc without a mount of its own shows ours."""
    inside = ("unshare", "--pid", "--fork")

    assert looked_at(1, *inside)[1] == "-"
    assert looked_at(1, *inside)[0] == "alive"
    assert looked_at(os.getpid(), *inside) == ["gone", "-"], "it is asked about that place"


def test_where_nothing_can_be_known_every_process_is_in_a_place_of_its_own(monkeypatch):
    """Two workers of two containers may both be process 1."""
    monkeypatch.setattr(os, "readlink", refuses)
    one, two = place.__wrapped__(), place.__wrapped__()

    assert one != two
    assert len(one) == len(two) == len(place())
    assert life_of(os.getpid(), one) is Life.UNKNOWN


def refuses(*about):
    raise FileNotFoundError
