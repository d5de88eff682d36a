"""Exponential backoff: the pauses between attempts.  Arithmetic alone: no clock, no sleep."""

from dataclasses import dataclass

#: Doublings after which every pause is the longest in any case; larger powers only cost memory.
MOST_DOUBLINGS = 64


@dataclass(slots=True)
class Backoff:
    """An exponential backoff: each pause is twice the one before, at most ``longest`` seconds.

    ``next`` counts the attempts itself; ``pause`` is for callers that know their number.
    """

    first: float
    longest: float
    #: The pauses that ``next`` has returned since the last ``reset``.
    tries: int = 0

    def pause(self, tries: int) -> float:
        """Seconds to wait after ``tries`` earlier pauses."""
        return float(min(self.longest, self.first * 2 ** min(tries, MOST_DOUBLINGS)))

    def next(self) -> float:
        """Seconds to wait now; the next pause is twice as long."""
        pause = self.pause(self.tries)
        self.tries += 1
        return pause

    def reset(self) -> None:
        """Note that an attempt has succeeded: the next pause is the shortest again."""
        self.tries = 0
