"""Schedules in Redis: declared, read, and fired by one script."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streamq.broker.results import TERM_MS
from streamq.core.message import Publication
from streamq.transport.client import Client, later
from streamq.transport.decode import text, texts
from streamq.transport.keys import Keys
from streamq.transport.replies import WrongType, raised
from streamq.transport.scripts import load

CHANGE_SCHEDULE = load("change_schedule")
DECLARE_SCHEDULES = load("declare_schedules")
TICK = load("tick")

#: Schedules that one call declares: Redis serves no other client while a script runs.
PORTION = 100
#: The score of a schedule that is paused.
PAUSED = "inf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What is declared of one schedule: its fields, and its first moment (ms) from now on.

    ``owed`` is the moment that stands in Redis, if it is one of this declaration too.
    """

    name: str
    revision: str
    first: int | None
    fields: Mapping[str, str]
    owed: int | None = None


@dataclass(frozen=True, slots=True)
class Declared:
    """What became of a declaration; ``word`` is one of declare_schedules.lua.

    ``due`` is the moment that stands now (ms), None if there is none or the schedule is paused;
    ``before`` the text of its moments that stood there before, or what its key holds instead.
    """

    word: str
    due: int | None
    resumed: str
    before: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How a schedule stands in Redis: what is declared, and its next moment in ms, if any."""

    name: str
    source: str
    revision: str
    resumed: str
    due: int | None
    paused: bool = False
    #: Since when no living worker has declared it, in ms; None if one does, as far as was noted.
    undeclared: int | None = None
    #: The error of its key, if that holds something else.
    wrong: WrongType | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A tick as one supervisor knows it: the expected moment, and what follows; moments in ms.

    ``id`` and ``nominal`` are those of the run; None if nothing is to run.
    """

    name: str
    expected: int
    revision: str
    resumed: str
    next: int | None
    missed: int = 0
    nominal: int | None = None
    id: str = ""
    overlap: str = "allow"


