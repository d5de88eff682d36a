"""The choices of the machine: when a rule applies, and which message or consumer it is about."""

from typing import Any, ClassVar

from hypothesis.stateful import RuleBasedStateMachine, precondition

from tests.model.bench import Bench
from tests.model.broker import RunnerExit
from tests.model.ends import waiting
from tests.model.profiles import Profile
from tests.model.server import Server
from tests.model.values import Token


def when(possible: Any) -> Any:
    """A precondition: there is something to work on."""
    return precondition(lambda self: bool(possible(self)))


HELD = when(lambda self: self.busy())
WAITING = when(lambda self: any(map(waiting, self.model.streams.values())))
RECORDS = when(lambda self: self.model.records)


def during(*subjects: str) -> Any:
    """A precondition: the profile does not leave out these subjects."""
    return precondition(lambda self: not self.profile.without.intersection(subjects))


class Chooser(RuleBasedStateMachine):
    """A machine without rules: a bench, and what can be chosen on it."""

    server: ClassVar[Server]
    profile: ClassVar[Profile]

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(self.server, most=self.profile.most)
        self.model = self.bench.model
        self.consumers: list[str] = []

    def one(self, things: Any, pick: int) -> Any:
        """The picked one of some things; None if there are none."""
        listed = list(things)
        return listed[pick % len(listed)] if listed else None

    def consumer(self, pick: int) -> str:
        """Any consumer that was ever registered, mostly one of the last four."""
        return self.consumers[-1 - pick % min(4, len(self.consumers))]

    def busy(self) -> list[str]:
        """The consumers that hold any message."""
        return [name for name in self.consumers if self.holding(name)]

    def holding(self, consumer: str) -> list[Token]:
        return [*self.bench.held(consumer), *self.bench.marked(consumer)]

    def ids(self) -> list[str]:
        """Every id that a client may ask for, the last ones first."""
        held = [token.id for tokens in self.bench.tokens.values() for token in tokens]
        return [*reversed(list({**dict.fromkeys(held), **self.model.records})), "u0", "u1"]

    def some(self, tokens: list[Token], pick: int) -> list[Token]:
        """One or two of some tokens."""
        return [self.one(tokens, pick), *tokens[: pick % 2]] if tokens else []

    def death(self, consumer: str, **details: Any) -> RunnerExit:
        return RunnerExit(consumer=consumer, allowed=self.profile.allowed, **details)
