"""The settlement queue: outcomes and starts that Redis has not confirmed yet."""

import logging
from collections import deque
from operator import attrgetter
from typing import Any

from streamq.broker.consumer import MOST_BYTES, MOST_SETTLED, Consumer, Settlement, Start
from streamq.core.delivery import Delivery
from streamq.core.outcome import Outcome
from streamq.runner.parked_outcomes import ParkedOutcomes

logger = logging.getLogger("streamq.worker")

THEN = attrgetter("then")


class SettlementQueue:
    """The outcomes of messages, and messages to acknowledge early, until Redis has answered.

    The thread or greenlets that run tasks append to ``finished`` and ``starts``; the holder of the
    connection takes from them.  One settlement is on its way at a time, and is repeated unchanged
    until it is answered.
    """

    def __init__(self, consumer: Consumer) -> None:
        self.consumer = consumer
        self.finished: deque[Outcome] = deque()
        self.starts: deque[Start] = deque()
        self.unanswered: Settlement | None = None
        self.parked = ParkedOutcomes()

    def next(self) -> Settlement | None:
        """The settlement to send now, or None; an unanswered one comes first."""
        if self.unanswered is None and self.parked.waiting:
            self.finished += self.parked.due()
        if self.unanswered is None and (self.finished or self.starts):
            ended = self.next_outcomes()
            follows = any(map(THEN, ended))
            start = self.starts.popleft() if self.starts and not follows else None
            self.unanswered = self.consumer.settlement(ended, start, follows=follows)
        return self.unanswered

    def next_outcomes(self) -> list[Outcome]:
        """Take the outcomes for one settlement, as many as its limits allow."""
        if len(self.finished) == 1:
            return [self.finished.popleft()]
        outcomes: list[Outcome] = []
        size = 0
        while self.finished and len(outcomes) < MOST_SETTLED and size < MOST_BYTES:
            outcome = self.finished.popleft()
            size += sum(map(len, outcome.fields))
            outcomes.append(outcome)
        return outcomes

    # Replies

    def apply(self, settlement: Settlement, reply: Any) -> None:
        """Apply the reply to a settlement.  Raises the error that it is, if it is one."""
        if isinstance(reply, Exception):
            raise reply
        self.unanswered = None
        digits, _, reason = reply.decode(errors="backslashreplace").partition(" ")
        if settlement.start is not None:
            settlement.start.answer(digits)
        if "0" in digits:
            log_refused(settlement, digits)
        if reason:
            pairs = zip(settlement.outcomes, digits, strict=False)
            self.parked.put([outcome for outcome, digit in pairs if digit == "-"], reason)
        elif self.parked.logged:
            self.parked.reset_log()

    def cancel_start(self, start: Start) -> None:
        """Drop a start that is not answered yet."""
        if start in self.starts:
            self.starts.remove(start)
        elif self.unanswered is not None and self.unanswered.start is start:
            self.unanswered.start = None

    # Contents

    def starting(self) -> list[Delivery]:
        """The messages whose early acknowledgement is not answered."""
        starts = [*self.starts]
        if self.unanswered is not None and self.unanswered.start is not None:
            starts.append(self.unanswered.start)
        return [delivery for start in starts for delivery in start.deliveries]

    def settling(self) -> list[Delivery]:
        """The messages whose outcome is not settled: finished, unanswered or parked."""
        unanswered = self.unanswered.outcomes if self.unanswered is not None else []
        outcomes = [*self.finished, *unanswered, *self.parked.outcomes]
        return [outcome.delivery for outcome in outcomes]

    @property
    def is_pending(self) -> bool:
        """Whether there is anything to settle, now or later."""
        return bool(self.finished or self.starts or self.parked or self.unanswered)

    @property
    def settled(self) -> bool:
        """Whether every outcome is settled, except for parked ones."""
        return not (self.finished or self.unanswered)


def log_refused(settlement: Settlement, digits: str) -> None:
    """Log the outcomes that Redis refused: the messages belonged to others by then."""
    for outcome, digit in zip(settlement.outcomes, digits, strict=False):
        if digit == "0":
            title = outcome.delivery.title
            logger.warning("%s was taken back while it ran; its result is dropped", title)
