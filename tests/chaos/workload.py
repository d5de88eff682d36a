"""The workload of a chaos run: kinds of tasks, and how each may end.

Payloads are unique numbers, so that every result can be computed again.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

#: How often a task of the kind ``again`` is tried again.
TRIES_AGAIN = 2

Options = Callable[[random.Random, float], dict[str, Any]]


def nothing(chance: random.Random, lease: float) -> dict[str, Any]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of task: how often it is sent (by weight), how, and how it may end.

    ``outcomes`` are the states that it may have at the end.  A late task that is killed too
    often and an early one whose runner dies may also fail as WorkerLost, if that is explained.
    """

    task: str = "quick"
    weight: float
    seconds: Callable[[random.Random, float], float] = lambda chance, lease: 0.0
    options: Options = nothing
    outcomes: frozenset[str] = frozenset({"SUCCESS"})
    error: str = ""
    early: bool = False
    keep: bool = True
    #: The queues that get a copy each; empty for one queue.
    copies: tuple[str, ...] = ()
    #: The queue that a copy goes to when the task is rejected.
    dead_letter_queue: str = ""
    chosen: bool = False
    revoked: bool = False


def short(chance: random.Random, lease: float) -> float:
    return chance.uniform(0.0, 0.01)


def long(chance: random.Random, lease: float) -> float:
    return chance.uniform(1.2, 1.6) * lease


def medium(chance: random.Random, lease: float) -> float:
    return chance.uniform(0.02, 0.1)


def slow(chance: random.Random, lease: float) -> float:
    return chance.uniform(0.05, 0.4)


def always(**options: Any) -> Options:
    return lambda chance, lease: dict(options)


KINDS: Mapping[str, Kind] = {
    "late": Kind(weight=30, seconds=short),
    "early": Kind(weight=12, seconds=short, options=always(acks_late=False), early=True),
    "early_slow": Kind(weight=5, seconds=medium, options=always(acks_late=False), early=True),
    "twice": Kind(weight=8, seconds=short, chosen=True),
    "delayed": Kind(
        weight=8,
        seconds=short,
        options=lambda chance, lease: {"countdown": chance.uniform(0.05, 1.5)},
    ),
    "expiring": Kind(
        weight=5,
        seconds=short,
        options=lambda chance, lease: {"expires": chance.uniform(0.02, 1.0)},
        outcomes=frozenset({"SUCCESS", "REVOKED"}),
    ),
    "again": Kind(task="again", weight=8, seconds=short),
    "failing": Kind(
        task="failing",
        weight=5,
        seconds=short,
        outcomes=frozenset({"FAILURE"}),
        error="ValueError",
    ),
    "poison": Kind(
        task="poison",
        weight=0.1,
        outcomes=frozenset({"FAILURE"}),
        error="streamq.errors.WorkerLost",
    ),
    "slow": Kind(weight=6, seconds=slow),
    "long": Kind(weight=0.4, seconds=long),
    "revoked": Kind(
        weight=3,
        seconds=medium,
        options=lambda chance, lease: chance.choice([{}, {"countdown": 0.3}]),
        outcomes=frozenset({"SUCCESS", "REVOKED"}),
        revoked=True,
    ),
    "ranked": Kind(
        weight=5,
        seconds=short,
        options=lambda chance, lease: {"queue": "ranked", "priority": chance.randrange(10)},
    ),
    "fan": Kind(weight=4, seconds=short, options=always(exchange="fan"), copies=("left", "right")),
    "silent": Kind(weight=5, seconds=short, options=always(ignore_result=True), keep=False),
    "silent_early": Kind(
        weight=2,
        seconds=short,
        options=always(ignore_result=True, acks_late=False),
        keep=False,
        early=True,
    ),
    "rejected": Kind(
        task="rejected",
        weight=2,
        options=always(queue="doomed"),
        outcomes=frozenset({"FAILURE"}),
        error="streamq.errors.Reject",
        dead_letter_queue="dead_queue",
    ),
}


def value_of(number: int) -> int:
    """The value that a task returns for its payload."""
    return number * 31 + 7


@dataclass(frozen=True, slots=True)
class Call:
    """One call to be sent."""

    number: int
    kind: str
    seconds: float
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def how(self) -> Kind:
        return KINDS[self.kind]


class Workload:
    """An endless mix of calls, the same for the same seed; ``kinds`` restricts it."""

    def __init__(self, seed: int, lease: float, *, first: int = 0, kinds: str = "") -> None:
        self.chance = random.Random(seed)
        self.lease = lease
        self.number = first
        self.names = kinds.split() or list(KINDS)
        self.weights = [KINDS[name].weight for name in self.names]

    def next(self) -> Call:
        """The next call."""
        (name,) = self.chance.choices(self.names, self.weights)
        kind = KINDS[name]
        self.number += 1
        options = kind.options(self.chance, self.lease)
        if kind.chosen:
            options["task_id"] = f"{name}-{self.number}"
        if "exchange" not in options:
            options.setdefault("queue", "work")
        return Call(self.number, name, kind.seconds(self.chance, self.lease), options)
