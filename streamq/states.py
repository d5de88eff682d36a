"""The states of a task, as its record shows them.

    SCHEDULED ──► QUEUED ──► STARTED ◄──► RETRY
        └────────────┴──────────┴───────────┴──► SUCCESS | FAILURE | REVOKED

A short task may end without ever being STARTED.  One that is handed back or recovered
is QUEUED again.  Final states are written once and never overwritten, except that a
retried dead letter begins a new generation, QUEUED again.  ``update_state`` may set any other
state while a task runs.
"""

from enum import StrEnum


class State(StrEnum):
    """A state that streamq itself sets."""

    UNKNOWN = "UNKNOWN"  # no record: never accepted, forgotten or expired
    QUEUED = "QUEUED"
    SCHEDULED = "SCHEDULED"
    STARTED = "STARTED"
    RETRY = "RETRY"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    REVOKED = "REVOKED"


FINAL = frozenset({State.SUCCESS, State.FAILURE, State.REVOKED})

#: From the least to the most advanced; a custom state counts as running.
PROGRESS = (State.UNKNOWN, State.SCHEDULED, State.QUEUED, State.RETRY, State.STARTED)


def combined(states: list[str]) -> str:
    """Combine the states of the copies of one message.

    FAILURE if any copy failed, SUCCESS when all succeeded, else the least advanced.
    """
    if State.FAILURE in states:
        return State.FAILURE
    if all(state == State.SUCCESS for state in states):
        return State.SUCCESS
    waiting = [state for state in states if state not in FINAL]
    if not waiting:
        return State.REVOKED
    return min(waiting, key=lambda s: PROGRESS.index(State(s)) if s in PROGRESS else len(PROGRESS))
