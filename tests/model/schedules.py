"""The model of schedules: what is declared, what is due, and what a tick does.  Plain Python.

A moment is a whole number of milliseconds.  A tick is described by a call, as a supervisor that
knows how a schedule stood makes it.
"""

from dataclasses import dataclass, field

YEAR = 366 * 86_400_000
MOST_RUNS = 50
INFINITE = "inf"


@dataclass(frozen=True, kw_only=True)
class Declared:
    """A declaration: where it comes from, how new its code is, and its first moment, if any.

    ``owed`` is the moment that the caller saw standing, and that this declaration has too.
    """

    name: str
    revision: str
    source: str = "code"
    order: int = 0
    first: int | None = None
    owed: int | None = None
    gap: int = 10_000


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A tick as a supervisor calls it; without an ``id`` nothing is to run."""

    name: str
    expected: int
    revision: str
    resumed: str
    next: int | None
    missed: int = 0
    id: str = ""
    overlap: str = "allow"
    final: bool = False
    routable: bool = True


@dataclass
class Stands:
    """How a schedule stands: the declaration, its next moment, and what has happened."""

    declared: Declared
    order: int
    before: str = ""
    #: The next moment; INFINITE while it is paused, then ``kept`` is the moment; None for none.
    due: int | str | None = None
    kept: int | None = None
    paused: str = ""
    resumed: str = ""
    undeclared: str = ""
    last_id: str = ""
    last_late: int = 0
    missed: int = 0
    skipped: int = 0
    failed: int = 0
    #: Whether it ends by itself: it has no further moment.
    expires: bool = False


@dataclass
class ScheduleModel:
    """The schedules of a namespace, the messages that were sent, and the runs that go on."""

    now: int = 0
    stands: dict[str, Stands] = field(default_factory=dict)
    #: The outcomes of a schedule's last moments.
    runs: dict[str, list[str]] = field(default_factory=dict)
    #: The ids of the messages in their order.
    sent: list[str] = field(default_factory=list)
    #: The ids of runs that have not ended.
    unended: set[str] = field(default_factory=set)

    # Declarations

    def declare(self, given: Declared) -> list[str]:
        """Declare a schedule: the word, its moment, when it was resumed, what stood before."""
        found = self.stands.get(given.name)
        before = found.declared.revision if found else ""
        word = self.word_for(given, found)
        if word in ("new", "changed", "back"):
            found = self.stands[given.name] = self.replaced(given, found)
        elif word == "same" and found is not None:
            found.undeclared, found.order = "", max(found.order, given.order)
            following = self.following(given, found)
            if found.due is None and following is not None and following > self.now:
                found.expires = False
                self.set_due(found, following)
        assert found is not None
        return [word, as_text(found.due), found.resumed, before]

    def word_for(self, given: Declared, found: Stands | None) -> str:
        if found is None:
            return "new"
        if found.declared.source != given.source:
            return "foreign"
        if found.declared.revision == given.revision:
            return "same"
        if found.order > given.order:
            return "older"
        return "back" if found.before == given.revision else "changed"

    def following(self, given: Declared, found: Stands | None) -> int | None:
        """The moment that stands afterwards: one that is owed to it is not lost."""
        owed = found is not None and given.owed is not None and found.due == given.owed
        return given.owed if owed else given.first

    def replaced(self, given: Declared, found: Stands | None) -> Stands:
        """The new declaration; what has happened stays."""
        made = Stands(given, given.order)
        if found is not None:
            made.before = found.declared.revision
            for name in (
                "paused",
                "resumed",
                "last_id",
                "last_late",
                "missed",
                "skipped",
                "failed",
            ):
                setattr(made, name, getattr(found, name))
        self.set_due(made, self.following(given, found))
        return made

    def set_due(self, found: Stands, moment: int | None) -> None:
        if found.paused and moment is not None:
            found.kept, found.due = moment, INFINITE
        else:
            found.due = moment

    # Changes by hand

    def change(self, how: str, name: str, expected: int | None = None) -> int:
        found = self.stands.get(name)
        if found is None or (expected is not None and found.due != expected):
            return 0
        if how == "remove":
            del self.stands[name]
            self.runs.pop(name, None)
        elif how == "pause" and not found.paused:
            found.paused = str(self.now)
            if found.due is not None:
                self.set_due(found, int(found.due))
        elif how == "resume" and found.paused:
            found.paused, found.resumed = "", str(self.now)
            if found.kept is not None:
                found.due, found.kept = found.kept, None
        elif how == "undeclared":
            found.undeclared = found.undeclared or str(self.now)
        elif how == "declared":
            found.undeclared = ""
        return 1

    # Ticks

    def tick(self, call: Tick) -> list[str]:
        """Do a tick, unless somebody else was first; the word, and what it says."""
        found = self.stands.get(call.name)
        if found is None or found.due != call.expected:
            return ["moved", as_text(found.due) if found else ""]
        if call.expected > self.now:
            return ["early", str(self.now)]
        if (found.declared.revision, found.resumed) != (call.revision, call.resumed):
            return ["other"]
        if call.next is not None:
            if call.next <= call.expected:
                return ["bad", "not-after-the-last"]
            if call.next > max(call.expected, self.now) + found.declared.gap + YEAR:
                return ["bad", "too-far-away"]
        if not call.id:
            self.go_on(found, call, "missed" if call.missed else "")
            return ["missed"]
        if call.overlap == "skip" and found.last_id in self.unended:
            found.skipped += 1
            self.go_on(found, call, "skipped")
            return ["skipped"]
        if not call.routable:
            words = "UNROUTABLE 0  nowhere"
            if call.final:
                found.failed += 1
                self.go_on(found, call, "failed")
            return ["refused", words]
        if call.id not in self.unended:  # else it is there already
            self.sent.append(call.id)
            self.unended.add(call.id)
        if call.overlap == "replace" and found.last_id != call.id:
            self.unended.discard(found.last_id)
        found.last_id, found.last_late = call.id, self.now - call.expected
        self.go_on(found, call, "done")
        return ["done", call.id]

    def go_on(self, found: Stands, call: Tick, outcome: str) -> None:
        """Set the next moment, and note what became of this one."""
        found.due, found.missed = call.next, found.missed + call.missed
        found.expires = call.next is None
        if outcome:
            self.runs[call.name] = [*self.runs.get(call.name, []), outcome][-MOST_RUNS:]

    # What workers do

    def end(self, id: str) -> None:
        """End a run."""
        self.unended.discard(id)


def as_text(due: int | str | None) -> str:
    return "" if due is None else str(due)
