"""The services of a supervisor as a list: which run now, and who learns what has happened.

A round runs the services that are due, in the order of the list.  Leases are renewed every third
of a lease; a renewal that is due comes right after the service that is running.  Each service may
run for a sixth of a lease, or until the next renewal is due if that comes first; then it is asked
to stop.  So one that is late delays a renewal by the portion of work that it has begun: mostly one
call to Redis, at most three that belong together, and 0.5 s if a process is suspended for them.
That is less than a sixth of a lease of 15 s, while Redis answers within 0.6 s.

No call waits for its answer for more than 2 s, or a third of a lease where that is shorter, but at
least 0.5 s.  Without an answer the round ends: it is Redis that is late then, and the next round,
``retry_interval`` later, begins with the renewal.
"""

import logging
import math
from collections.abc import Callable, Sequence

from streamq.broker.leases import Renewal
from streamq.errors import BrokerUnavailable
from streamq.host import clock
from streamq.transport.replies import Refused
from streamq.worker.processes import RunnerExit
from streamq.worker.services.service import EACH_ROUND, PAUSE_AFTER_ERROR, Service

logger = logging.getLogger("streamq.worker")

#: The part of a lease for which one service runs without a break.
PART = 1 / 6
#: Seconds between tries to reach Redis; less where leases are short.
RETRY = 1.0
#: Seconds after which a service that fails in the same way is logged again.
LOG_AGAIN = 60.0


class Services:
    """The services of one supervisor, in the order in which they run."""

    def __init__(self, lease: float) -> None:
        self.lease = lease
        self.share = lease * PART
        self.retry_interval = min(RETRY, lease / 3)
        self.listed: list[Service] = []
        self.urgent: list[Service] = []
        self.failures = FailureLog()
        #: Whether Redis could not be reached last time, and when to try again.
        self.unavailable = False
        self.retry_at = 0.0

    def add(self, *services: Service) -> None:
        """Add services to the end of the list."""
        self.listed += services
        self.urgent += [service for service in services if service.urgent]

    # Running

    def begin(self) -> None:
        """Prepare each service, then show the worker in Redis.  Raises what they raise."""
        others = [service for service in self.listed if not service.urgent]
        for service in [*others, *self.urgent]:
            self.call_until(clock.monotonic() + self.share, service, service.begin)

    def run_due(self) -> None:
        """Run the services that are due; while Redis is unavailable, those that do not need it."""
        away = self.unavailable and clock.monotonic() < self.retry_at
        for service in self.listed:
            if away and service.needs_redis:
                continue
            try:
                ran = self.run_if_due(service)
                if ran and not away:
                    self.run_urgent()
            except BrokerUnavailable as error:
                away = True
                self.note_unavailable(error)
        self.unavailable = away

    def run_urgent(self) -> None:
        """Run the urgent services that are due: they do not wait for the others of the list."""
        for service in self.urgent:
            self.run_if_due(service)

    def run_if_due(self, service: Service) -> bool:
        """Run this service if it is due; return whether it was.

        Raises BrokerUnavailable, which concerns all that need Redis.
        """
        now = clock.monotonic()
        if now < self.moment_of(service):
            return False
        service.paused_until = -math.inf
        urgent = [self.moment_of(each) for each in self.urgent if each is not service]
        try:
            self.call_until(min([now + self.share, *urgent]), service, service.run)
        except BrokerUnavailable:
            raise
        except Exception as error:
            service.paused_until = clock.monotonic() + PAUSE_AFTER_ERROR
            self.failures.log(service.run.__qualname__, error, "is tried again")
        return True

    def call_until(self, deadline: float, service: Service, act: Callable[[], None]) -> None:
        """Call this method of a service, which is asked to stop at the deadline."""
        service.deadline = deadline
        try:
            act()
        finally:
            service.deadline = math.inf

    def moment_of(self, service: Service) -> float:
        """When to run this service next: not too soon after an error."""
        return max(service.due(), service.paused_until)

    def note_unavailable(self, error: BrokerUnavailable) -> None:
        """Log that Redis is unavailable, once until it is back, and tell each service."""
        if not self.unavailable:
            logger.warning("%s; trying again", str(error).partition("\n")[0])
        self.unavailable, self.retry_at = True, clock.monotonic() + self.retry_interval
        self.on_disconnect()

    def next_moment(self) -> float:
        """When to run next at the latest, in monotonic seconds; infinite if nothing is known."""
        moments = [self.moment_of(service) for service in self.ready()]
        if self.unavailable:
            moments.append(self.retry_at)
        return min((each for each in moments if each != EACH_ROUND), default=math.inf)

    def waited_for(self) -> list[Service]:
        """The services with a descriptor that begins a round when it can be read."""
        return [service for service in self.ready() if service.fileno() >= 0]

    def ready(self) -> list[Service]:
        """The services that run when they are due: not those that need Redis while it is away."""
        return [each for each in self.listed if not (self.unavailable and each.needs_redis)]

    def finish(self) -> None:
        """End each service, the last of the list first.  Raises BrokerUnavailable, Refused."""
        for service in reversed(self.listed):
            try:
                service.finish()
            except (BrokerUnavailable, Refused):
                raise
            except Exception as error:  # it keeps no other from leaving Redis in order
                self.failures.log(service.finish.__qualname__, error, "is left")

    # News

    def on_renewal(self, news: Renewal) -> None:
        """Tell each service what a renewal has brought."""
        for service in self.listed:
            self.attempt(service.on_renewal, news)

    def on_notice(self, words: Sequence[str]) -> None:
        """Tell each service of a notice."""
        for service in self.listed:
            self.attempt(service.on_notice, words)

    def on_exit(self, ended: RunnerExit, *, stopped: bool) -> None:
        """Tell each service that a runner has ended; ``stopped``: killed to stop the worker."""
        for service in self.listed:
            self.attempt(service.on_exit, ended, stopped=stopped)

    def on_disconnect(self) -> None:
        """Tell each service that Redis could not be reached, or has refused a renewal."""
        for service in self.listed:
            self.attempt(service.on_disconnect)

    def attempt(self, act: Callable[..., None], *arguments: object, **options: object) -> None:
        """Call this; an error of one service, such as odd data in Redis, stops no other."""
        try:
            act(*arguments, **options)
        except Exception as error:
            self.failures.log(act.__qualname__, error, "goes on")


class FailureLog:
    """The log of services that failed: the same failure is not logged in each round."""

    def __init__(self) -> None:
        #: By the method that failed: what was logged last, and when.
        self.logged: dict[str, tuple[str, float]] = {}

    def log(self, method: str, error: Exception, then: str) -> None:
        """Log that a method of a service failed, unless the same was logged a short while ago.

        ``then`` says what is done about it.
        """
        unavailable = isinstance(error, BrokerUnavailable)  # with advice on further lines
        text = str(error).partition("\n")[0] if unavailable else str(error)
        now = clock.monotonic()
        before, moment = self.logged.get(method, ("", 0.0))
        if text != before or now - moment > LOG_AGAIN:
            self.logged[method] = (text, now)
            # Any other error may be a mistake of this program: its traceback is logged.
            known = unavailable or isinstance(error, Refused)
            logger.error(
                "a service of the supervisor failed, and %s: %s: %s",
                *(then, method, text),
                exc_info=None if known else error,
            )
