"""What supervisors say to Redis: leases, recovering the dead, messages that are due."""

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
SURVEY = load("survey")
PROMOTE = load("promote")
SETTLE = load("settle")

#: Messages that one call moves: a script during which Redis serves nobody else.
BUDGET = 100

#: Seconds that a lease lasts at most of which nobody has said how long: the clock may have jumped.
LONGEST = 3600.0


@dataclass(slots=True)
class Recovered:
    """What became of a dead consumer's messages."""

    moved: int = 0
    lost: int = 0
    buried: int = 0
    isolated: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A consumer that is dead: what happened to it, and what it was running.

    ``charge`` is alone, suspects, none or kept, as recover.lua says.  ``running`` None means that
    nobody knows.  Strangers say which ``deadline`` they saw, and which time of the server they
    ``expect``, give or take the ``tolerance`` (seconds).  ``streams`` are all that it can have
    read; none where nobody knows.
    """

    consumer: str
    reason: str
    charge: str
    running: Sequence[Place] | None = field(default_factory=list)
    streams: Sequence[str] = ()
    deadline: str = ""
    expect: float | None = None
    tolerance: float = 0.0


@dataclass(frozen=True, slots=True)
class News:
    """What a supervisor hears when it renews its leases; times are seconds of the server."""

    now: float
    due: float | None
    fenced: list[str]
    #: How many tasks are to be terminated, here or elsewhere.
    terminating: int
    suspects: set[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Promoted:
    """How many messages for later were moved, when the next is due, and why some were not.

    Times are seconds of the server; ``failed`` has the reason by the name of the message.
    """

    moved: int
    due: float | None
    now: float
    failed: dict[str, str]


@dataclass(frozen=True, slots=True)
class Lease:
    """A consumer's deadline as text, in milliseconds of the server, and the lease's seconds."""

    deadline: str
    length: float

    @property
    def end(self) -> float:
        """The deadline in seconds of the server."""
        return float(self.deadline) / 1000


@dataclass(frozen=True, slots=True)
class Leases:
    """The lease table, and the consumers that have none."""

    now: float
    table: dict[str, Lease]
    orphans: list[str]


class Recovery:
    """What a supervisor does for the consumers of its worker, and of workers that died."""

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
        #: The lease table as it was read last.
        self.table: dict[str, Lease] = {}
        self.expires = int(result_expires * 1000)
        self.bounds = (max_deliveries, self.expires, *dead, BUDGET)

    def call(self, script: Script, *argv: Any) -> Any:
        return self.client.call(script, self.keys.root, *argv)

    # Leases

    def renew(self, node: str, consumers: Sequence[str], about: dict[str, object]) -> News:
        """Renew leases and say what the worker does; hear what it should know."""
        described = [part for name, value in about.items() for part in (name, str(value))]
        lease = int(self.lease * 1000)
        now, due, fenced, terminating, suspects = self.call(
            RENEW, node, lease, len(consumers), *consumers, *described
        )
        return News(
            now=now / 1000,
            due=moment_in(due),
            fenced=list(map(text, fenced)),
            terminating=terminating,
            suspects=set(map(text, suspects)),
        )

    def survey(self, every: float) -> Leases:
        """Read the lease table; and the groups, if nobody has done so for these seconds."""
        now, flat, orphans, lengths = self.call(SURVEY, max(1, int(every * 1000)))
        lasting = texts(lengths)
        self.table = {
            name: self.lease_of(name, deadline, lasting.get(name, ""), now / 1000)
            for name, deadline in texts(flat).items()
        }
        return Leases(now / 1000, self.table, list(map(text, orphans)))

    def lease_of(self, name: str, deadline: str, length: str, now: float) -> Lease:
        """A lease of which this was said; workers of an older version do not say its length.

        Then it is as long as the deadline is ahead when it is first seen, in multiples of ours:
        so it hardly ever changes, and is the same as long as the deadline is.
        """
        if length.isdecimal() and int(length):
            return Lease(deadline, int(length) / 1000)
        before = self.table.get(name)
        if before and before.deadline == deadline:
            return before
        ahead = min(max(self.lease, float(deadline) / 1000 - now), LONGEST)
        return Lease(deadline, self.lease * math.ceil(ahead / self.lease))

    # The dead

    def recover(self, case: Case) -> Recovered | None:
        """Move everything that the consumer held, and end its lease; in bounded steps.

        None if it lives after all, or the server's clock has jumped.
        """
        found = Recovered()
        running = [part for place in case.running or () for part in place]
        count = "*" if case.running is None else len(case.running)
        expect = "" if case.expect is None else int(case.expect * 1000)
        told = (case.consumer, case.deadline, expect, int(case.tolerance * 1000))
        about = (case.reason, case.charge, *self.bounds, count, *running, *case.streams)
        while True:
            moved, lost, buried, isolated, left = self.call(RECOVER, *told, *about)
            if left < 0:
                return None
            found.moved += moved
            found.lost += lost
            found.buried += buried
            found.isolated += isolated
            if not left:
                return found
            told = (case.consumer, case.deadline, "", 0)

    def settle(self, consumer: str, outcomes: list[Outcome]) -> None:
        """Settle in the name of a runner that was stopped, before its lease ends.

        Numbered by a word: sent again, it changes nothing.  Raises Refused if one of them
        cannot be settled now.
        """
        argv = settle_arguments(consumer, "verdict", outcomes, self.dead)
        answer = self.call(SETTLE, *argv)
        if b" " in answer:
            raise Refused(text(answer.partition(b" ")[2]))

    def deliveries(self, places: Sequence[tuple[str, Place]]) -> list[Delivery | None]:
        """The messages that consumers have in these places; None where it is gone."""
        commands: list[tuple[Any, ...]] = []
        for consumer, (stream, entry) in places:
            commands.append(("XRANGE", self.keys.queue(stream), entry, entry))
            commands.append(("HGET", self.keys.started(consumer), f"{stream} {entry.decode()}"))
        replies = iter(self.client.ask_all(commands))
        return [
            delivery_of(stream, entry, found, mark)
            for (_, (stream, entry)), found, mark in zip(places, replies, replies, strict=True)
        ]

    def wishes(self, ids: Sequence[str], signals: Sequence[str]) -> list[list[str]]:
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
        """What a consumer holds of a stream and read after this entry."""
        return self.held(consumer, [stream], BUDGET, b"(" + entry)

    def held(
        self, consumer: str, streams: Sequence[str], most: int, start: bytes = b"-"
    ) -> list[Place]:
        """What a consumer holds of these streams, up to so many messages of each."""
        asked = [held_command(self.keys.queue(each), consumer, most, start) for each in streams]
        return places_of(streams, self.client.try_all(asked))

    def release(self, consumer: str, places: Sequence[Place]) -> int:
        """Hand back some of what a consumer has not started; return how many messages."""
        told = [part for place in places[:BUDGET] for part in ("late", *place)]
        return int(self.call(RELEASE, consumer, self.expires, *told))

    # Later

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
    """The moment of a message for later, in seconds of the server; None if there is none.

    A score is any number, if somebody else has written it: half a millisecond, or infinity.
    """
    return float(score) / 1000 if score else None


def delivery_of(stream: str, entry: bytes, found: Any, mark: bytes | None) -> Delivery | None:
    """The message of an entry, or of the mark that an early one has left.  None if neither."""
    fields = fields_of_mark(mark) if mark is not None else None
    if fields is not None:
        delivery = Delivery(stream, entry, fields)
        delivery.early = True
        return delivery
    if not found:
        return None
    flat = found[0][1]
    return Delivery(stream, entry, dict(zip(flat[::2], flat[1::2], strict=True)))
