"""Who a consumer is: NODE:PID:TOKEN, never used twice.

The first half of the token names the machine as it has been since it was started, and the
process namespace on it; whoever is in the same place can see whether the process lives.
"""

import hashlib
import os
import socket
from functools import cache
from pathlib import Path

#: Hexadecimal digits of a token that name the place, and those that are chance.
PLACE, CHANCE = 10, 6


def new_token() -> str:
    """The last part of the name of a new consumer."""
    return place() + os.urandom(CHANCE // 2).hex()


@cache
def place() -> str:
    """This machine since its start, and the process namespace: who shares it shares pids."""
    facts = [socket.gethostname()]
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        try:
            facts.append(os.readlink(path) if "ns" in path else Path(path).read_text())
        except OSError:
            return "0" * PLACE  # nothing can be said of other processes here
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:PLACE]


def died_here(consumer: str) -> bool:
    """Whether a consumer was a process of this place, and that process is gone."""
    *_, pid, token = ("", *consumer.rsplit(":", 2)[-2:])
    if not pid.isdigit() or len(token) != PLACE + CHANCE or set(place()) == {"0"}:
        return False
    return token.startswith(place()) and is_gone(int(pid))


def is_gone(pid: int) -> bool:
    """Whether no process of this number runs any more.

    A dead one that nobody has waited for yet still has its number: in a container without
    an init, for ever.
    """
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state in "ZX"
