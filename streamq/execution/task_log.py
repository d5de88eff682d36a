"""What a runner says about its tasks: every failure, and of the rest as much as can be read."""

import logging

from streamq.core.outcome import EXPIRE, LATER, OFFER, REVOKED, Outcome
from streamq.core.text import visible
from streamq.host import clock
from streamq.serialization.signing import Seldom

logger = logging.getLogger("streamq.worker")

#: Lines a second about tasks that went well, or have rejected their messages; the rest are
#: counted.
MOST_LINES = 20
#: How the fields of a failure begin, also of one that leaves no record.
FAILED = b"error_type"
#: Why messages go to the dead letters whose signature does not fit.
FORGED = b"signature"


class Bounded:
    """Lines of one kind, so many a second; ``rest`` tells how many more there were."""

    def __init__(self, level: int, rest: str) -> None:
        self.level = level
        self.rest = rest
        self.second = 0
        self.lines = 0
        self.unsaid = 0

    def room(self) -> bool:
        """Whether one more line can be read in this second."""
        second = int(clock.monotonic())
        if second != self.second:
            self.flush()
            self.second, self.lines = second, 0
        self.lines += 1
        if self.lines <= MOST_LINES:
            return True
        self.unsaid += 1
        return False

    def flush(self) -> None:
        """Say how many lines were left out."""
        if self.unsaid:
            logger.log(self.level, self.rest, self.unsaid)
            self.unsaid = 0


class TaskLog:
    """Logs how tasks ended."""

    def __init__(self) -> None:
        self.enabled = logger.isEnabledFor(logging.INFO)
        self.well = Bounded(logging.INFO, "… and %d more tasks ok")
        self.rejected = Bounded(logging.WARNING, "… and %d more rejected")
        self.refused = Seldom(1.0)

    def ended(self, outcome: Outcome) -> None:
        """Say how a task ended, unless too much is being said already."""
        fields = outcome.fields
        if outcome.follow or outcome.release or (fields and fields[0] == FAILED):
            self.refuse(outcome) if outcome.reason == FORGED else self.failed(outcome)
        elif self.enabled and self.well.room():
            logger.info("%s ok%s", outcome.delivery.title, runtime(outcome))

    def refuse(self, outcome: Outcome) -> None:
        """Say that a message was not signed as it must be; whoever forges may send many."""
        if self.refused.due(clock.monotonic()):
            self.failed(outcome)
            if missed := self.refused.missed():
                logger.error("… and %d more before it, because of their signatures", missed)

    def flush(self) -> None:
        """Say how many tasks nothing was said about."""
        self.well.flush()
        self.rejected.flush()

    def failed(self, outcome: Outcome) -> None:
        fields = dict(zip(outcome.fields[::2], outcome.fields[1::2], strict=True))
        error = fields.get(b"error", b"").decode(errors="replace")
        kind = fields.get(b"error_type", b"").decode(errors="replace")
        words, title = outcome.follow, outcome.delivery.title
        if words and words[0] == LATER:
            pause = "" if outcome.pause is None else f" in {outcome.pause:g} s"
            if words[3] == b"refusals":
                logger.warning("%s: no such task here; offered again%s", title, pause)
            else:
                logger.info("%s again%s: %s: %s", title, pause, kind, error)
        elif words and words[0] == OFFER:
            logger.error(
                "%s: no such task here; a dead letter, unless another worker has it\n%s",
                *(title, visible(error)),
            )
        elif words and words[0] in (EXPIRE, REVOKED):
            why = fields.get(b"reason", b"").decode(errors="replace")
            logger.info("%s revoked: %s", title, why)
        elif outcome.release:
            if self.rejected.room():
                pause = f" in {outcome.pause:g} s" if outcome.pause else ""
                logger.warning("%s rejected; it goes back to its queue%s", title, pause)
        elif outcome.reason:
            why = outcome.reason.decode(errors="replace")
            logger.error("%s went to the dead letters: %s\n%s", title, why, visible(error))
        elif outcome.expected:
            logger.info("%s failed, as it may: %s", title, visible(f"{kind}: {error}"))
        else:
            trace = fields.get(b"traceback", b"").decode(errors="replace").rstrip()
            told = f"{kind}: {error}"
            if trace != told:  # which it is where no code of the task has raised it
                told = f"{told}\n{trace}"
            logger.error("%s failed: %s", title, visible(told))


def runtime(outcome: Outcome) -> str:
    """How long the task ran, if that is known."""
    fields = outcome.fields
    for place in range(0, len(fields), 2):
        if fields[place] == b"runtime":
            seconds = float(fields[place + 1])
            if seconds < 0.001:
                return f" in {seconds * 1e6:.0f} µs"
            return f" in {seconds * 1000:.1f} ms" if seconds < 1 else f" in {seconds:.2f} s"
    return ""