class ScheduleStore:
    """The schedules of a namespace."""

    def __init__(self, client: Client, keys: Keys, lifetimes: tuple[float, float]) -> None:
        self.client = client
        self.keys = keys
        #: Milliseconds for which a record and a revocation are kept, when a run is replaced.
        self.lifetimes = [round(each * 1000) for each in lifetimes]

    def now(self) -> int:
        """The server's time, in milliseconds."""
        return later(self.client.ask("TIME"), 0)

    def declare(
        self, declarations: Sequence[Declaration], *, order: int = 0, source: str = "code"
    ) -> list[Declared]:
        """Declare schedules, a portion with each call; return what became of each."""
        found: list[Declared] = []
        for at in range(0, len(declarations), PORTION):
            argv: list[str | int] = [source, order]
            for each in declarations[at : at + PORTION]:
                pairs = [part for pair in each.fields.items() for part in pair]
                moments = ["" if ms is None else ms for ms in (each.first, each.owed)]
                argv += [each.name, each.revision, *moments, len(each.fields), *pairs]
            for answer in self.client.call(DECLARE_SCHEDULES, self.keys.root, *argv):
                word, score, resumed, before = map(text, answer)
                found.append(Declared(word, moment_ms(score), resumed, before))
        return found

    def due(self, names: Sequence[str]) -> dict[str, int | None]:
        """The next moment of each of these schedules, in ms; None for one that has none."""
        scores = self.client.ask("ZMSCORE", self.keys.schedules, *names) if names else []
        return {
            name: None if score is None else moment_ms(text(score))
            for name, score in zip(names, scores, strict=True)
        }

    def due_between(self, first: int, last: int) -> dict[str, int]:
        """The schedules whose next moment lies between these two (ms), and that moment."""
        key = self.keys.schedules
        found = self.client.ask("ZRANGE", key, first, last, "BYSCORE", "WITHSCORES")
        return {name: int(float(score)) for name, score in texts(found).items()}

    def tick(
        self, attempt: Attempt, publication: Publication = (), *, final: bool = False
    ) -> tuple[str, str]:
        """Do a tick, unless somebody else has; return the word of tick.lua and what it says.

        With ``final`` the next moment stands even if the message cannot be published.
        """
        argv = (
            *(attempt.name, attempt.expected, attempt.revision, attempt.resumed),
            "" if attempt.next is None else attempt.next,
            attempt.missed,
            "" if attempt.nominal is None else attempt.nominal,
            *(attempt.id, attempt.overlap, int(final)),
            *(*self.lifetimes, "SIGTERM", TERM_MS),
        )
        answer = self.client.call(TICK, self.keys.root, *argv, *publication)
        word, *rest = map(text, answer)
        return word, rest[0] if rest else ""

    def standing(self, due: Mapping[str, int | None]) -> list[Standing]:
        """How each of these schedules stands in Redis, where the next moments are known."""
        names = ("source", "revision", "resumed", "paused", "undeclared")
        asked = [("HMGET", self.keys.schedule(name), *names) for name in due]
        found = []
        for name, answer in zip(due, self.readable(asked), strict=True):
            if isinstance(answer, WrongType):
                found.append(Standing(name, "", "", "", due[name], wrong=answer))
                continue
            source, revision, resumed, paused, undeclared = (text(each or b"") for each in answer)
            found.append(
                Standing(
                    *(name, source, revision, resumed, due[name]),
                    paused=bool(paused),
                    undeclared=moment_ms(undeclared),
                )
            )
        return found

    def revisions(self) -> set[str]:
        """The revisions of the schedules that living workers declare and fire."""
        return self.firing() - {""}

    def firing(self) -> set[str]:
        """The same, and "" if there is a living worker that fires those without code."""
        nodes = map(text, self.client.ask("ZRANGE", self.keys.workers, 0, -1))
        asked = [("HGET", self.keys.worker(node), "schedules") for node in nodes]
        found = [each for each in self.readable(asked) if not isinstance(each, WrongType | None)]
        return {revision for each in found for revision in ("", *text(each).split())}

    def names(self) -> dict[str, int | None]:
        """Every schedule that has a next moment or is paused, and that moment in ms."""
        found = self.client.ask("ZRANGE", self.keys.schedules, 0, -1, "WITHSCORES")
        return {name: moment_ms(score) for name, score in texts(found).items()}

    def about(self, names: Sequence[str]) -> list[dict[str, str] | WrongType]:
        """What Redis holds about each of these schedules; the error of a key of another type."""
        found = self.readable([("HGETALL", self.keys.schedule(name)) for name in names])
        return [each if isinstance(each, WrongType) else texts(each) for each in found]

    def readable(self, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
        """Run commands in one round trip; the answer for a key of another type is its error."""
        answers = self.client.try_all(list(commands))
        return [each if isinstance(each, WrongType) else raised(each) for each in answers]

    def runs(self, name: str, count: int) -> list[dict[str, str]]:
        """The last runs of a schedule, the newest first."""
        key = self.keys.schedule_runs(name)
        found = self.client.ask("XREVRANGE", key, "+", "-", "COUNT", count)
        return [texts(fields) for _, fields in found]

    def pause(self, name: str) -> bool:
        """Pause a schedule; return whether it is there."""
        return self.change("pause", name)

    def resume(self, name: str) -> bool:
        """Resume a schedule; return whether it is there."""
        return self.change("resume", name)

    def remove(self, name: str) -> bool:
        """Remove a schedule; return whether it was there."""
        return self.change("remove", name)

    def note_undeclared(self, name: str) -> None:
        """Note that no living worker declares a schedule, unless that is noted."""
        self.change("undeclared", name)

    def note_declared(self, name: str) -> None:
        """Note that a living worker declares a schedule."""
        self.change("declared", name)

    def change(self, how: str, name: str, expected: int | None = None) -> bool:
        """Change a schedule, if its moment is still the ``expected`` one; whether it was there."""
        argv = (how, name, "" if expected is None else expected)
        return bool(self.client.call(CHANGE_SCHEDULE, self.keys.root, *argv))


def moment_ms(score: str) -> int | None:
    """A score as a moment in milliseconds; None for none, and for a paused schedule."""
    try:
        return int(float(score))
    except (ValueError, OverflowError):
        return None
