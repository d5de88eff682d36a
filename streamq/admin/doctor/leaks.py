"""Leak scan: finds data that was left behind in a namespace, by scanning its keys in pages.

SCAN lets Redis serve other clients between two pages.  ``sample`` scans a bounded number of keys;
``not_at_rest`` scans all.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from streamq.admin.doctor.facts import KeyFacts
from streamq.admin.inspector import Inspector
from streamq.core.text import count, first_few
from streamq.states import FINAL
from streamq.transport.client import Client
from streamq.transport.decode import text
from streamq.transport.keys import GROUP, Keys
from streamq.transport.replies import Denied, Refused

#: Kinds of keys that may stay for ever: topology, and stores with bounds of their own.
PERMANENT_KINDS = frozenset(
    {"exchanges", "alternates", "queues", "bindings", "routes", "queue", "script"}
    | {"leases", "lease_ms", "workers", "dead", "scheduled", "quarantine"}
    | {"schedules", "schedule"}
)

#: States of tasks whose message is in no queue's stream.
NOT_IN_STREAMS = frozenset({*FINAL, "SCHEDULED", "RETRY", ""})

#: Keys that one SCAN examines; other clients wait that long.
PAGE = 500


class LeakedRecord(NamedTuple):
    """The record of a task that has not ended and does not expire."""

    id: str
    queues: Sequence[str]


class LeakScan:
    """A scan of the keys of one namespace."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self.client = client
        self.keys = keys
        self.inspector = Inspector(client, keys)

    # A bounded scan

    def sample(
        self, budget: int, declared: Iterable[str], leases: Iterable[str], empty: Iterable[str]
    ) -> KeyFacts | None:
        """Scan about ``budget`` keys for data that was left behind; None if SCAN is not permitted.

        ``empty`` are the queues that hold no message and whose consumers run none.
        """
        declared, leases, empty = set(declared), set(leases), set(empty)
        looked_at, examined, complete = 0, 0, False
        candidates: list[LeakedRecord] = []
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
                candidates += self.leaked([name for kind, name in names if kind == "task"], empty)
                if examined >= budget:
                    break
            lost = self.still_leaked(candidates)
        except Denied:
            return None
        return KeyFacts(
            looked_at=looked_at,
            all_of_them=complete,
            lost_records=lost,
            undeclared=sorted(undeclared),
            marks_without_lease=sorted(unknown),
        )

    def leaked(self, ids: Sequence[str], empty: set[str]) -> list[LeakedRecord]:
        """The tasks among ``ids`` that have not ended, never expire, and whose queues are empty."""
        commands: list[tuple[object, ...]] = []
        for id in ids:
            record = self.keys.task(id)
            commands += [("PTTL", record), ("HMGET", record, "state", "queue", "copies")]
        replies = self.client.ask_all(commands)
        found = []
        for id, ttl, (state, queue, copies) in zip(ids, replies[::2], replies[1::2], strict=True):
            queues = text(copies or queue or b"").split(":")
            waits = text(state or b"") not in NOT_IN_STREAMS
            if ttl == -1 and waits and empty.issuperset(queues):
                found.append(LeakedRecord(id, queues))
        return found

    def still_leaked(self, candidates: Sequence[LeakedRecord]) -> list[str]:
        """The ids of candidates that are still leaked after their queues were read once more."""
        names = {name for each in candidates for name in each.queues}
        states = self.inspector.queues(names) if names else []
        empty = {state.name for state in states if not state.ready + state.running}
        again = self.leaked([each.id for each in candidates], empty)
        return [each.id for each in again]

    # A scan of all keys

    def not_at_rest(self) -> list[str]:
        """The reasons why this namespace is not at rest, one sentence each; empty if it is.

        Scans every key.
        """
        leases = {text(name) for name in self.client.ask("ZRANGE", self.keys.leases, 0, -1)}
        held: dict[str, tuple[int, int]] = {}
        without_expiry: list[str] = []
        orphans: set[str] = set()
        for page, _ in self.pages():
            for name in page:
                kind, _, rest = name.partition(":")
                if kind == "queue":
                    held[rest] = self.holdings(rest)
                    orphans |= self.consumers(rest) - leases
            others = [name for name in page if name.partition(":")[0] not in PERMANENT_KINDS]
            lives = self.client.ask_all([("PTTL", f"{self.keys.root}:{name}") for name in others])
            without_expiry += [name for name, life in zip(others, lives, strict=True) if life == -1]
        reasons = [
            f"{stream} holds {count(length, 'message')}, {pending} of them read by a worker"
            for stream, (length, pending) in sorted(held.items())
            if length or pending
        ]
        if without_expiry:
            keys = count(len(without_expiry), "key")
            reasons.append(f"{keys} without an expiry: {first_few(sorted(without_expiry))}")
        if orphans:
            reasons.append(f"consumers without a lease: {first_few(sorted(orphans))}")
        return reasons

    def holdings(self, stream: str) -> tuple[int, int]:
        """The number of messages in a stream, and how many of them are pending."""
        key = self.keys.queue(stream)
        length = int(self.client.ask("XLEN", key))
        try:
            return length, int(self.client.ask("XPENDING", key, GROUP)[0])
        except Refused:  # its group does not exist
            return length, 0

    def consumers(self, stream: str) -> set[str]:
        try:
            found = self.client.ask("XINFO", "CONSUMERS", self.keys.queue(stream), GROUP)
        except Refused:
            return set()
        return {text(flat[1]) for flat in found}

    def pages(self) -> Iterator[tuple[list[str], bool]]:
        """Scan the keys; yields pages of names without the root, and whether a page is the last."""
        pattern = f"{self.keys.glob}:*"
        prefix, cursor = len(self.keys.root) + 1, b"0"
        while True:
            cursor, page = self.client.ask("SCAN", cursor, "MATCH", pattern, "COUNT", PAGE)
            yield [text(key)[prefix:] for key in page], cursor == b"0"
            if cursor == b"0":
                return
