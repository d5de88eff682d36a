"""The primitives of a concurrent pool: what it is told about its kind of threads.

*Thread* is whatever runs beside the others in one process: a greenlet under gevent.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol


class Event(Protocol):
    """A flag that threads wait for, as ``threading.Event``."""

    def set(self) -> None:
        """Set the flag: all that wait go on."""

    def clear(self) -> None:
        """Clear the flag."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the flag is set; return whether it is, after ``timeout`` seconds at most."""


class PoolThread(Protocol):
    """A thread of the pool itself, which reads, settles or checks."""

    def link_exception(self, callback: Callable[[Any], object]) -> None:
        """Call this if the thread fails."""

    def join(self) -> object:
        """Wait until the thread has ended."""

    def kill(self) -> object:
        """End the thread where it waits; or leave it, if it ends with its process."""

    def get(self) -> object:
        """Return when the thread has ended.  Raises its error, if it failed."""


@dataclass(frozen=True, slots=True)
class Primitives:
    """The functions by which a pool runs others beside each other, and waits."""

    #: Start a thread of the pool.
    spawn: Callable[[Callable[[], None]], PoolThread]
    #: Start a thread that runs tasks; nobody waits for it.
    spawn_task: Callable[[Callable[[], None]], object]
    #: Sleep for so many seconds; 0 lets others run.
    sleep: Callable[[float], object]
    event: Callable[[], Event]
    #: The thread that calls.
    current: Callable[[], Any]


class PoolWatchdog(Protocol):
    """The watchdog of a pool: it hands messages back while one task keeps all others waiting.

    Messages that it has handed back are still in the prefetch buffer, behind the taken mark of the
    shared memory, until the reader removes both.
    """

    #: Whether it has stopped its checks, as no task runs.
    asleep: bool

    def start(self) -> None:
        """Start to check."""

    def stop(self) -> None:
        """Stop for good."""

    def wake(self) -> None:
        """Resume checks, as a task starts."""

    def beat_loop(self) -> None:
        """Record in a thread of the pool that threads run.  Never returns."""

    def has_lagged(self) -> bool:
        """Whether threads could not run for a while since this was last asked."""

    def reply_moment(self) -> int:
        """A moment (monotonic ns) no later than the arrival of a reply that was just read."""

    def remove_mark(self) -> None:
        """Drop the unstarted messages, which were handed back, and clear the taken mark."""
