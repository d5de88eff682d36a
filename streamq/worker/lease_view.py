"""Lease views: when a supervisor may judge the leases of others.  Pure, without I/O or a clock.

Leases run out while Redis is unavailable, or when its clock jumps.  So no consumer is declared
dead when its lease is first seen to have expired, but only after 1.5 leases of unbroken view.
Workers may have leases of different lengths: each is judged by its own.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from streamq.broker.leases import Lease

#: Leases of unbroken view after which a supervisor may judge.  Also: a deadline that has not moved
#: for as many leases counts as past whatever the server's clock says, which may have jumped back.
JUDGE_AFTER = 1.5


@dataclass(slots=True)
class LeaseView:
    """The view on leases of one length: for how long Redis has answered without a break.

    A break is what could end a lease of this length.  All arguments are seconds: ``now`` and
    ``sent`` of our monotonic clock, ``server`` of the server's.
    """

    lease: float
    #: Since when the view is unbroken, if it is.
    since: float | None = None
    #: The last answer: when it came, and the server's time in it.
    answered: float = 0.0
    server: float = 0.0

    def record_answer(self, server: float, *, sent: float, now: float) -> None:
        """Record an answer of Redis.

        The view is reset if the answer was slow, or the first for long, or the clock has jumped.
        """
        silence = now - self.answered
        jumped = abs(server - self.server - silence) > self.lease / 3
        slow = now - sent > self.lease / 3
        if self.since is None or jumped or slow or silence > self.lease:
            self.since = now
        self.answered, self.server = now, server

    def reset(self) -> None:
        """Begin again: Redis could not be reached, or refused to work."""
        self.since = None

    def is_reliable(self, now: float) -> bool:
        """Whether it has been unbroken for long enough to judge others."""
        return self.since is not None and now - self.since >= JUDGE_AFTER * self.lease

    def server_time(self, now: float) -> float:
        """The time that the server's clock should show."""
        return self.server + (now - self.answered)


class LeaseViews:
    """The views of one supervisor: one for each length of lease in the table, and its own."""

    def __init__(self, lease: float) -> None:
        self.own = LeaseView(lease)
        self.by_length = {lease: self.own}

    def set_lengths(self, lengths: Collection[float]) -> None:
        """Keep views of these lengths from now on; a new one is not reliable yet."""
        self.by_length = {
            length: self.by_length.get(length) or LeaseView(length) for length in lengths
        }
        self.by_length[self.own.lease] = self.own

    def record_answer(self, server: float, *, sent: float, now: float) -> None:
        """Record an answer of Redis in each view."""
        for view in self.by_length.values():
            view.record_answer(server, sent=sent, now=now)

    def reset(self) -> None:
        """Begin each view again: Redis could not be reached, or refused to work."""
        for view in self.by_length.values():
            view.reset()

    @property
    def shortest(self) -> float:
        """The shortest of the lengths, in seconds."""
        return min(self.by_length)


@dataclass(slots=True)
class ForeignLeases:
    """The leases of other workers, each with the moment since which it has not changed."""

    known: dict[str, tuple[Lease, float]] = field(default_factory=dict)

    def update(self, leases: Mapping[str, Lease], *, server: float, now: float) -> list[str]:
        """Take over the lease table as read; return the consumers whose lease has run out."""
        previous, self.known = self.known, {}
        for consumer, lease in leases.items():
            before, first = previous.get(consumer, (None, now))
            self.known[consumer] = (lease, first if before == lease else now)
        return [
            consumer
            for consumer, (lease, first) in self.known.items()
            if lease.end < server or now - first > JUDGE_AFTER * lease.length
        ]

    def next_end(self, *, server: float) -> float:
        """Seconds until the first of the leases runs out; infinite if there is none."""
        ends = [lease.end - server for lease, _ in self.known.values()]
        return min((end for end in ends if end > 0), default=float("inf"))
