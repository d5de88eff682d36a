"""What the death of a runner means for the messages that it held."""

import logging
from dataclasses import dataclass

from streamq.store.connection import Refused
from streamq.store.recovery import Case, Place, Recovered, Recovery
from streamq.worker.children import Child, Death
from streamq.worker.verdicts import Verdict, Verdicts

logger = logging.getLogger("streamq.worker")


@dataclass(slots=True)
class Open:
    """A death that is still to be dealt with."""

    case: Case
    verdicts: list[Verdict]


class Deaths:
    """Deals with the deaths of this worker's runners, and counts them."""

    def __init__(self, recovery: Recovery, verdicts: Verdicts) -> None:
        self.recovery = recovery
        self.verdicts = verdicts
        self.open: list[Open] = []
        #: Whether messages wait to be run alone.
        self.isolated = False
        self.crashed = 0
        self.fenced = 0

    def counts(self) -> dict[str, object]:
        """How often runners crashed, and were declared dead while they lived."""
        return {"crashed": self.crashed, "fenced": self.fenced}

    def mourn(self, death: Death, *, stopped: bool) -> None:
        """A runner has ended; ``stopped`` says that we ended it to stop the worker."""
        child = death.child
        running = running_on(child)
        fenced = death.fenced or child.dismissed is not None
        ended = stopped or child.ended or child.verdicts  # by us
        crashed = not (death.orderly or fenced or ended)
        self.crashed += crashed
        self.fenced += fenced and child.dismissed is None
        charge = "none" if not crashed else "alone" if len(running) == 1 else "suspects"
        reason = "the worker was stopped" if stopped else death.reason
        case = Case(consumer=child.consumer, reason=reason, charge=charge, running=running)
        self.open.append(Open(case, list(child.verdicts)))

    def recover(self) -> None:
        """Recover what dead runners held; what fails stays for the next try."""
        refused: list[Open] = []
        while self.open:
            one = self.open[0]
            try:
                self.deal_with(one)
            except Refused as error:
                logger.error(
                    "recovering %s failed, and is tried again: %s", one.case.consumer, error
                )
                refused.append(one)
            self.open.pop(0)
        self.open = refused

    def deal_with(self, one: Open) -> None:
        """Settle the tasks it was ended for, then hand the rest to others."""
        if one.verdicts:
            try:
                self.verdicts.settle(one.case.consumer, one.verdicts)
            except Refused as error:
                if error.code != "FENCED":
                    raise
        found = self.recovery.recover(one.case)
        if found is not None:
            self.isolated |= found.isolated > 0
            self.report(one.case, found)

    def report(self, case: Case, found: Recovered) -> None:
        """Say what a death has cost."""
        costs = (found.moved, found.lost, found.buried, found.isolated)
        if case.charge != "none":
            logger.error(
                "%s; %d handed back, %d failed as WorkerLost, %d dead-lettered, %d to be run alone",
                *(case.reason, *costs),
            )
        elif any(costs):
            logger.info("%d messages handed back, %d lost", found.moved, found.lost)


def running_on(child: Child) -> list[Place]:
    """The messages that a runner was running."""
    return [(child.streams[each.stream], each.entry) for each in child.slots.running()]
