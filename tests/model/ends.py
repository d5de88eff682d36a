"""Outcomes of runs, and the end of a history."""

from typing import Any

from tests.model.bench import Bench
from tests.model.broker import RunnerExit
from tests.model.calls import Ending
from tests.model.checks import check_rest
from tests.model.values import HOUR, Token


def drain(bench: Bench, consumers: list[str]) -> None:
    """End everything, then check that nothing is left."""
    for consumer in consumers:
        bench.recover(RunnerExit(consumer=consumer, blame="none"))
    bench.move_to(
        max([due for due, _, _ in bench.model.scheduled.values()], default=bench.model.now)
    )
    while bench.promote()[0]:
        pass
    bench.register("last")
    for name, stream in list(bench.model.streams.items()):
        while waiting(stream):
            tokens = bench.read("last", name, 100)
            bench.settle("last", *[ending(token, "SUCCESS", False) for token in tokens])
    bench.recover(RunnerExit(consumer="last", blame="none"))
    for id, record in list(bench.model.records.items()):
        if not record.life:  # its message ended without a state, or was one of many
            bench.forget_result(id)
    check_rest(bench.server.look())


def waiting(stream: Any) -> bool:
    return any(not copy.holder for copy in stream.copies)


def ending(token: Token, state: str, early: bool) -> Ending:
    """The outcome of a run that nothing follows."""
    details = {"SUCCESS": {"result": "5"}, "FAILURE": {"error": "no", "error_type": "E"}}
    if state in ("left", "unkept"):
        return Ending(token=token, early=early, life=HOUR if state == "left" else 0)
    return Ending(token=token, early=early, state=state, details=details[state])


def followed(token: Token, follow: tuple[str, ...], early: bool) -> Ending:
    """The outcome of a run, with what follows it."""
    states = {"dead_letter": "FAILURE", "expire": "REVOKED", "revoked": "REVOKED", "later": "RETRY"}
    state = states[follow[0]] if follow else "FAILURE"
    details = {"reason": follow[0]} if follow else {"error": "no"}
    if "refusals" in follow:
        return Ending(token=token, early=early, follow=follow)
    if state == "RETRY":
        details = {"error": "no", "error_type": "E", "retries": "1"}
    return Ending(token=token, early=early, state=state, details=details, follow=follow)
