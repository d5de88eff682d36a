"""A service: one duty of a supervisor, such as renewing leases or moving due messages.

To add one, write a class that extends `Service` in a file here, and name it in the list of
``make_services`` in ``streamq/worker/boot.py``.  Nothing else knows it.  For example, a duty that
is done every ten seconds::

    class Cleaner(Service):
        \"""The service that deletes what nobody needs any more.\"""

        moment = 0.0  # at once

        def __init__(self, leftovers: Leftovers) -> None:
            self.leftovers = leftovers

        def run(self) -> None:
            for part in self.leftovers.parts():
                self.leftovers.delete(part)
                if self.time_is_up():
                    return  # it is still due, and goes on in the next round
            self.moment = clock.monotonic() + 10

Rules, which keep the leases of the runners alive:

* All services run in one thread.  While one runs, no lease is renewed, no signal is handled and
  no runner that has ended is noticed.  So ``run`` works in portions, mostly one call to Redis
  each.  After each ``time_is_up()`` says whether to return; what is left is done in the next run,
  and a renewal that is due comes before it.  The first portion is always done.
* ``on_renewal``, ``on_notice``, ``on_exit``, ``on_stop`` and ``on_disconnect`` take note and
  return: they call neither Redis nor anything else that may wait.
* An error of one service is logged, the same at most once a minute, and stops no other; it runs
  again after ``PAUSE_AFTER_ERROR``.  BrokerUnavailable concerns all that need Redis: they are
  left out until ``retry_interval`` later.
"""

import math
from collections.abc import Sequence
from typing import ClassVar

from streamq.broker.leases import Renewal
from streamq.host import clock
from streamq.worker.processes import RunnerExit

#: Seconds between two rounds of services at most: they look at what the runners are running.
CHECK = 0.2
#: Seconds before a service that has failed runs again.
PAUSE_AFTER_ERROR = 0.2
#: The moment of a service that runs in each round, without being waited for.
EACH_ROUND = -math.inf


class Service:
    """One duty of a supervisor; each method does nothing unless a service has a use for it."""

    #: Whether it calls Redis when it runs; if so, it is left out while Redis is unavailable.
    needs_redis: ClassVar[bool] = True
    #: Whether it also runs between two others as soon as it is due: renewal does, and no other.
    urgent: ClassVar[bool] = False

    #: When to run next, in monotonic seconds; infinite: not before something happens.
    moment: float = math.inf
    #: Set by the list for each run: until when it may go on, in monotonic seconds.
    deadline: float = math.inf
    #: Set by the list after an error: when to run again at the earliest, in monotonic seconds.
    paused_until: float = -math.inf

    def due(self) -> float:
        """When to run next, in monotonic seconds, or ``EACH_ROUND``; asked often."""
        return self.moment

    def run(self) -> None:
        """Do what is due, for as long as there is time.  May raise any error."""

    def time_is_up(self) -> bool:
        """Whether to return after this portion: a renewal, or another service, is waiting."""
        return clock.monotonic() >= self.deadline

    def begin(self) -> None:
        """Prepare, once, before the worker shows itself; again if Redis was unavailable."""

    def on_renewal(self, news: Renewal) -> None:
        """Take note of what the renewal of the leases has brought."""

    def on_notice(self, words: Sequence[str]) -> None:
        """Take note of a notice, if it is for this service: its first word says so."""

    def on_exit(self, ended: RunnerExit, *, stopped: bool) -> None:
        """Take note that a runner has ended; ``stopped``: killed to stop the worker."""

    def on_stop(self, sig: str, how: str) -> None:
        """Take note of a request to stop, by this signal: "Warm", or "Cold" to stop now."""

    def on_disconnect(self) -> None:
        """Take note that Redis could not be reached, or has refused to renew the leases."""

    def finish(self) -> None:
        """Leave Redis in order: the worker ends.  Called again after BrokerUnavailable, Refused."""

    def has_ended(self) -> bool:
        """Whether nothing of it is left beside this process, which leaves; asked until then."""
        return True

    def abort(self) -> None:
        """End what is left beside this process: there is no more time."""

    def fileno(self) -> int:
        """The descriptor that begins a round when it can be read; -1 if there is none."""
        return -1
