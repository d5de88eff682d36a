"""Follow-ups on the wire: the words by which follow.lua learns what follows a message.

The one place that knows them; the script's head says what each does.
"""

from itertools import chain

from streamq.core.message import from_now
from streamq.core.outcome import (
    Expire,
    FollowUp,
    OfferElsewhere,
    RemoveRevocation,
    RunLater,
    SendToDeadLetters,
)


def words_of(then: FollowUp | None) -> tuple[bytes, ...]:
    """Write a follow-up as words for follow.lua; none if nothing follows."""
    match then:
        case None:
            return ()
        case RunLater(queue=queue, changes=changes):
            target = b":" + queue if then.declare else queue
            return (b"later", due(then), target, *chain.from_iterable(changes.items()))
        case OfferElsewhere():
            number = b"%d" % then.refusals
            if then.otherwise is None:
                return (b"later", due(then), b"", b"refusals", number)
            return (b"offer", due(then), number, then.otherwise.reason, then.otherwise.error)
        case SendToDeadLetters(reason, error):
            return (b"dead_letter", reason, error)
        case Expire():
            return (b"expire", b"expired", b"it expired")
        case RemoveRevocation():
            return (b"revoked",)


def due(then: RunLater | OfferElsewhere) -> bytes:
    """The moment of the next run: +MS from now, or MS since 1970."""
    if isinstance(then, RunLater) and then.moment is not None:
        return b"%d" % then.moment
    return from_now(then.pause).encode()
