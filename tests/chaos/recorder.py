"""A recorder inside of each worker: writes settlements, and consumers that were declared dead.

Wraps three methods of the worker and changes none of their results: the one that makes the
command of a settlement, the one that takes its answer, and the one that recovers a consumer.
"""

import time
from typing import Any

from streamq.broker.consumer import Consumer, Settlement
from streamq.broker.followups import words_of
from streamq.broker.recovery import Recovery, RecoveryRequest, RecoveryResult
from streamq.core.outcome import Outcome
from streamq.runner.settlements import SettlementQueue
from tests.chaos.history import HistoryWriter


def install(writer: HistoryWriter) -> None:
    """Write every answered settlement and every recovery from now on."""
    take_answer, command, recover = SettlementQueue.apply, Consumer.settle_command, Recovery.recover
    sent: dict[int, float] = {}

    def settle_command(self: Consumer, settlement: Settlement) -> tuple[Any, ...]:
        sent[id(settlement)] = time.monotonic()
        return command(self, settlement)

    def apply(self: SettlementQueue, settlement: Settlement, reply: Any) -> None:
        take_answer(self, settlement, reply)
        moment = sent.pop(id(settlement), 0.0)
        answers = [
            (outcome.delivery.id.decode(), place_of(outcome), meaning(outcome), digit == "1")
            for outcome, digit in zip(settlement.outcomes, reply.decode(), strict=False)
        ]
        if answers:
            writer.note("settled", consumer=self.consumer.name, sent=moment, answers=answers)

    def recovered(self: Recovery, request: RecoveryRequest) -> RecoveryResult | None:
        found = recover(self, request)
        if found is not None:
            costs = (found.moved, found.lost, found.dead_lettered, found.quarantined)
            writer.note(
                "declared dead", consumer=request.consumer, blame=request.blame, costs=costs
            )
        return found

    Consumer.settle_command = settle_command  # type: ignore[method-assign]
    SettlementQueue.apply = apply  # type: ignore[method-assign]
    Recovery.recover = recovered  # type: ignore[method-assign]


def place_of(outcome: Outcome) -> str:
    """The stream and the entry of a message, as one text."""
    return f"{outcome.delivery.stream} {outcome.delivery.entry.decode()}"


def meaning(outcome: Outcome) -> str:
    """The result of a settlement: ``again``, or the state that ends the task."""
    if words_of(outcome.then)[:1] == (b"later",):
        return "again"
    return outcome.state.decode() or "silent"
