"""The identity of consumers, NODE:PID:TOKEN, never used twice; and whether a process lives.

The first part of the token names a place: the machine since its last start, and the process
namespace on it.  Only a process in the same place can see whether the consumer's process lives.  To
all others that is unknown, which counts as alive.
"""

import enum
import hashlib
import os
import socket
from functools import cache
from pathlib import Path

#: The hexadecimal digits of a token: so many name the place, and so many are random.
PLACE, RANDOM = 10, 6


class Life(enum.Enum):
    """The life of a process, as far as it is known here."""

    ALIVE = "alive"
    GONE = "gone"
    UNKNOWN = "cannot tell"


def new_token() -> str:
    """The last part of the name of a new consumer."""
    return place() + os.urandom(RANDOM // 2).hex()


@cache
def place() -> str:
    """The place of this process: its machine since the last start, and its process namespace.

    Processes of one place see each other's pids.  Where the place cannot be known it is random, so
    that no other process has it.
    """
    facts = [socket.gethostname()]
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        try:
            facts.append(os.readlink(path) if "ns" in path else Path(path).read_text())
        except OSError:
            return os.urandom(PLACE // 2).hex()
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:PLACE]


def died_here(consumer: str) -> bool:
    """Whether a consumer was a process of this place that is gone."""
    *_, pid, token = ("", *consumer.rsplit(":", 2)[-2:])
    if not (pid.isascii() and pid.isdigit()) or len(token) != PLACE + RANDOM:
        return False
    return life_of(int(pid), token[:PLACE]) is Life.GONE


def life_of(pid: int, where: str) -> Life:
    """The life of the process with this pid in that place.

    The kernel is asked, which knows every process of this place, of any user.  /proc may hide those
    of other users (``hidepid``) or show another namespace.
    """
    if where != place() or pid <= 0:
        return Life.UNKNOWN
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):  # or no process can have so large a pid
        return Life.GONE
    except PermissionError:
        pass  # it lives, and is another user's
    return Life.GONE if state_of(pid) in ("Z", "X") else Life.ALIVE


def state_of(pid: int) -> str:
    """The state of a process of this place, one letter as in /proc; empty if it is not shown.

    A dead one that was not waited for still has its pid (Z): in a container without an init, for
    ever.
    """
    try:
        if os.readlink("/proc/self") != str(os.getpid()):
            return ""  # it shows the processes of another namespace
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
