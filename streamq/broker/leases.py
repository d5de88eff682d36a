"""Leases: a runner registers for one, its supervisor renews it, every supervisor lists them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from streamq.broker.scheduled import moment_in
from streamq.broker.schedules import moment_ms
from streamq.errors import BrokerUnavailable
from streamq.host import clock
from streamq.transport.client import Client
from streamq.transport.connection import Connection
from streamq.transport.decode import text, texts
from streamq.transport.keys import Keys
from streamq.transport.replies import Disconnected, Refused
from streamq.transport.scripts import load

REGISTER = load("register")
RENEW = load("renew")
LIST_LEASES = load("list_leases")

#: Seconds that a lease of unknown length is taken to last at most: the clock may have jumped.
LONGEST_LEASE = 3600.0


class OwnLease:
    """The lease of one consumer, on the connection of its runner."""

    def __init__(self, connection: Connection, keys: Keys, consumer: str) -> None:
        self.connection = connection
        self.keys = keys
        self.consumer = consumer
        #: Whether the consumer has a lease, or may have had one: the answer may have been lost.
        self.registered = False

    def register(self, lease: float) -> None:
        """Take a lease, in seconds, before the first read.

        Called again, it checks that the lease is still there.  Raises Refused with the code FENCED
        if it is not: other workers have the messages, or Redis has lost its data with the lease.
        """
        again, self.registered = self.registered, True
        try:
            argv = (int(lease * 1000), self.consumer, int(again))
            self.connection.call(REGISTER, self.keys.root, *argv)
        except BrokerUnavailable as error:
            self.registered = again or (isinstance(error, Disconnected) and error.sent)
            raise
        except Refused:
            self.registered = again
            raise

    def is_held(self) -> bool:
        """Whether the consumer has a lease, so that other workers take it to be alive."""
        return self.connection.ask("ZSCORE", self.keys.leases, self.consumer) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """The news that a renewal of leases has brought; times are seconds of the server.

    ``sent`` and ``received`` are in monotonic seconds: when it was asked for, and answered.
    """

    sent: float
    received: float
    now: float
    #: When the next scheduled message is due; None if there is none.
    due: float | None
    #: The consumers whose leases were to be renewed, and those of them that have none any more.
    consumers: frozenset[str]
    fenced: frozenset[str]
    #: How many tasks are to be terminated, here or elsewhere.
    terminating: int
    #: The queues with quarantined messages that no runner has.
    quarantine: frozenset[str]
    #: How many workers come before this one in the order of names; 0 if there are no schedules.
    place: int = 0
    #: The schedule that is due first, "" for none, and its moment in ms.
    schedule: str = ""
    schedule_due: int | None = None


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
class LeaseTable:
    """The leases by consumer, and the consumers of the groups that have no lease."""

    now: float
    table: dict[str, Lease]
    orphans: list[str]


class Leases:
    """The leases of the namespace, as a supervisor renews and lists them; ``lease`` is its own."""

    def __init__(self, client: Client, keys: Keys, *, lease: float) -> None:
        self.client = client
        self.keys = keys
        self.lease = lease
        #: The lease table of the last reading.
        self.table: dict[str, Lease] = {}

    def renew(self, node: str, consumers: Sequence[str], about: dict[str, object]) -> Renewal:
        """Renew leases and store what the worker is doing; return the news for its supervisor."""
        described = [part for name, value in about.items() for part in (name, str(value))]
        argv = (node, int(self.lease * 1000), len(consumers), *consumers, *described)
        sent = clock.monotonic()
        answer = self.client.call(RENEW, self.keys.root, *argv)
        now, due, fenced, terminating, quarantine, place, schedule, moment = answer
        return Renewal(
            sent=sent,
            received=clock.monotonic(),
            now=now / 1000,
            due=moment_in(due),
            consumers=frozenset(consumers),
            fenced=frozenset(map(text, fenced)),
            terminating=terminating,
            quarantine=frozenset(map(text, quarantine)),
            place=place,
            schedule=text(schedule),
            schedule_due=moment_ms(text(moment)),
        )

    def list_leases(self, every: float) -> LeaseTable:
        """Read the lease table; and the groups, if nobody has done so for these seconds."""
        answer = self.client.call(LIST_LEASES, self.keys.root, max(1, int(every * 1000)))
        now, flat, orphans, lengths = answer
        lasting = texts(lengths)
        self.table = {
            name: self.lease_of(name, deadline, lasting.get(name, ""), now / 1000)
            for name, deadline in texts(flat).items()
        }
        return LeaseTable(now / 1000, self.table, list(map(text, orphans)))

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
