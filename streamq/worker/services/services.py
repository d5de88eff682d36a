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
        #: Those of the list that have a descriptor; and the urgent one.
        self.listening: list[Service] = []
        self.renewal = Service()
        self.failures = FailureLog()
        #: Whether Redis could not be reached last time, and when to try again.
        self.unavailable = False
        self.retry_at = 0.0

    def add(self, *services: Service) -> None:
        """Add services to the end of the list."""
        self.listed += services
        self.listening += [each for each in services if type(each).fileno is not Service.fileno]
        self.renewal = next((each for each in services if each.urgent), self.renewal)

    # Running

    def begin(self) -> None:
        """Prepare each service, then show the worker in Redis.  Raises what they raise."""
        others = [service for service in self.listed if service is not self.renewal]
        for service in [*others, self.renewal]:
            service.deadline = clock.monotonic() + self.share
            service.begin()

    def run_due(self) -> None:
        """Run the services that are due; while Redis is unavailable, those that do not need it."""
        away = self.unavailable and clock.monotonic() < self.retry_at
        for service in self.listed:
            if (away and service.needs_redis) or clock.monotonic() < self.due(service):
                continue
            try:
                self.run(service)
                if not away:
                    self.renew_in_time()
            except BrokerUnavailable as error:
                away = True
                self.note_unavailable(error)
        self.unavailable = away

    def due(self, service: Service) -> float:
        """When to run a service; never, and logged, if it does not say so."""
        try:
            return float(service.due())
        except Exception as error:
            self.failures.log(service.due.__qualname__, error, "is tried again")
            return math.inf

    def renew_in_time(self) -> None:
        """Renew the leases if that is due: it does not wait for the others of the list."""
        if clock.monotonic() >= self.renewal.due():
            self.run(self.renewal)

    def run(self, service: Service) -> None:
        """Run a service that is due, unless it has failed just now.

        Raises BrokerUnavailable, which concerns all that need Redis.
        """
        now = clock.monotonic()
        if now < service.paused_until:
            return
        service.deadline = now + self.share
        if service is not self.renewal:
            service.deadline = min(service.deadline, self.renewal.due())
        try:
            service.run()
        except BrokerUnavailable:
            raise
        except Exception as error:
            service.paused_until = clock.monotonic() + PAUSE_AFTER_ERROR
            self.failures.log(service.run.__qualname__, error, "is tried again")

    def note_unavailable(self, error: BrokerUnavailable) -> None:
        """Log that Redis is unavailable, once until it is back, and tell each service."""
        if not self.unavailable:
            logger.warning("%s; trying again", str(error).partition("\n")[0])
        self.unavailable, self.retry_at = True, clock.monotonic() + self.retry_interval
        self.on_disconnect()

    def next_moment(self) -> float:
        """When to run next at the latest, in monotonic seconds; infinite if nothing is known."""
        moments = [self.retry_at] if self.unavailable else [math.inf]
        for service in self.listed:
            moment = self.due(service)
            if moment != EACH_ROUND and not (self.unavailable and service.needs_redis):
                moments.append(max(moment, service.paused_until))
        return min(moments)

    def waited_for(self) -> list[Service]:
        """The services with a descriptor that begins a round when it can be read."""
        ready = [each for each in self.listening if not (self.unavailable and each.needs_redis)]
        return [each for each in ready if self.listens(each)]

    def listens(self, service: Service) -> bool:
        """Whether a service has a descriptor now; not, and logged, if it does not say so."""
        try:
            return service.fileno() >= 0
        except Exception as error:
            self.failures.log(service.fileno.__qualname__, error, "is tried again")
            return False

    def finish(self) -> None:
        """End each service, the last of the list first.  Raises BrokerUnavailable, Refused."""
        for service in reversed(self.listed):
            service.deadline = math.inf
            try:
                service.finish()
            except (BrokerUnavailable, Refused):
                raise
            except Exception as error:  # it keeps no other from leaving Redis in order
                self.failures.log(service.finish.__qualname__, error, "is left")

    def have_ended(self) -> bool:
        """Whether no service has anything left beside this process."""
        return not [service for service in self.listed if not self.has_ended(service)]

    def has_ended(self, service: Service) -> bool:
        """Whether a service has nothing left; so it counts, and is logged, if it cannot say."""
        try:
            return service.has_ended()
        except Exception as error:
            self.failures.log(service.has_ended.__qualname__, error, "is left")
            return True

    def abort(self) -> None:
        """End what services have left beside this process."""
        for service in self.listed:
            self.attempt(service.abort)

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

    def on_stop(self, sig: str, how: str) -> None:
        """Tell each service of a request to stop."""
        for service in self.listed:
            self.attempt(service.on_stop, sig, how)

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
