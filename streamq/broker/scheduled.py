"""Scheduled messages: those that are due are moved into their queues."""

from dataclasses import dataclass

from streamq.transport.client import Client
from streamq.transport.decode import texts
from streamq.transport.keys import Keys
from streamq.transport.scripts import load

PROMOTE = load("promote")

#: Messages that one call moves: Redis serves no other client while a script runs.
BUDGET = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Promoted:
    """How many scheduled messages were moved, when the next is due, and why some were not.

    Times are seconds of the server; ``failed`` has the reason by the name of the message.
    """

    moved: int
    due: float | None
    now: float
    failed: dict[str, str]


class ScheduledMessages:
    """The scheduled messages of the namespace; the bounds are those of records and dead letters."""

    def __init__(
        self, client: Client, keys: Keys, *, result_expires: float, dead: tuple[int, int]
    ) -> None:
        self.client = client
        self.keys = keys
        self.bounds = (int(result_expires * 1000), *dead)

    def promote(self) -> Promoted:
        """Move some of the messages that are due into their queues."""
        answer = self.client.call(PROMOTE, self.keys.root, BUDGET, *self.bounds)
        moved, due, now, failed = answer
        return Promoted(moved=moved, due=moment_in(due), now=now / 1000, failed=texts(failed))


def moment_in(score: bytes) -> float | None:
    """The moment of a scheduled message, in seconds of the server; None if there is none.

    A score that was written by hand may be any number: half a millisecond, or infinity.
    """
    return float(score) / 1000 if score else None
