"""Recovery: the commands of a supervisor for leases, dead consumers and due messages."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from streamq.broker.consumer import Place, fields_of_mark, held_command, places_of, settle_arguments
from streamq.core.delivery import Delivery
from streamq.core.outcome import Outcome
from streamq.transport.client import Client
from streamq.transport.decode import text, texts
from streamq.transport.keys import Keys
from streamq.transport.replies import Refused
from streamq.transport.scripts import Script, load

RECOVER = load("recover")
RENEW = load("renew")
RELEASE = load("release")
LIST_LEASES = load("list_leases")
PROMOTE = load("promote")
FOLLOW = load("follow")

#: Messages that one call moves: Redis serves no other client while a script runs.
BUDGET = 100

#: Seconds that a lease of unknown length is taken to last at most: the clock may have jumped.
LONGEST_LEASE = 3600.0


@dataclass(slots=True)
class RecoveryResult:
    """What became of a dead consumer's messages."""

    moved: int = 0
    lost: int = 0
    dead_lettered: int = 0
    quarantined: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryRequest:
    """A consumer that is dead: what happened to it, and what it was running.

    ``blame`` is sole_task, suspected, none or kept, as recover.lua says.  ``running`` is None
    if that is unknown.  Other workers than its own give the ``deadline`` that they saw, and the
    time of the server that they ``expect``, within the ``tolerance`` (seconds).  ``streams`` are
    all that it can have read; empty if that is unknown.
    """

    consumer: str
    reason: str
    blame: str
    running: Sequence[Place] | None = field(default_factory=list)
    streams: Sequence[str] = ()
    deadline: str = ""
    expect: float | None = None
    tolerance: float = 0.0


