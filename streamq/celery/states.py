"""States by Celery's names, for ``from streamq.celery import states``.

A task that waits, and an id that nobody knows, are PENDING here; ``streamq.State`` tells more.
"""

from typing import Any

#: The task waits, or nobody knows its id.
PENDING = "PENDING"
#: A worker has the task; streamq does not set it.
RECEIVED = "RECEIVED"
STARTED = "STARTED"
SUCCESS = "SUCCESS"
FAILURE = "FAILURE"
REVOKED = "REVOKED"
REJECTED = "REJECTED"
RETRY = "RETRY"
IGNORED = "IGNORED"

READY_STATES = frozenset({SUCCESS, FAILURE, REVOKED})
UNREADY_STATES = frozenset({PENDING, RECEIVED, STARTED, REJECTED, RETRY})
EXCEPTION_STATES = frozenset({RETRY, FAILURE, REVOKED})
PROPAGATE_STATES = frozenset({FAILURE, REVOKED})
ALL_STATES = READY_STATES | UNREADY_STATES

#: From the most to the least advanced; a state of one's own stands where None does.
PRECEDENCE = [SUCCESS, FAILURE, None, REVOKED, STARTED, RECEIVED, REJECTED, RETRY, PENDING]
NONE_PRECEDENCE = PRECEDENCE.index(None)
PRECEDENCE_LOOKUP = {name: place for place, name in enumerate(PRECEDENCE)}


def precedence(name: str) -> int:
    """The place of a state in PRECEDENCE: a lower number is more advanced."""
    return PRECEDENCE_LOOKUP.get(name, NONE_PRECEDENCE)


class state(str):
    """A state that can be compared: ``state(STARTED) > state(PENDING)``."""

    __slots__ = ()

    def __gt__(self, other: Any) -> bool:
        return precedence(self) < precedence(other)

    def __ge__(self, other: Any) -> bool:
        return precedence(self) <= precedence(other)

    def __lt__(self, other: Any) -> bool:
        return precedence(self) > precedence(other)

    def __le__(self, other: Any) -> bool:
        return precedence(self) >= precedence(other)
