"""The lifetime of a runner: when it ends by itself, to be replaced by a new one."""

import mmap
import sys
from dataclasses import dataclass
from pathlib import Path

from streamq.host import clock


@dataclass(frozen=True, slots=True)
class Lifetime:
    """The limits of a runner's life: ``tasks`` run, ``memory`` in bytes; None means no limit.

    ``retry_seconds``: how long a runner that stops tries to reach Redis.
    """

    tasks: int | None = None
    memory: int | None = None
    retry_seconds: float = 5.0

    def remaining(self, ran: int) -> int:
        """The number of tasks that a runner may still run after ``ran`` tasks."""
        return sys.maxsize if self.tasks is None else max(0, self.tasks - ran)

    def reached(self, ran: int) -> bool:
        """Whether a runner has reached a limit after ``ran`` tasks."""
        if self.tasks is not None and ran >= self.tasks:
            return True
        return self.memory is not None and resident() > self.memory

    def retries_expired(self, since: float) -> bool:
        """Whether a runner that stops has tried since ``since`` (monotonic s) for too long."""
        return clock.monotonic() - since > self.retry_seconds


def resident() -> int:
    """The resident memory of this process in bytes; 0 where the system does not report it."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * mmap.PAGESIZE