@dataclass(frozen=True, slots=True)
class Renewal:
    """The answer to a renewal of leases; times are seconds of the server."""

    now: float
    due: float | None
    fenced: list[str]
    #: How many tasks are to be terminated, here or elsewhere.
    terminating: int
    #: The queues with quarantined messages that no runner has.
    quarantine: set[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Promoted:
    """How many scheduled messages were moved, when the next is due, and why some were not.

    Times are seconds of the server; ``failed`` has the reason by the name of the message.
    """

    moved: int
    due: float | None
    now: float
    failed: dict[str, str]


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease: its deadline as text, in milliseconds of the server, and its length in seconds."""

    deadline: str
    length: float

    @property
    def end(self) -> float:
        """The deadline in seconds of the server."""
        return float(self.deadline) / 1000


@dataclass(frozen=True, slots=True)
class Leases:
    """The lease table, and the consumers of the groups that have no lease."""

    now: float
    table: dict[str, Lease]
    orphans: list[str]


class Recovery:
    """The recovery commands of a supervisor, for its own consumers and those of dead workers."""

    def __init__(
        self,
        client: Client,
        keys: Keys,
        *,
        lease: float,
        max_deliveries: int,
        result_expires: float,
        dead: tuple[int, int],
    ) -> None:
        self.client = client
        self.keys = keys
        self.lease = lease
        self.dead = dead
        #: The lease table of the last reading.
        self.table: dict[str, Lease] = {}
        self.expires = int(result_expires * 1000)
        self.bounds = (max_deliveries, self.expires, *dead, BUDGET)

    def call(self, script: Script, *argv: Any) -> Any:
        """Run a script in the namespace."""
        return self.client.call(script, self.keys.root, *argv)

    # Leases

    def renew(self, node: str, consumers: Sequence[str], about: dict[str, object]) -> Renewal:
        """Renew leases and store what the worker is doing; return the news for its supervisor."""
        described = [part for name, value in about.items() for part in (name, str(value))]
        lease = int(self.lease * 1000)
        now, due, fenced, terminating, quarantine = self.call(
            RENEW, node, lease, len(consumers), *consumers, *described
        )
        return Renewal(
            now=now / 1000,
            due=moment_in(due),
            fenced=list(map(text, fenced)),
            terminating=terminating,
            quarantine=set(map(text, quarantine)),
        )

    def list_leases(self, every: float) -> Leases:
        """Read the lease table; and the groups, if nobody has done so for these seconds."""
        now, flat, orphans, lengths = self.call(LIST_LEASES, max(1, int(every * 1000)))
        lasting = texts(lengths)
        self.table = {
            name: self.lease_of(name, deadline, lasting.get(name, ""), now / 1000)
            for name, deadline in texts(flat).items()
        }
        return Leases(now / 1000, self.table, list(map(text, orphans)))

    def lease_of(self, name: str, deadline: str, length: str, now: float) -> Lease:
        """The lease of a consumer; workers of an older version do not store its length.

        Then the length is the time to the deadline when that is first seen, rounded up to a
        multiple of our own lease: so it hardly ever changes, and never for the same deadline.
        """
        if length.isdecimal() and int(length):
            return Lease(deadline, int(length) / 1000)
        before = self.table.get(name)
        if before and before.deadline == deadline:
            return before
        ahead = min(max(self.lease, float(deadline) / 1000 - now), LONGEST_LEASE)
        return Lease(deadline, self.lease * math.ceil(ahead / self.lease))

    # Dead consumers

    def recover(self, request: RecoveryRequest) -> RecoveryResult | None:
        """Move everything that the consumer held, and end its lease; in bounded steps.

        None if it is alive after all, or the server's clock has jumped.
        """
        found = RecoveryResult()
        running = [part for place in request.running or () for part in place]
        count = "*" if request.running is None else len(request.running)
        expect = "" if request.expect is None else int(request.expect * 1000)
        identity = (request.consumer, request.deadline, expect, int(request.tolerance * 1000))
        about = (request.reason, request.blame, *self.bounds, count, *running, *request.streams)
        while True:
            moved, lost, dead_lettered, quarantined, left = self.call(RECOVER, *identity, *about)
            if left < 0:
                return None
            found.moved += moved
            found.lost += lost
            found.dead_lettered += dead_lettered
            found.quarantined += quarantined
            if not left:
                return found
            identity = (request.consumer, request.deadline, "", 0)

    def settle(self, consumer: str, outcomes: list[Outcome]) -> None:
        """Settle in the name of a runner that was stopped, before its lease ends.

        The call has a word for its number: sent again, it changes nothing.  Raises Refused if
        one of the messages cannot be settled now.
        """
        argv = settle_arguments(consumer, "forced_end", outcomes, self.dead)
        answer = self.call(FOLLOW, *argv)
        if b" " in answer:
            raise Refused(text(answer.partition(b" ")[2]))

    def deliveries(self, places: Sequence[tuple[str, Place]]) -> list[Delivery | None]:
        """The messages that consumers hold in these places; None for one that is gone."""
        commands: list[tuple[Any, ...]] = []
        for consumer, (stream, entry) in places:
            commands.append(("XRANGE", self.keys.queue(stream), entry, entry))
            commands.append(("HGET", self.keys.started(consumer), f"{stream} {entry.decode()}"))
        replies = iter(self.client.ask_all(commands))
        return [
            delivery_of(stream, entry, found, mark)
            for (_, (stream, entry)), found, mark in zip(places, replies, replies, strict=True)
        ]

    def requested_signals(self, ids: Sequence[str], signals: Sequence[str]) -> list[list[str]]:
        """With which of these signals each of these tasks is to be terminated."""
        if not ids:
            return []
        answers = self.client.ask_all(
            [
                ("ZMSCORE", self.keys.terminating, *(f"{name} {id}" for id in ids))
                for name in signals
            ]
        )
        return [
            [name for name, score in zip(signals, scores, strict=True) if score is not None]
            for scores in zip(*answers, strict=True)
        ]

    def held_after(self, consumer: str, stream: str, entry: bytes) -> list[Place]:
        """The places of a stream that a consumer holds and read after this entry."""
        return self.held(consumer, [stream], BUDGET, b"(" + entry)

    def held(
        self, consumer: str, streams: Sequence[str], most: int, start: bytes = b"-"
    ) -> list[Place]:
        """The places of these streams that a consumer holds, at most ``most`` of each."""
        asked = [held_command(self.keys.queue(each), consumer, most, start) for each in streams]
        return places_of(streams, self.client.try_all(asked))

    def release(self, consumer: str, places: Sequence[Place]) -> int:
        """Hand back some messages that a consumer has not started; return how many."""
        argv = [part for place in places[:BUDGET] for part in ("late", *place)]
        return int(self.call(RELEASE, consumer, self.expires, *argv))

    # Scheduled messages

    def promote(self) -> Promoted:
        """Move some of the messages that are due into their queues."""
        moved, due, now, failed = self.call(PROMOTE, BUDGET, self.expires, *self.dead)
        return Promoted(
            moved=moved,
            due=moment_in(due),
            now=now / 1000,
            failed=texts(failed),
        )


def moment_in(score: bytes) -> float | None:
    """The moment of a scheduled message, in seconds of the server; None if there is none.

    A score that was written by hand may be any number: half a millisecond, or infinity.
    """
    return float(score) / 1000 if score else None


def delivery_of(stream: str, entry: bytes, found: Any, mark: bytes | None) -> Delivery | None:
    """The message of an entry, or of the mark of an early one.  None if there is neither."""
    fields = fields_of_mark(mark) if mark is not None else None
    if fields is not None:
        delivery = Delivery(stream, entry, fields)
        delivery.early = True
        return delivery
    if not found:
        return None
    flat = found[0][1]
    return Delivery(stream, entry, dict(zip(flat[::2], flat[1::2], strict=True)))
