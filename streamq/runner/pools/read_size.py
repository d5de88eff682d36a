"""The read size of a concurrent pool: how many messages it reads at once."""

from streamq.host.clock import perf_counter

#: Messages read at once at most.
AT_ONCE = 100
#: Seconds of work that are read ahead, which is how long a read takes in a busy process; and the
#: number of messages read ahead at most.
AHEAD, MOST_AHEAD = 0.02, 100


class ReadSize:
    """The rate at which tasks end (per second), and the size of a read that follows from it."""

    #: Seconds between two measurements.
    WINDOW = 0.5

    def __init__(self) -> None:
        self.rate = 0.0
        self.since, self.ran = perf_counter(), -1
        #: Messages of one read at most: few after a task has blocked all others, as messages
        #: that cannot be started go back.
        self.limit = AT_ONCE

    def measure(self, ran: int) -> None:
        """Measure the rate from the number of tasks that ran, once per ``WINDOW``."""
        now = perf_counter()
        if now - self.since > self.WINDOW:
            self.rate = (ran - self.ran) / (now - self.since) if self.ran >= 0 else 0.0
            self.since, self.ran = now, ran

    def ahead(self) -> int:
        """The number of messages that tasks ending within ``AHEAD`` will make room for."""
        return min(MOST_AHEAD, int(self.rate * AHEAD))

    @property
    def careful(self) -> bool:
        """Whether reads are small, because messages read before had to go back."""
        return self.limit < AT_ONCE

    def learn(self, *, late: bool) -> None:
        """Adapt to the last read: 1 if its tasks blocked others (``late``), else fourfold."""
        self.limit = 1 if late else min(self.limit * 4, AT_ONCE)
