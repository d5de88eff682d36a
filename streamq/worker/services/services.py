"""The services of a supervisor together, and the log of those that fail."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from streamq.broker.leases import Leases
from streamq.broker.notifier import Notifier
from streamq.broker.recovery import Recovery
from streamq.errors import BrokerUnavailable
from streamq.host import clock
from streamq.transport.replies import Refused
from streamq.worker.services.due_messages import DueMessages
from streamq.worker.services.hard_limits import HardLimits
from streamq.worker.services.heartbeat import Heartbeat
from streamq.worker.services.revocations import Revocations
from streamq.worker.services.stuck_runners import StuckRunners
from streamq.worker.services.takeover import Takeover

logger = logging.getLogger("streamq.worker")

#: Seconds after which a service that fails in the same way is logged again.
LOG_AGAIN = 60.0


@dataclass(slots=True)
class Services:
    """The services of one supervisor, and the connections that they share."""

    leases: Leases
    recovery: Recovery
    heartbeat: Heartbeat
    notifier: Notifier
    takeover: Takeover
    due_messages: DueMessages
    hard_limits: HardLimits
    revocations: Revocations
    stuck_runners: StuckRunners


class FailureLog:
    """The log of services that failed: the same failure is not logged in each round."""

    def __init__(self) -> None:
        #: By the name of a service: what was logged last, and when.
        self.logged: dict[str, tuple[str, float]] = {}

    def attempt(self, service: Callable[..., None], *arguments: object) -> None:
        """Call a service; an error of one, such as odd data in Redis, must not stop the others.

        Raises BrokerUnavailable, which concerns all of them.
        """
        try:
            service(*arguments)
        except BrokerUnavailable:
            raise
        except Exception as error:
            self.log(service.__qualname__, error)

    def log(self, service: str, error: Exception) -> None:
        """Log that a service failed, unless the same was logged a short while ago."""
        unavailable = isinstance(error, BrokerUnavailable)  # with advice on further lines
        text = str(error).partition("\n")[0] if unavailable else str(error)
        now = clock.monotonic()
        before, moment = self.logged.get(service, ("", 0.0))
        if text != before or now - moment > LOG_AGAIN:
            self.logged[service] = (text, now)
            # Any other error may be a mistake of this program: its traceback is logged.
            known = unavailable or isinstance(error, Refused)
            logger.error(
                "a service of the supervisor failed, and is tried again: %s: %s",
                *(service, text),
                exc_info=None if known else error,
            )
