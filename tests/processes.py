"""Waiting for what processes do, looking at them, and sending them signals."""

import ctypes
import mmap
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

#: For tests that make namespaces and mounts of their own: root may, users often may not.
needs_namespaces = pytest.mark.skipif(
    os.geteuid() != 0
    or subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "true"], capture_output=True
    ).returncode,
    reason="makes process and mount namespaces",
)

#: Become another user, who may read and write everything, but sees no process of ours.
OTHER_USER = (
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
    *("--inh-caps=+dac_override", "--ambient-caps=+dac_override"),
)
#: What a shell does before, in a mount namespace of its own: /proc hides the others' processes.
HIDING = "mount -t proc -o hidepid=2 proc /proc && "


def until(ready: Callable[[], Any], what: str = "", seconds: float = 20.0) -> Any:
    """Ask again and again until the answer is true, and return it."""
    deadline = time.monotonic() + seconds
    while not (answer := ready()):
        if time.monotonic() > deadline:
            raise AssertionError(f"still not so after {seconds:g} s: {what}")
        time.sleep(0.01)
    return answer


def die_with_parent() -> None:
    """Let the kernel end this process when the tests end, however they end."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def stat(pid: int) -> list[str]:
    """State, parent and further fields of a process; nothing if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    return stat(pid)[:1] not in ([], ["Z"])


def children_of(pid: int) -> list[int]:
    """The living child processes of a process."""
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [int(child) for child in found if alive(int(child))]


def comm(pid: int) -> str:
    """The name that the system shows for a process; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def descriptors(pid: int) -> int:
    """How many files and sockets a process has open."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def resident(pid: int) -> int:
    """Bytes that a process has in memory."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * mmap.PAGESIZE
    except OSError:
        return 0


def hit(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to all of these that are still there."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
