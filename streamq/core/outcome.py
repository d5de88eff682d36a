"""Outcomes: how a run ended, and what follows its message.

A follow-up is a value.  ``broker/followups.py`` writes it for follow.lua, which carries it out in
the act that acknowledges the message.
"""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field

from streamq.core.delivery import Delivery


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLater:
    """Follow-up: the message runs again.

    It does so after ``pause`` seconds, or at ``moment`` (ms since 1970) if that is given; in
    ``queue`` (empty for its own), which is declared if it is missing and ``declare`` is set; with
    the fields ``changes`` in place of its own.
    """

    pause: float = 0.0
    moment: int | None = None
    queue: bytes = b""
    declare: bool = False
    changes: Mapping[bytes, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SendToDeadLetters:
    """Follow-up: the message goes to the dead-letter exchange, else to the dead letters."""

    reason: bytes
    error: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferElsewhere:
    """Follow-up: the message runs again after ``pause`` seconds, for workers that have its task.

    ``refusals`` is how often it was refused, now included.  With ``otherwise`` it is offered
    only if another worker is known to have the task; else it becomes a dead letter.
    """

    pause: float
    refusals: int
    otherwise: SendToDeadLetters | None = None


@dataclass(frozen=True, slots=True)
class Expire:
    """Follow-up: the message has expired; it goes to the dead-letter exchange, if there is one."""


@dataclass(frozen=True, slots=True)
class RemoveRevocation:
    """Follow-up: the revocation of the task is removed, because its message has been found."""


FollowUp = RunLater | OfferElsewhere | SendToDeadLetters | Expire | RemoveRevocation


@dataclass(slots=True, eq=False)
class Outcome:
    """The outcome of a run: the record's state and fields, and ``then``, the follow-up if any.

    With ``release`` the message goes back to its queue instead, after a pause if its task keeps
    rejecting it.  ``expires`` is how long the record is kept (ms).  ``expected`` says that the
    task failed with an exception that its option ``throws`` names.
    """

    delivery: Delivery
    state: bytes
    fields: tuple[bytes, ...]
    _: KW_ONLY
    expires: bytes = b"0"
    then: FollowUp | None = None
    release: bool = False
    expected: bool = False

    @property
    def reason(self) -> bytes:
        """Why the message becomes a dead letter, now or if no other worker takes it; else empty."""
        match self.then:
            case SendToDeadLetters(reason) | OfferElsewhere(otherwise=SendToDeadLetters(reason)):
                return reason
        return b""

    @property
    def pause(self) -> float | None:
        """Seconds until the message runs again; None if it does not, or at a fixed time."""
        match self.then:
            case RunLater(pause=pause, moment=None) | OfferElsewhere(pause=pause, otherwise=None):
                return pause
        return self.delivery.rejection_pause if self.release else None


def millis(seconds: float) -> bytes:
    """Write seconds as milliseconds."""
    return b"%d" % round(seconds * 1000)


def flat(fields: Mapping[str, bytes], **more: bytes) -> tuple[bytes, ...]:
    """Names and values in one row, as the settle script takes them."""
    both = {**fields, **more}
    return tuple(part for name, value in both.items() for part in (name.encode(), value))
