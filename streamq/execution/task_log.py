"""The log of a runner's tasks: every failure, and at most 20 lines a second of the rest."""

import logging

from streamq.core.log_limit import LogLimit
from streamq.core.outcome import Expire, OfferElsewhere, Outcome, RemoveRevocation, RunLater
from streamq.core.text import visible
from streamq.host import clock

logger = logging.getLogger("streamq.worker")

#: Lines a second about tasks that succeeded, and about rejected messages; more are counted.
MOST_LINES = 20
#: The first field of every failure, also of one that stores no result.
FAILED = b"error_type"
#: The dead-letter reason of messages whose signature is not valid.
BAD_SIGNATURE = b"signature"


class LineLimit:
    """A limit for lines of one kind per second; ``rest`` is the line with the skipped count."""

    def __init__(self, level: int, rest: str) -> None:
        self.level = level
        self.rest = rest
        self.second = 0
        self.lines = 0
        self.skipped = 0

    def room(self) -> bool:
        """Whether one more line may be logged in this second; if not, it is counted."""
        second = int(clock.monotonic())
        if second != self.second:
            self.flush()
            self.second, self.lines = second, 0
        self.lines += 1
        if self.lines <= MOST_LINES:
            return True
        self.skipped += 1
        return False

    def flush(self) -> None:
        """Log how many lines were skipped."""
        if self.skipped:
            logger.log(self.level, self.rest, self.skipped)
            self.skipped = 0


class TaskLog:
    """The log of how tasks ended."""

    def __init__(self) -> None:
        self.enabled = logger.isEnabledFor(logging.INFO)
        self.succeeded = LineLimit(logging.INFO, "… and %d more tasks ok")
        self.rejected = LineLimit(logging.WARNING, "… and %d more rejected")
        self.bad_signatures = LogLimit(1.0)

    def ended(self, outcome: Outcome) -> None:
        """Log how a task ended, within the limits."""
        fields = outcome.fields
        if outcome.then or outcome.release or (fields and fields[0] == FAILED):
            self.refused(outcome) if outcome.reason == BAD_SIGNATURE else self.failed(outcome)
        elif self.enabled and self.succeeded.room():
            logger.info("%s ok%s", outcome.delivery.title, runtime(outcome))

    def refused(self, outcome: Outcome) -> None:
        """Log a message without a valid signature, once a second: an attacker may send many."""
        if self.bad_signatures.due(clock.monotonic()):
            self.failed(outcome)
            if skipped := self.bad_signatures.take_skipped():
                logger.error("… and %d more before it, because of their signatures", skipped)

    def flush(self) -> None:
        """Log how many lines were skipped in this second."""
        self.succeeded.flush()
        self.rejected.flush()

    def failed(self, outcome: Outcome) -> None:
        """Log any outcome but a plain success: failure, retry, rejection, dead letter."""
        fields = dict(zip(outcome.fields[::2], outcome.fields[1::2], strict=True))
        error = fields.get(b"error", b"").decode(errors="replace")
        kind = fields.get(b"error_type", b"").decode(errors="replace")
        then, title = outcome.then, outcome.delivery.title
        pause = "" if outcome.pause is None else f" in {outcome.pause:g} s"
        if isinstance(then, RunLater):
            logger.info("%s again%s: %s: %s", title, pause, kind, error)
        elif isinstance(then, OfferElsewhere) and then.otherwise is None:
            logger.warning("%s: no such task here; offered again%s", title, pause)
        elif isinstance(then, OfferElsewhere):
            logger.error(
                "%s: no such task here; a dead letter, unless another worker has it\n%s",
                *(title, visible(error)),
            )
        elif isinstance(then, Expire | RemoveRevocation):
            why = fields.get(b"reason", b"").decode(errors="replace")
            logger.info("%s revoked: %s", title, why)
        elif outcome.release:
            if self.rejected.room():
                pause = pause if outcome.pause else ""
                logger.warning("%s rejected; it goes back to its queue%s", title, pause)
        elif outcome.reason:
            why = outcome.reason.decode(errors="replace")
            logger.error("%s went to the dead letters: %s\n%s", title, why, visible(error))
        elif outcome.expected:
            logger.info("%s failed as expected: %s", title, visible(f"{kind}: {error}"))
        else:
            trace = fields.get(b"traceback", b"").decode(errors="replace").rstrip()
            text = f"{kind}: {error}"
            if trace != text:  # they are equal if no code of the task raised it
                text = f"{text}\n{trace}"
            logger.error("%s failed: %s", title, visible(text))


def runtime(outcome: Outcome) -> str:
    """Write the runtime of the task; empty if it is unknown."""
    fields = outcome.fields
    for place in range(0, len(fields), 2):
        if fields[place] == b"runtime":
            seconds = float(fields[place + 1])
            if seconds < 0.001:
                return f" in {seconds * 1e6:.0f} µs"
            return f" in {seconds * 1000:.1f} ms" if seconds < 1 else f" in {seconds:.2f} s"
    return ""
