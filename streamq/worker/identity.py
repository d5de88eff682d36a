"""Who a consumer is: NODE:PID:TOKEN, never used twice; and whether a process lives.

The first half of the token names the machine as it has been since it was started, and the
process namespace on it; whoever is in the same place can see whether the process lives.
Nobody else can: what cannot be told counts as alive.
"""

import enum
import hashlib
import os
import socket
from functools import cache
from pathlib import Path

#: Hexadecimal digits of a token that name the place, and those that are chance.
PLACE, CHANCE = 10, 6


class Life(enum.Enum):
    """What is known of a process."""

    ALIVE = "alive"
    GONE = "gone"
    UNKNOWN = "cannot tell"


def new_token() -> str:
    """The last part of the name of a new consumer."""
    return place() + os.urandom(CHANCE // 2).hex()


@cache
def place() -> str:
    """This machine since its start, and the process namespace: who shares it shares pids.

    Who cannot know where it is has a place of its own, where nobody else is.
    """
    facts = [socket.gethostname()]
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        try:
            facts.append(os.readlink(path) if "ns" in path else Path(path).read_text())
        except OSError:
            return os.urandom(PLACE // 2).hex()
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:PLACE]


def died_here(consumer: str) -> bool:
    """Whether a consumer was a process of this place, and that process is gone."""
    *_, pid, token = ("", *consumer.rsplit(":", 2)[-2:])
    if not (pid.isascii() and pid.isdigit()) or len(token) != PLACE + CHANCE:
        return False
    return life_of(int(pid), token[:PLACE]) is Life.GONE


def life_of(pid: int, where: str) -> Life:
    """Whether the process of this number in that place lives.

    The kernel says so of every process of this place, whoever's it is: /proc does not, as it may
    hide those of others (``hidepid``) or show the processes of another namespace.
    """
    if where != place() or pid <= 0:
        return Life.UNKNOWN
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):  # no process can have a number that is too large
        return Life.GONE
    except PermissionError:
        pass  # somebody else's
    return Life.GONE if state_of(pid) in ("Z", "X") else Life.ALIVE


def state_of(pid: int) -> str:
    """The state of a process of this place as the system names it; nothing if it does not show it.

    A dead one that nobody has waited for yet still has its number (Z): in a container without
    an init, for ever.
    """
    try:
        if os.readlink("/proc/self") != str(os.getpid()):
            return ""  # it counts the processes of another namespace
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
