"""How runs end, and how everything does."""

from typing import Any

from tests.model.bench import Bench
from tests.model.broker import Death
from tests.model.checks import check_rest
from tests.model.desk import Ending
from tests.model.ledger import HOUR, Token


def drain(bench: Bench, consumers: list[str]) -> None:
    """Let everything come to its end: then nothing is left."""
    for consumer in consumers:
        bench.recover(Death(consumer=consumer, charge="none"))
    bench.move_to(
        max([due for due, _, _ in bench.model.scheduled.values()], default=bench.model.now)
    )
    while bench.promote()[0]:
        pass
    bench.register("last")
    for name, stream in list(bench.model.streams.items()):
        while waiting(stream):
            tokens = bench.read("last", name, 100)
            bench.complete("last", *[ending(token, "SUCCESS", False) for token in tokens])
    bench.recover(Death(consumer="last", charge="none"))
    for id, record in list(bench.model.records.items()):
        if not record.life:  # its message has ended without it, or it is one of many
            bench.forget(id)
    check_rest(bench.server.look())


def waiting(stream: Any) -> bool:
    return any(not copy.holder for copy in stream.copies)


def ending(token: Token, state: str, early: bool) -> Ending:
    """A run that is over, with nothing to follow."""
    told = {"SUCCESS": {"result": "5"}, "FAILURE": {"error": "no", "error_type": "E"}}
    if state in ("left", "unkept"):
        return Ending(token=token, early=early, life=HOUR if state == "left" else 0)
    return Ending(token=token, early=early, state=state, told=told[state])


def followed(token: Token, follow: tuple[str, ...], early: bool) -> Ending:
    """A run that is over, and what follows."""
    states = {"bury": "FAILURE", "expire": "REVOKED", "revoked": "REVOKED", "later": "RETRY"}
    state = states[follow[0]] if follow else "FAILURE"
    told = {"reason": follow[0]} if follow else {"error": "no"}
    if "refusals" in follow:
        return Ending(token=token, early=early, follow=follow)
    if state == "RETRY":
        told = {"error": "no", "error_type": "E", "retries": "1"}
    return Ending(token=token, early=early, state=state, told=told, follow=follow)
