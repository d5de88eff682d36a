"""When a runner ends by itself, to be replaced by a fresh one."""

import mmap
import sys
from dataclasses import dataclass
from pathlib import Path

from streamq.host import clock


@dataclass(frozen=True, slots=True)
class Limits:
    """``tasks`` and ``memory`` (bytes) bound a runner's life; None means no bound.

    ``patience`` is for how many seconds a runner that stops tries to reach Redis.
    """

    tasks: int | None = None
    memory: int | None = None
    patience: float = 5.0

    def left(self, ran: int) -> int:
        """How many more tasks a runner may run that ran so many."""
        return sys.maxsize if self.tasks is None else max(0, self.tasks - ran)

    def reached(self, ran: int) -> bool:
        """Whether a runner that ran so many tasks should end."""
        if self.tasks is not None and ran >= self.tasks:
            return True
        return self.memory is not None and resident() > self.memory

    def out_of_patience(self, since: float) -> bool:
        """Whether Redis has been away too long for a runner that wants to end."""
        return clock.monotonic() - since > self.patience


def resident() -> int:
    """Bytes of memory that this process has resident; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * mmap.PAGESIZE
