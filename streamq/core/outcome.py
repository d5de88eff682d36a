"""Outcomes: how a run ended, and what follows its message."""

from collections.abc import Mapping

from streamq.core.delivery import Delivery

#: First words of ``Outcome.follow``, as follow.lua takes them.
DEAD_LETTER, EXPIRE, LATER, OFFER, REVOKED = (
    b"dead_letter",
    b"expire",
    b"later",
    b"offer",
    b"revoked",
)


class Outcome:
    """The outcome of a run: the record's state and fields, and the follow-up of the message.

    ``follow`` is the follow-up, in the words that follow.lua takes.  With ``release`` the
    message goes back to its queue, after a pause if its task keeps rejecting it.  ``expires``
    is how long the record is kept (ms).  ``expected`` says that the task failed with an
    exception that its option ``throws`` names.
    """

    __slots__ = ("delivery", "expected", "expires", "fields", "follow", "release", "state")

    def __init__(
        self,
        delivery: Delivery,
        state: bytes,
        fields: tuple[bytes, ...],
        *,
        expires: bytes = b"0",
        follow: tuple[bytes, ...] = (),
        release: bool = False,
        expected: bool = False,
    ) -> None:
        self.delivery = delivery
        self.state = state
        self.fields = fields
        self.expires = expires
        self.follow = follow
        self.release = release
        self.expected = expected

    @property
    def reason(self) -> bytes:
        """Why the message becomes a dead letter, now or if no other worker takes it; else empty."""
        if self.follow and self.follow[0] in (DEAD_LETTER, OFFER):
            return self.follow[-2]
        return b""

    @property
    def pause(self) -> float | None:
        """Seconds until the message runs again; None if it does not, or at a fixed time."""
        if self.follow and self.follow[0] == LATER and self.follow[1].startswith(b"+"):
            return int(self.follow[1]) / 1000
        if self.release:
            return self.delivery.rejection_pause
        return None


def millis(seconds: float) -> bytes:
    """Write seconds as milliseconds."""
    return b"%d" % round(seconds * 1000)


def flat(fields: Mapping[str, bytes], **more: bytes) -> tuple[bytes, ...]:
    """Names and values in one row, as the settle script takes them."""
    both = {**fields, **more}
    return tuple(part for name, value in both.items() for part in (name.encode(), value))
