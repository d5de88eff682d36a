"""What is left behind in a namespace: found by looking at its keys, page by page.

SCAN serves others between two pages.  A look for people has a budget; only a proof that
nothing is left looks at every key.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from streamq.admin.doctor.facts import KeyFacts
from streamq.admin.inspector import Inspector
from streamq.core.text import count
from streamq.states import FINAL
from streamq.transport.client import Client
from streamq.transport.decode import text
from streamq.transport.keys import GROUP, Keys
from streamq.transport.replies import Denied, Refused

#: Kinds of keys that may stay for ever: topology, stores with bounds of their own.
LASTING = frozenset(
    {"exchanges", "alternates", "queues", "bindings", "routes", "queue", "script"}
    | {"leases", "lease_ms", "workers", "dead", "scheduled", "suspects"}
)

#: States of tasks that wait in no queue's stream.
ELSEWHERE = frozenset({*FINAL, "SCHEDULED", "RETRY", ""})

#: Keys that one SCAN looks at: what one step costs the others.
PAGE = 500
#: Things of one kind that are named.
MOST_NAMED = 5


class Record(NamedTuple):
    """The record of a task that has not ended and does not expire."""

    id: str
    queues: Sequence[str]


class Leftovers:
    """Looks at the keys of one namespace."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self.client = client
        self.keys = keys
        self.inspector = Inspector(client, keys)

    # A look with a budget

    def sample(
        self, budget: int, declared: Iterable[str], leases: Iterable[str], empty: Iterable[str]
    ) -> KeyFacts | None:
        """What lies about among the first keys; None if they may not be looked at.

        ``empty`` are the queues that hold nothing and whose consumers have started nothing.
        """
        declared, leases, empty = set(declared), set(leases), set(empty)
        looked_at, examined, complete = 0, 0, False
        suspects: list[Record] = []
        undeclared: set[str] = set()
        unknown: set[str] = set()
        try:
            for page, last in self.pages():
                looked_at, examined, complete = looked_at + len(page), examined + PAGE, last
                names = [name.partition(":")[::2] for name in page]
                undeclared |= {
                    name for kind, name in names
                    if kind == "queue" and name.partition(":")[0] not in declared
                }  # fmt: skip
                unknown |= {
                    name for kind, name in names if kind == "started" and name not in leases
                }
                suspects += self.lasting([name for kind, name in names if kind == "task"], empty)
                if examined >= budget:
                    break
            forgotten = self.forgotten(suspects)
        except Denied:
            return None
        return KeyFacts(
            looked_at=looked_at,
            all_of_them=complete,
            forgotten_tasks=forgotten,
            undeclared=sorted(undeclared),
            unknown_starters=sorted(unknown),
        )

    def lasting(self, ids: Sequence[str], empty: set[str]) -> list[Record]:
        """Those of these tasks that wait for ever, as far as their empty queues know."""
        commands: list[tuple[object, ...]] = []
        for id in ids:
            record = self.keys.task(id)
            commands += [("PTTL", record), ("HMGET", record, "state", "queue", "copies")]
        replies = self.client.ask_all(commands)
        found = []
        for id, ttl, (state, queue, copies) in zip(ids, replies[::2], replies[1::2], strict=True):
            queues = text(copies or queue or b"").split(":")
            waits = text(state or b"") not in ELSEWHERE
            if ttl == -1 and waits and empty.issuperset(queues):
                found.append(Record(id, queues))
        return found

    def forgotten(self, suspects: Sequence[Record]) -> list[str]:
        """Those that are still so, now that their queues were looked at once more."""
        names = {name for each in suspects for name in each.queues}
        states = self.inspector.queues(names) if names else []
        empty = {state.name for state in states if not state.ready + state.running}
        again = self.lasting([each.id for each in suspects], empty)
        return [each.id for each in again]

    # A proof that nothing is left

    def unrest(self) -> list[str]:
        """What speaks against this namespace being at rest; nothing if it is.

        Looks at every key.
        """
        leases = {text(name) for name in self.client.ask("ZRANGE", self.keys.leases, 0, -1)}
        held: dict[str, tuple[int, int]] = {}
        staying: list[str] = []
        orphans: set[str] = set()
        for page, _ in self.pages():
            for name in page:
                kind, _, rest = name.partition(":")
                if kind == "queue":
                    held[rest] = self.holdings(rest)
                    orphans |= self.consumers(rest) - leases
            others = [name for name in page if name.partition(":")[0] not in LASTING]
            lives = self.client.ask_all([("PTTL", f"{self.keys.root}:{name}") for name in others])
            staying += [name for name, life in zip(others, lives, strict=True) if life == -1]
        said = [
            f"{stream} holds {count(length, 'message')}, {pending} of them in a worker's hands"
            for stream, (length, pending) in sorted(held.items())
            if length or pending
        ]
        if staying:
            said.append(f"{count(len(staying), 'key')} without an expiry: {listed(staying)}")
        if orphans:
            said.append(f"consumers without a lease: {listed(orphans)}")
        return said

    def holdings(self, stream: str) -> tuple[int, int]:
        """How many messages a stream holds, and how many of them were read."""
        key = self.keys.queue(stream)
        length = int(self.client.ask("XLEN", key))
        try:
            return length, int(self.client.ask("XPENDING", key, GROUP)[0])
        except Refused:  # its group was never made
            return length, 0

    def consumers(self, stream: str) -> set[str]:
        try:
            found = self.client.ask("XINFO", "CONSUMERS", self.keys.queue(stream), GROUP)
        except Refused:
            return set()
        return {text(flat[1]) for flat in found}

    def pages(self) -> Iterator[tuple[list[str], bool]]:
        """Pages of keys without the root, and whether a page is the last one."""
        pattern = f"{self.keys.glob}:*"
        prefix, cursor = len(self.keys.root) + 1, b"0"
        while True:
            cursor, page = self.client.ask("SCAN", cursor, "MATCH", pattern, "COUNT", PAGE)
            yield [text(key)[prefix:] for key in page], cursor == b"0"
            if cursor == b"0":
                return


def listed(things: Iterable[str]) -> str:
    """The first few, and how many more there are."""
    all_of_them = sorted(things)
    more = len(all_of_them) - MOST_NAMED
    return ", ".join(all_of_them[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
