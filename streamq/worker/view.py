"""Whether what a supervisor sees of the others can be trusted: pure reasoning about time.

Leases run out while Redis is away, or when its clock jumps; so nobody is declared dead on
the first sight of an expired lease, but only after 1.5 leases of unbroken view.
"""

from dataclasses import dataclass, field

#: Leases of unbroken view after which a supervisor may judge.
ENOUGH = 1.5
#: Seconds after which a deadline that nobody has moved counts as past, whatever the server's
#: clock says: it may have jumped back.  At least so long, or three leases.
STANDSTILL = 120.0


@dataclass(slots=True)
class View:
    """How long we have seen Redis without a break, and what time it should be there.

    All arguments are seconds: ``now`` and ``sent`` of our monotonic clock, ``server`` of
    the server's.
    """

    lease: float
    since: float | None = None
    seen: float = 0.0
    server: float = 0.0
    #: Seconds by which the server's clock has jumped back, until that was heeded.
    behind: float = 0.0

    def saw(self, server: float, *, sent: float, now: float) -> None:
        """Redis answered.

        The view begins anew if it was silent for long, here or there, or its clock jumped.
        """
        silence = now - self.seen
        jump = (server - self.server) - silence
        jumped = abs(jump) > self.lease / 3
        if jumped and self.seen:
            self.behind = max(0.0, self.behind - jump)
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

    def take_behind(self) -> float:
        """How far the clock has jumped back since this was asked last."""
        behind, self.behind = self.behind, 0.0
        return behind

    def time(self, now: float) -> float:
        """What the server's clock should say."""
        return self.server + (now - self.seen)


@dataclass(slots=True)
class Watched:
    """A deadline, when it was first seen, and how long it had to go then."""

    deadline: str
    first: float
    left: float


@dataclass(slots=True)
class Others:
    """The leases of other workers, as they were seen so far."""

    lease: float
    watched: dict[str, Watched] = field(default_factory=dict)

    def look(
        self, deadlines: dict[str, str], *, server: float, now: float, behind: float = 0.0
    ) -> list[str]:
        """Take note of the lease table; return the consumers whose lease has run out.

        ``behind`` is how far the server's clock has just jumped back: a deadline that was
        written before that is over when it would have been without the jump.
        """
        longest = max(3 * self.lease, STANDSTILL)
        known = self.watched
        self.watched = {}
        for consumer, deadline in deadlines.items():
            before = known.get(consumer)
            if before is None or before.deadline != deadline:
                left = float(deadline) / 1000 - server
                left -= behind if left > behind else 0.0
                before = Watched(deadline, now, min(left, longest))
            self.watched[consumer] = before
        return [
            consumer
            for consumer, one in self.watched.items()
            if float(one.deadline) / 1000 < server or now - one.first > one.left + self.lease
        ]

    def next_end(self, *, server: float) -> float:
        """Seconds until the first of the leases runs out; infinite if there is none."""
        ends = [float(one.deadline) / 1000 - server for one in self.watched.values()]
        return min((end for end in ends if end > 0), default=float("inf"))
