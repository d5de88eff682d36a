"""What a worker notes beside what its tasks note: settlements, and who was declared dead.

Listens at two places of the worker and changes nothing: where the answer to a settlement
is taken, and where a supervisor has recovered a consumer.
"""

import time
from typing import Any

from streamq.broker.consumer import Consumer, Settlement
from streamq.broker.recovery import Case, Recovered, Recovery
from streamq.core.outcome import Outcome
from streamq.runner.settlements import Ledger
from tests.chaos.history import Pen


def install(pen: Pen) -> None:
    """Note every answered settlement and every death from now on."""
    take_answer, command, recover = Ledger.heed, Consumer.settle_command, Recovery.recover
    sent: dict[int, float] = {}

    def settle_command(self: Consumer, settlement: Settlement) -> tuple[Any, ...]:
        sent[id(settlement)] = time.monotonic()
        return command(self, settlement)

    def heed(self: Ledger, settlement: Settlement, reply: Any) -> None:
        take_answer(self, settlement, reply)
        moment = sent.pop(id(settlement), 0.0)
        told = [
            (outcome.delivery.id.decode(), place_of(outcome), meaning(outcome), digit == "1")
            for outcome, digit in zip(settlement.outcomes, reply.decode(), strict=False)
        ]
        if told:
            pen.note("settled", consumer=self.consumer.name, sent=moment, told=told)

    def recovered(self: Recovery, case: Case) -> Recovered | None:
        found = recover(self, case)
        if found is not None:
            costs = (found.moved, found.lost, found.buried, found.isolated)
            pen.note("declared dead", consumer=case.consumer, charge=case.charge, costs=costs)
        return found

    Consumer.settle_command = settle_command  # type: ignore[method-assign]
    Ledger.heed = heed  # type: ignore[method-assign]
    Recovery.recover = recovered  # type: ignore[method-assign]


def place_of(outcome: Outcome) -> str:
    return f"{outcome.delivery.stream} {outcome.delivery.entry.decode()}"


def meaning(outcome: Outcome) -> str:
    """What the settlement makes of the message: ``again``, or the state that ends it."""
    if outcome.follow and outcome.follow[0] == b"later":
        return "again"
    return outcome.state.decode() or "silent"
