"""Outcomes: how a run ended, and what follows its message."""

from collections.abc import Mapping

from streamq.core.delivery import Delivery

#: Words of an outcome for what follows its message.
BURY, EXPIRE, LATER, OFFER, REVOKED = b"bury", b"expire", b"later", b"offer", b"revoked"


class Outcome:
    """How a run ended: the state of the record, its fields, and what follows the message.

    ``follow`` are the words that settle.lua takes; with ``release`` the message goes back
    to its queue, after a pause if its task does that again and again.  ``expected`` says that
    the task failed in a way that it announces.
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
        """Why the message goes to the dead letters, if it does, or nobody else wants it."""
        if self.follow and self.follow[0] in (BURY, OFFER):
            return self.follow[-2]
        return b""

    @property
    def pause(self) -> float | None:
        """Seconds until the message runs again, where that is known in seconds."""
        if self.follow and self.follow[0] == LATER and self.follow[1].startswith(b"+"):
            return int(self.follow[1]) / 1000
        if self.release:
            return self.delivery.rejected_for
        return None


def millis(seconds: float) -> bytes:
    return b"%d" % round(seconds * 1000)


def flat(fields: Mapping[str, bytes], **more: bytes) -> tuple[bytes, ...]:
    """Names and values in a row, as the settle script takes them."""
    both = {**fields, **more}
    return tuple(part for name, value in both.items() for part in (name.encode(), value))
