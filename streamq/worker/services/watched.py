"""Watched schedules: those that a supervisor fires, as it knows them, and what it logs of them."""

import logging
import math
from dataclasses import dataclass

from streamq.broker.schedules import Attempt, Declared
from streamq.core.ticks import Timing
from streamq.errors import StreamqError
from streamq.host import clock
from streamq.producer.scheduling import Schedule, text_of

logger = logging.getLogger("streamq.worker")

#: Seconds until a tick that has failed is tried again: it is logged each time.
PAUSE = 10.0


@dataclass(slots=True)
class Watched:
    """A schedule that this supervisor fires; ``due`` is its next moment in ms, None for none.

    ``revision`` is that of its code, ``resumed`` the moment when it was last resumed in Redis.
    """

    schedule: Schedule
    timing: Timing
    revision: str
    due: int | None = None
    resumed: str = ""
    #: Whether Redis holds another declaration: then others fire it.
    stands_back: bool = False
    #: Not before that, in monotonic seconds: it has failed, or was not due.
    paused_until: float = -math.inf

    @property
    def name(self) -> str:
        """The name of the schedule."""
        return self.schedule.name

    def pass_over(self, moment: int) -> None:
        """Reckon its next moment where others have fired it until this one (ms)."""
        if self.due is not None:
            self.due = self.timing.due_after(self.due, moment)


def owed(each: Watched, due: int | None) -> int | None:
    """This moment, if one of the schedule is due then, else None."""
    try:
        return each.timing.owed(due)
    except Exception:  # a class of the user's, whose ticks tell; the worker starts
        return None


def note_failure(each: Watched, error: Exception) -> None:
    """Log that a schedule cannot run, and leave it alone for ``PAUSE``."""
    each.paused_until = clock.monotonic() + PAUSE
    known = isinstance(error, StreamqError) and error.__cause__ is None
    logger.error(
        "schedule %s cannot run, and is tried again: %s",
        *(each.name, error),
        exc_info=None if known else error,
    )


def log_declared(each: Watched, answer: Declared) -> None:
    """Log what became of a declaration, if it was not the usual."""
    when = text_of(each.schedule.when)
    match answer.word:
        case "changed":
            logger.info("schedule %s: %s replaces %s", each.name, when, answer.before)
        case "back":
            logger.warning(
                "schedule %s: %s replaces %s, which had replaced it: does an older version start?",
                *(each.name, when, answer.before),
            )
        case "older":
            logger.warning(
                "schedule %s: %s stays, of a higher schedule_revision; not %s",
                *(each.name, answer.before, when),
            )
        case "foreign":
            logger.warning("schedule %s: one of this name was added without code", each.name)


def log_tick(each: Watched, attempt: Attempt, word: str, said: str) -> None:
    """Log what became of a moment, if it was not the usual."""
    missed = f", {attempt.missed} missed" if attempt.missed else ""
    match word:
        case "done" if missed:
            logger.warning("schedule %s: sent %s%s", each.name, said, missed)
        case "done":
            logger.debug("schedule %s: sent %s", each.name, said)
        case "skipped":
            logger.warning("schedule %s: left out, the last run has not ended", each.name)
        case "missed" if missed:
            logger.warning("schedule %s: nothing sent%s", each.name, missed)
        case "refused":
            logger.error("schedule %s: %s cannot be sent: %s", each.name, attempt.id, said)
