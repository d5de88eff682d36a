"""The footprint of a Lua script: the commands that it may send, on which kinds of keys.

The rights of a user follow from it.  The table is made from the scripts by scripts/footprint.py,
so that no program reads Lua when it starts.
"""

from dataclasses import dataclass, field
from functools import cache

from streamq.acl.footprint_table import FOOTPRINTS


@dataclass(frozen=True, slots=True, order=True)
class Access:
    """A command such as ``XADD`` or ``XGROUP|CREATE``, and the kinds of the keys it names.

    A kind is ``leases`` for one key and ``task:*`` for one of many.
    """

    command: str
    kinds: frozenset[str] = field(default=frozenset())


@cache
def footprint(name: str) -> frozenset[Access]:
    """Every access of a script, whatever its arguments."""
    return accesses(*FOOTPRINTS[name])


def accesses(*lines: str) -> frozenset[Access]:
    """Accesses from lines ``KIND …: COMMAND …``, or commands alone that name no key.

    Each command works on each of the kinds; kinds that are joined by ``+`` are keys of one call.
    """
    found = set()
    for line in lines:
        kinds, _, commands = line.rpartition(": ")
        sets = [frozenset(kind.split("+")) for kind in kinds.split()] or [frozenset[str]()]
        found |= {Access(command, each) for command in commands.split() for each in sets}
    return frozenset(found)
