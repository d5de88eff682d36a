"""Whether what a supervisor sees of the others can be trusted: pure reasoning about time.

Leases run out while Redis is away, or when its clock jumps; so nobody is declared dead on
the first sight of an expired lease, but only after 1.5 leases of unbroken view.  Workers
may have leases of different lengths: each is judged by its own.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from streamq.broker.recovery import Lease

#: Leases of unbroken view after which a supervisor may judge; and for which a deadline has
#: not moved that counts as past, whatever the server's clock says: it may have jumped back.
ENOUGH = 1.5


@dataclass(slots=True)
class View:
    """How long we have seen Redis without a break that could end a lease of this length.

    All arguments are seconds: ``now`` and ``sent`` of our monotonic clock, ``server`` of
    the server's.
    """

    lease: float
    since: float | None = None
    seen: float = 0.0
    server: float = 0.0

    def saw(self, server: float, *, sent: float, now: float) -> None:
        """Redis answered.

        The view begins anew if it was silent for long, here or there, or its clock jumped.
        """
        silence = now - self.seen
        jumped = abs(server - self.server - silence) > self.lease / 3
        slow = now - sent > self.lease / 3
        if self.since is None or jumped or slow or silence > self.lease:
            self.since = now
        self.seen, self.server = now, server

    def broke(self) -> None:
        """Redis could not be reached, or could not work."""
        self.since = None

    def clear(self, now: float) -> bool:
        """Whether it has been unbroken for long enough to judge others."""
        return self.since is not None and now - self.since >= ENOUGH * self.lease

    def time(self, now: float) -> float:
        """What the server's clock should say."""
        return self.server + (now - self.seen)


class Views:
    """The view for each length of lease that there is."""

    def __init__(self, lease: float) -> None:
        self.own = View(lease)
        self.of = {lease: self.own}

    def heed(self, lengths: Collection[float]) -> None:
        """Judge leases of these lengths from now on; one that is new is not judged yet."""
        self.of = {length: self.of.get(length) or View(length) for length in lengths}
        self.of[self.own.lease] = self.own

    def saw(self, server: float, *, sent: float, now: float) -> None:
        """Redis answered."""
        for view in self.of.values():
            view.saw(server, sent=sent, now=now)

    def broke(self) -> None:
        """Redis could not be reached, or could not work."""
        for view in self.of.values():
            view.broke()

    @property
    def shortest(self) -> float:
        """The shortest of the leases."""
        return min(self.of)


@dataclass(slots=True)
class Others:
    """The leases of other workers, each with the moment at which it was first seen so."""

    watched: dict[str, tuple[Lease, float]] = field(default_factory=dict)

    def look(self, leases: Mapping[str, Lease], *, server: float, now: float) -> list[str]:
        """Take note of the lease table; return the consumers whose lease has run out."""
        known, self.watched = self.watched, {}
        for consumer, lease in leases.items():
            before, first = known.get(consumer, (None, now))
            self.watched[consumer] = (lease, first if before == lease else now)
        return [
            consumer
            for consumer, (lease, first) in self.watched.items()
            if lease.end < server or now - first > ENOUGH * lease.length
        ]

    def next_end(self, *, server: float) -> float:
        """Seconds until the first of the leases runs out; infinite if there is none."""
        ends = [lease.end - server for lease, _ in self.watched.values()]
        return min((end for end in ends if end > 0), default=float("inf"))
