"""Task policies: how a worker runs the messages of one task."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from streamq.core.retry import RetryPolicy

T = TypeVar("T")


@dataclass(slots=True)
class TaskPolicy(Generic[T]):
    """How a worker runs the messages of one task, decided once; ``T`` is the task's type.

    ``early`` is acknowledging before the run, ``keep`` storing the result, ``expires`` how long
    (ms); ``hard`` and ``soft`` are the time limits in seconds, 0 for none.
    """

    task: T
    early: bool
    keep: bool
    track_started: bool
    expires: bytes
    hard: float
    soft: float
    retry: RetryPolicy
    #: Dotted names of the exceptions that its task is expected to raise.
    throws: frozenset[str] = frozenset()
    #: Called with the running task, it runs the function through layers of middleware, or by the
    #: ``__call__`` of a class of the user's; None where there is neither.
    around: Callable[[Any], Any] | None = None
    #: Whether the class of the task has hooks that are called around a run.
    hooks: bool = False
