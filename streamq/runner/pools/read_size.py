"""How much a process of greenlets reads at once, by how fast its tasks end."""

from streamq.host.clock import perf_counter

#: Messages read at once.
AT_ONCE = 100
#: Seconds of work that is read ahead, as long as a read takes in a busy process; and how many
#: messages at most.
AHEAD, MOST_AHEAD = 0.02, 100


class Speed:
    """How many tasks end in a second, and how many messages are read at once."""

    WINDOW = 0.5

    def __init__(self) -> None:
        self.rate = 0.0
        self.since, self.ran = perf_counter(), -1
        #: Messages of one read: few where tasks have let nothing else run, as what cannot be
        #: started goes back.
        self.most = AT_ONCE

    def look(self, ran: int) -> None:
        """Measure, if enough time has passed since the last measurement."""
        now = perf_counter()
        if now - self.since > self.WINDOW:
            self.rate = (ran - self.ran) / (now - self.since) if self.ran >= 0 else 0.0
            self.since, self.ran = now, ran

    def ahead(self) -> int:
        """How many messages to read that will be started as tasks end within ``AHEAD``."""
        return min(MOST_AHEAD, int(self.rate * AHEAD))

    @property
    def careful(self) -> bool:
        """Whether few messages are read, as what was read before had to go back."""
        return self.most < AT_ONCE

    def learn(self, *, late: bool) -> None:
        """Learn from what was read last: did it let nothing else start, for too long?"""
        self.most = 1 if late else min(self.most * 4, AT_ONCE)
