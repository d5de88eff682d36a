"""Waiting for what tasks leave behind, where the system hands it to this worker.

A process whose parent has ended gets another one: the first of its namespace, which a worker
is in a container of its own, or the nearest ancestor that has asked for it (a subreaper).
When it ends, it stays as a zombie until that one has waited for it.

What modules of the user's have started in this process is theirs to wait for.  It is in our
session, in which nothing is that a task has started: each runner leads one of its own.  Of what
began another session there is an object that will be asked how it ended.
"""

import contextlib
import ctypes
import gc
import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

PR_GET_CHILD_SUBREAPER = 37
#: Look whether a child has ended, and leave it to be waited for.
LOOK = os.WEXITED | os.WNOHANG | os.WNOWAIT


class Orphans:
    """The children that this process has been handed."""

    def __init__(self) -> None:
        self.come_here = os.getpid() == 1 or is_subreaper()

    def reap(self, runners: Collection[int]) -> None:
        """Wait for those that have ended; ``runners`` are children of our own."""
        if not self.come_here:
            return
        sessions = {pid: os.getsid(pid) for pid in ended() if pid not in runners}
        ours = os.getsid(0)
        strange = [pid for pid, session in sessions.items() if session != ours]
        if not all(sessions[pid] in runners for pid in strange):
            claimed = claims()
            strange = [pid for pid in strange if pid not in claimed]
        for pid in strange:
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)


def is_subreaper() -> bool:
    """Whether this process has asked for the orphans below it, or was started by who had."""
    asked = ctypes.c_int(0)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(asked), 0, 0, 0)
    return bool(asked.value)


def ended() -> list[int]:
    """Children that have ended and were not waited for; without a /proc of ours, one of them."""
    first = look(os.P_ALL, 0)
    if not first:
        return []
    children = ""
    if Path("/proc/self").is_symlink() and os.readlink("/proc/self") == str(os.getpid()):
        with contextlib.suppress(OSError):
            tasks = Path("/proc/self/task").iterdir()
            children = " ".join((task / "children").read_text() for task in tasks)
    return [pid for pid in map(int, children.split()) if look(os.P_PID, pid)] or [first]


def look(kind: int, number: int) -> int:
    """The number of a child of this kind that has ended; 0 if there is none."""
    with contextlib.suppress(ChildProcessError):
        found = os.waitid(kind, number, LOOK)
        return found.si_pid if found is not None else 0
    return 0


def claims() -> set[int]:
    """The children of which there is an object that can be waited for, or was and is asked."""
    kinds: dict[type, bool] = {}
    found: set[int] = set()
    for each in gc.get_objects():
        kind = type(each)
        waits = kinds.get(kind)
        if waits is None:
            waits = kinds[kind] = any("wait" in vars(base) for base in kind.__mro__)
        if waits:
            found |= numbers(each)
    return found


def numbers(thing: Any) -> set[int]:
    """The number of the process that this stands for, without running code of its class."""
    with contextlib.suppress(AttributeError, TypeError):
        pid = object.__getattribute__(thing, "__dict__").get("pid")
        return {pid} if isinstance(pid, int) else set()
    return set()
