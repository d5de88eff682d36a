"""The repair of the work directory: programs that tidy up may remove its files."""

from streamq.worker.services.service import EACH_ROUND, Service
from streamq.worker.workdir import WorkDir


class WorkDirRepair(Service):
    """The service that restores the files that the processes of this worker share."""

    needs_redis = False
    moment = EACH_ROUND

    def __init__(self, workdir: WorkDir) -> None:
        self.workdir = workdir

    def run(self) -> None:
        """Restore what is gone."""
        self.workdir.repair()
