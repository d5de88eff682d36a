"""Limits for log lines that could be written very often."""


class LogLimit:
    """A limit for one log line: at most once in so many seconds; the rest are counted."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.next = float("-inf")
        self.skipped = 0

    def due(self, now: float) -> bool:
        """Whether to log it now (monotonic seconds); if not, it is counted in ``skipped``."""
        if now < self.next:
            self.skipped += 1
            return False
        self.next = now + self.seconds
        return True

    def take_skipped(self) -> int:
        """Return how many lines were skipped, and reset the count."""
        skipped, self.skipped = self.skipped, 0
        return skipped
