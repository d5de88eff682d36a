"""The pool of a runner: it reads messages, runs their tasks and settles them.

A runner, its signal handlers and its supervisor know a pool by ``Pool`` alone.  What all kinds do
in the same way is here; what all kinds that run many tasks in one process do is in ``concurrent``.

    Pool                          what a runner calls
    BasePool                      the runner's parts, and calls repeated while Redis is away
      Solo             solo       one task at a time, in the main thread
      ConcurrentPool   concurrent many at a time: reader, settler, room, limits
                       gevent     makes one that runs its tasks in greenlets

``tests/integration/test_pools.py`` holds what every pool must do.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from streamq.core.delivery import Delivery
from streamq.core.outcome import Outcome
from streamq.errors import BrokerUnavailable, SoftTimeLimitExceeded, Stopped
from streamq.execution.executor import Executor
from streamq.execution.not_run import send_revoked
from streamq.host.forks import FORKS
from streamq.runner.lifetime import Lifetime
from streamq.runner.pauses import Pauses
from streamq.runner.prefetch import PrefetchBuffer, QueuesUnreadable
from streamq.runner.shared_memory import RunnerSlots
from streamq.runner.signals import STRAY, end_child
from streamq.transport.replies import Refused

#: Seconds that a read blocks at most: by then a dead connection is noticed.
BLOCK = 5.0
#: Seconds between attempts to reach Redis while stopping.
RETRY_WHEN_STOPPING = 0.1


class Pool(Protocol):
    """A pool as its runner knows it.

    ``run`` is called once, in the main thread.  All other methods are called by signal handlers:
    at any moment, also before ``run`` and inside of a task; they must not wait.
    """

    @property
    def sequential(self) -> bool:
        """Whether it runs one task at a time, in the main thread of its process."""

    def run(self) -> None:
        """Work until stopped, or in a burst until no message waits.

        Tasks that run may end, and are settled; what has not started goes back to Redis.  Raises
        ConsumerFenced if the lease was lost: then nothing is settled any more.
        """

    def stop(self) -> None:
        """Take no more messages.  May be called twice."""

    def soft_limit(self) -> None:
        """Raise the soft limit inside the task that is past it.  Only for a sequential pool."""

    def terminate(self) -> None:
        """Interrupt the tasks of which a stop is requested in the shared memory."""

    def give_up_reader_lock(self) -> None:
        """Stop waiting for the reader lock, which was broken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolParts:
    """The parts of a runner that its pool works with, and how it is to work.

    ``concurrency``: the number of tasks at a time.  ``burst``: end when no message waits.
    ``isolated``: each message is noted in Redis as the sole task before it runs, because it may
    kill this process.  ``thread_ended``: what a thread that has run tasks calls as it ends.
    """

    prefetch: PrefetchBuffer
    slots: RunnerSlots
    lifetime: Lifetime
    concurrency: int = 1
    burst: bool = False
    isolated: bool = False
    thread_ended: Callable[[], None] | None = None


class BasePool(ABC):
    """The part that all pools share: their parts, and calls repeated while Redis is away."""

    def __init__(self, parts: PoolParts) -> None:
        self.prefetch = parts.prefetch
        self.slots = parts.slots
        self.lifetime = parts.lifetime
        self.burst = parts.burst
        self.isolated = parts.isolated
        self.pauses = Pauses()
        self.stopping = False

    def persist(self, act: Callable[[], object]) -> bool:
        """Call ``act`` until it succeeds, with pauses while Redis is away or refuses.

        While stopping, give up after the retry time of ``Lifetime``.  Returns whether it succeeded.
        """
        while True:
            try:
                act()
            except (BrokerUnavailable, Refused) as error:
                self.pause(self.note_failure(error))
                if self.stopping and self.lifetime.retries_expired(self.pauses.since):
                    return False
            else:
                if self.pauses.failing:
                    self.redis_answered()
                return True

    def acknowledge(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Acknowledge messages before they run; return those that are still ours to run."""
        start = self.prefetch.request_start(deliveries)
        self.persist(partial(self.prefetch.await_start, start))
        if start.mine is None:
            self.prefetch.cancel_start(start)
        return start.mine or ()

    @abstractmethod
    def pause(self, seconds: float) -> None:
        """Sleep for ``seconds``; while stopping, ``RETRY_WHEN_STOPPING`` at most."""

    def note_failure(self, error: BrokerUnavailable | Refused) -> float:
        """Note that Redis cannot be reached, if so, and return the seconds to pause.

        A runner that cannot reach Redis for long is replaced: not one whose queues are unreadable.
        """
        answered = isinstance(error, Refused | QueuesUnreadable)
        self.slots.note_unreachable(not answered)
        return self.pauses.next(error)

    def redis_answered(self) -> None:
        """Note that Redis answers again: the supervisor goes on to renew our lease."""
        self.slots.note_unreachable(False)
        self.pauses.reset()


def run_message(executor: Executor, delivery: Delivery, forks: int) -> Outcome:
    """Run one message and return its outcome.

    ``forks`` is the number of this process.  A child that the task has forked and that returns
    from the task ends here: connections and slots are its parent's.
    """
    try:
        outcome = executor.run(delivery)
    except (SoftTimeLimitExceeded, Stopped) as error:  # outside the function: as it began or ended
        outcome = executor.interrupted(delivery, error)
        send_revoked(executor, outcome)  # if it was to be terminated
    except SystemExit as error:  # of a child that the task has forked
        end_child(error)
    if forks != FORKS.mark[0]:
        os._exit(STRAY)
    return outcome
