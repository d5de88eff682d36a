"""What the death of a runner means for the messages that it held."""

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from streamq.broker.consumer import Place
from streamq.broker.recovery import Case, Recovered, Recovery
from streamq.core.text import count
from streamq.host import clock
from streamq.runner.shared_memory import Occupied
from streamq.transport.replies import Refused
from streamq.worker.processes import Child, Death
from streamq.worker.services.hard_limits import Verdict, Verdicts

logger = logging.getLogger("streamq.worker")

#: Seconds until a recovery that was refused is tried again: only a person can help.
PAUSE = 5.0
#: Tasks that the log names of those that a runner had in hand.
MOST_NAMED = 20


@dataclass(slots=True)
class Open:
    """A death that is still to be dealt with."""

    case: Case
    verdicts: list[Verdict]
    #: Where the messages were that it ran last, and may not have settled.
    ended: list[Place] = field(default_factory=list)
    again: float = 0.0  # on the monotonic clock, if it was refused


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
        child, fenced = death.child, death.fenced or death.child.dismissed is not None
        running = places(child, child.slots.running())
        verdicts = [each for each in child.verdicts if (each.stream, each.entry) in running]
        ended = stopped or child.ended or verdicts  # by us
        crashed = not (death.orderly or fenced or ended)
        self.crashed += crashed
        self.fenced += fenced and child.dismissed is None
        charge = "none" if not crashed else "alone" if len(running) == 1 else "suspects"
        case = Case(
            consumer=child.consumer,
            reason="the worker was stopped" if stopped else death.reason,
            charge=charge,
            running=running,
            streams=child.streams,
        )
        ended = places(child, child.slots.ended()) if crashed else []
        self.open.append(Open(case, verdicts, ended))

    def held(self) -> list[str]:
        """The dead that still hold messages: their leases are ours to renew.

        Strangers who took over would know neither what was running nor what it was ended for.
        """
        return [one.case.consumer for one in self.open]

    def recover(self) -> None:
        """Recover what dead runners held; what is refused is tried again in a while."""
        now = clock.monotonic()
        for one in [each for each in self.open if each.again <= now]:
            try:
                self.deal_with(one)
            except Refused as error:
                one.again = now + PAUSE
                logger.error(
                    "recovering %s failed, and is tried again: %s", one.case.consumer, error
                )
            else:
                self.open.remove(one)

    def deal_with(self, one: Open) -> None:
        """Settle the tasks it was ended for, then hand the rest to others."""
        if one.verdicts:
            try:
                self.verdicts.settle(one.case.consumer, one.verdicts)
            except Refused as error:
                if error.code != "FENCED":
                    self.hand_over(self.all_but_its_verdicts(one))
                    raise
        self.suspect_unsettled(one)
        self.hand_over(one.case)

    def all_but_its_verdicts(self, one: Open) -> Case:
        """Nobody else is to wait until the end of a task can be written."""
        places = [(each.stream, each.entry) for each in one.verdicts]
        return replace(one.case, charge="kept", running=places)

    def hand_over(self, case: Case) -> None:
        """Hand what a dead runner held to others."""
        named = "" if case.charge == "kept" else self.named(case)
        found = self.recovery.recover(case)
        if found is not None:
            self.isolated |= found.isolated > 0
            self.report(case, found, named)

    def suspect_unsettled(self, one: Open) -> None:
        """Count what has returned and was not settled among what was running.

        What a task leaves behind may end its runner before the task is settled.
        """
        case, unsettled = one.case, one.ended
        if not unsettled:
            return
        with contextlib.suppress(Refused):  # nobody can say: each of them may be unsettled
            found = self.recovery.deliveries([(case.consumer, place) for place in unsettled])
            unsettled = [place for place, left in zip(unsettled, found, strict=True) if left]
        if unsettled:
            running = [*(case.running or ()), *unsettled]
            one.case = replace(case, charge="suspects", running=running)
        one.ended = []

    def named(self, case: Case) -> str:
        """What it had in hand, for the log, while it can still be read; nothing if that fails."""
        running = case.running or ()
        titles: list[str] = []
        with contextlib.suppress(Refused):
            places = [(case.consumer, place) for place in running[:MOST_NAMED]]
            found = self.recovery.deliveries(places) if places else []
            titles = [delivery.title for delivery in found if delivery is not None]
        more = f" and {len(running) - MOST_NAMED} more" if len(running) > MOST_NAMED else ""
        return f"; in hand: {', '.join(titles)}{more}" if titles else ""

    def report(self, case: Case, found: Recovered, named: str) -> None:
        """Say what a death has cost."""
        costs = (found.moved, found.lost, found.buried, found.isolated)
        crashed = case.charge in ("alone", "suspects")
        if crashed and not any(costs):
            logger.error("%s%s", case.reason, named)
        elif crashed:
            logger.error(
                "%s%s; %d handed back, %d failed as WorkerLost, %d dead-lettered, "
                "%d to be run alone",
                *(case.reason, named, *costs),
            )
        elif any(costs):
            level = logging.WARNING if found.lost or found.buried else logging.INFO
            logger.log(
                level,
                "%s handed back, %d failed as WorkerLost, %d dead-lettered%s",
                *(count(found.moved, "message"), found.lost, found.buried, named),
            )


def places(child: Child, slots: Sequence[Occupied]) -> list[Place]:
    """Where the messages are that a runner had in these slots."""
    return [(child.streams[each.stream], each.entry) for each in slots]
