"""Task policies: how the messages of one task are run here, settled once."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from streamq.core.retry import RetryPolicy

T = TypeVar("T")


@dataclass(slots=True)
class Manner(Generic[T]):
    """How the messages of one task are run here, settled once; ``T`` is the task."""

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
