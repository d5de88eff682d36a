"""Orphans: processes that tasks leave behind are waited for, where they become our children.

A process whose parent has ended gets another one: the first of its namespace, which a worker
is in a container of its own, or the nearest ancestor that has asked for it (a subreaper).
When it ends, it stays as a zombie until that parent has waited for it.

What modules of the user's have started in this process is theirs to wait for.  It is in our
session, in which no process is that a task has started: each runner leads a session of its own.
If it began another session, there is an object in this process that can be waited for, and is not
touched.
"""

import contextlib
import gc
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from streamq.host.prctl import is_subreaper

#: Report whether a child has ended, and leave it to be waited for.
WITHOUT_REAPING = os.WEXITED | os.WNOHANG | os.WNOWAIT


class Orphans:
    """The orphans that have become children of this process."""

    def __init__(self) -> None:
        self.expected = os.getpid() == 1 or is_subreaper()

    def reap(self, runners: Collection[int]) -> None:
        """Wait for those that have ended; ``runners`` are the pids of our own children."""
        if not self.expected:
            return
        sessions = {pid: os.getsid(pid) for pid in ended() if pid not in runners}
        ours = os.getsid(0)
        orphans = [pid for pid, session in sessions.items() if session != ours]
        if not all(sessions[pid] in runners for pid in orphans):
            owned = owned_pids()
            orphans = [pid for pid in orphans if pid not in owned]
        for pid in orphans:
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)


def ended() -> list[int]:
    """The pids of children that have ended and were not waited for.

    Only one of them if /proc does not show this namespace.
    """
    first = ended_child(os.P_ALL, 0)
    if not first:
        return []
    children = ""
    if Path("/proc/self").is_symlink() and os.readlink("/proc/self") == str(os.getpid()):
        with contextlib.suppress(OSError):
            tasks = Path("/proc/self/task").iterdir()
            children = " ".join((task / "children").read_text() for task in tasks)
    return [pid for pid in map(int, children.split()) if ended_child(os.P_PID, pid)] or [first]


def ended_child(kind: int, number: int) -> int:
    """The pid of a child that has ended, one that ``waitid`` selects so; 0 if there is none."""
    with contextlib.suppress(ChildProcessError):
        found = os.waitid(kind, number, WITHOUT_REAPING)
        return found.si_pid if found is not None else 0
    return 0


def owned_pids() -> set[int]:
    """The pids of all objects in this process that can be waited for, such as ``Popen``."""
    kinds: dict[type, bool] = {}
    found: set[int] = set()
    for each in gc.get_objects():
        kind = type(each)
        waits = kinds.get(kind)
        if waits is None:
            waits = kinds[kind] = any("wait" in vars(base) for base in kind.__mro__)
        if waits:
            found |= pids_of(each)
    return found


def pids_of(thing: Any) -> set[int]:
    """The pid that this object has, if any, read without running code of its class."""
    with contextlib.suppress(AttributeError, TypeError):
        pid = object.__getattribute__(thing, "__dict__").get("pid")
        return {pid} if isinstance(pid, int) else set()
    return set()
