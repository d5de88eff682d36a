"""The quarantine runner is started while messages wait in quarantine."""

import math
from collections.abc import Collection, Sequence

from streamq.broker.leases import Renewal
from streamq.worker.services.service import Service
from streamq.worker.starts import RunnerStarts


class QuarantineRunner(Service):
    """The service that makes the quarantine runner due; ``queues`` are those of this worker."""

    needs_redis = False

    def __init__(self, starts: RunnerStarts, queues: Collection[str]) -> None:
        self.starts = starts
        self.queues = frozenset(queues)

    def request(self) -> None:
        """Have the runner started in this round, or the next."""
        self.moment = 0.0

    def on_renewal(self, news: Renewal) -> None:
        """Have it started if messages wait that no runner has."""
        if news.quarantine & self.queues:
            self.request()

    def on_notice(self, words: Sequence[str]) -> None:
        """Have it started if a message has gone to quarantine: ``quarantine QUEUE``."""
        match words:
            case ["quarantine", queue] if queue in self.queues:
                self.request()

    def run(self) -> None:
        """Make the runner due, unless it runs or the worker stops."""
        self.moment = math.inf
        self.starts.start_quarantine()
