"""What Redis is still to be told of the messages that one runner holds."""

import logging
from collections import deque
from operator import attrgetter
from typing import Any

from streamq.broker.consumer import MOST_BYTES, MOST_SETTLED, Consumer, Settlement, Start
from streamq.core.delivery import Delivery
from streamq.core.outcome import Outcome
from streamq.runner.pauses import Aside

logger = logging.getLogger("streamq.worker")

FOLLOW = attrgetter("follow")


class Ledger:
    """How messages have ended and which are to start, until Redis has answered.

    Whoever runs tasks appends to ``finished`` and ``starts``; whoever speaks on the
    connection takes from them.  One settlement is on its way at a time, and is repeated as
    it is until it gets its answer.
    """

    def __init__(self, consumer: Consumer) -> None:
        self.consumer = consumer
        self.finished: deque[Outcome] = deque()
        self.starts: deque[Start] = deque()
        self.unanswered: Settlement | None = None
        self.aside = Aside()

    def next(self) -> Settlement | None:
        """What is to be settled now: first of all what got no answer."""
        if self.unanswered is None and self.aside.waiting:
            self.finished += self.aside.due()
        if self.unanswered is None and (self.finished or self.starts):
            ended = self.ended()
            follows = any(map(FOLLOW, ended))
            start = self.starts.popleft() if self.starts and not follows else None
            self.unanswered = self.consumer.settlement(ended, start, follows=follows)
        return self.unanswered

    def ended(self) -> list[Outcome]:
        """Outcomes for one settlement."""
        if len(self.finished) == 1:
            return [self.finished.popleft()]
        outcomes: list[Outcome] = []
        size = 0
        while self.finished and len(outcomes) < MOST_SETTLED and size < MOST_BYTES:
            outcome = self.finished.popleft()
            size += sum(map(len, outcome.fields))
            outcomes.append(outcome)
        return outcomes

    # Answers

    def heed(self, settlement: Settlement, reply: Any) -> None:
        """Take the answer to a settlement."""
        if isinstance(reply, Exception):
            raise reply
        self.unanswered = None
        digits, _, reason = reply.decode(errors="backslashreplace").partition(" ")
        if settlement.start is not None:
            settlement.start.answer(digits)
        if "0" in digits:
            say_refused(settlement, digits)
        if reason:
            pairs = zip(settlement.outcomes, digits, strict=False)
            self.aside.put([outcome for outcome, digit in pairs if digit == "-"], reason)
        elif self.aside.said:
            self.aside.forget()

    def forget(self, start: Start) -> None:
        """Start these messages no more, if Redis has not said that they may start."""
        if start in self.starts:
            self.starts.remove(start)
        elif self.unanswered is not None and self.unanswered.start is start:
            self.unanswered.start = None

    # What is in here

    def starting(self) -> list[Delivery]:
        """The messages that are to start when Redis has said so."""
        starts = [*self.starts]
        if self.unanswered is not None and self.unanswered.start is not None:
            starts.append(self.unanswered.start)
        return [delivery for start in starts for delivery in start.deliveries]

    def settling(self) -> list[Delivery]:
        """The messages that have ended."""
        unanswered = self.unanswered.outcomes if self.unanswered is not None else []
        outcomes = [*self.finished, *unanswered, *self.aside.outcomes]
        return [outcome.delivery for outcome in outcomes]

    @property
    def owes(self) -> bool:
        """Whether Redis is to be told something."""
        return bool(self.finished or self.starts or self.aside or self.unanswered)

    @property
    def settled(self) -> bool:
        """Whether Redis knows of every end that it can be told of now."""
        return not (self.finished or self.unanswered)


def say_refused(settlement: Settlement, digits: str) -> None:
    """Say which results came too late: others had the message by then."""
    for outcome, digit in zip(settlement.outcomes, digits, strict=False):
        if digit == "0":
            title = outcome.delivery.title
            logger.warning("%s was taken back while it ran; its result is dropped", title)
