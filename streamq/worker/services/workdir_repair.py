"""The repair of the work directory: programs that tidy up may remove its files."""

import math

from streamq.host import clock
from streamq.worker.services.service import EACH_ROUND, Service
from streamq.worker.workdir import WorkDir

#: Seconds between two looks at least; before a runner starts, there is one anyway.
INTERVAL = 1.0


class WorkDirRepair(Service):
    """The service that restores the files that the processes of this worker share."""

    needs_redis = False

    def __init__(self, workdir: WorkDir) -> None:
        self.workdir = workdir
        self.next = 0.0

    def due(self) -> float:
        """In the first round after ``INTERVAL``: it is not worth a round of its own."""
        return EACH_ROUND if clock.monotonic() >= self.next else math.inf

    def run(self) -> None:
        """Restore what is gone."""
        self.next = clock.monotonic() + INTERVAL
        self.workdir.repair()
