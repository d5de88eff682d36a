"""The machine that plays schedules at the scripts and at the model, and compares the two."""

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.model.schedules import INFINITE, Declared, ScheduleModel, Stands, Tick, as_text
from tests.model.server import Server

HOUR = 3_600_000
START = 1_000_000
GAP = 10_000
NAMES = ("beat", "poll")
REVISIONS = ("r1", "r2", "r3")

names = st.sampled_from(NAMES)


class ScheduleMachine(RuleBasedStateMachine):
    """Two schedules, and two supervisors that know how they stood some time ago."""

    server: Server

    def __init__(self) -> None:
        super().__init__()
        self.server.empty()
        self.model = ScheduleModel(START)
        self.server.set_time(START)
        self.server.run("declare_queue", "mail", "{}")
        #: What each supervisor knows of each schedule: its moment, revision and resumption.
        self.known: dict[tuple[str, str], tuple[int, str, str]] = {}

    def same(self, script: str, expected: Any, *argv: Any) -> None:
        answer = self.server.run(script, *argv)
        assert answer == expected, f"{script}: {answer}, and the model says {expected}"

    # Steps

    @initialize()
    def begin(self) -> None:
        for name in NAMES:
            self.declared(Declared(name=name, revision="r1", first=START + GAP))
            for supervisor in ("one", "other"):
                self.known[supervisor, name] = (START + GAP, "r1", "")

    @rule(seconds=st.sampled_from([0, 1, 9, 10, 11, 25]))
    def pass_time(self, seconds: int) -> None:
        self.model.now += 1000 * seconds
        self.server.set_time(self.model.now)

    @rule(
        name=names,
        revision=st.sampled_from(REVISIONS),
        order=st.sampled_from([0, 0, 0, 1]),
        source=st.sampled_from(["code", "code", "code", "api"]),
        first=st.sampled_from([-GAP, GAP, 2 * GAP, None]),
        owed=st.sampled_from(["nothing", "what stands", "what stood"]),
    )
    def declare(self, name, revision, order, source, first, owed):  # type: ignore[no-untyped-def]
        stands = self.model.stands.get(name)
        due = stands.due if stands and isinstance(stands.due, int) else None
        stood = self.known["one", name][0]
        self.declared(
            Declared(
                name=name,
                revision=revision,
                order=order,
                source=source,
                first=None if first is None else self.model.now // GAP * GAP + first,
                owed={"nothing": None, "what stands": due, "what stood": stood}[owed],
            )
        )

    @rule(name=names, late=st.booleans())
    def declare_again(self, name: str, late: bool) -> None:
        """A worker starts, with the code that Redis has; its call may arrive late."""
        if (stands := self.model.stands.get(name)) is not None:
            moment = self.model.now // GAP * GAP + (0 if late else GAP)
            self.declared(replace(stands.declared, first=moment, owed=None))

    @rule(name=names)
    def lose(self, name: str) -> None:
        """Redis loses a schedule after its last tick, not what that has sent."""
        sent = [id for id in self.model.sent if id.startswith(name)]
        if sent and name in self.model.stands:
            self.change("remove", name, "any")
            moment = int(sent[-1].rpartition("-")[2])
            self.declared(Declared(name=name, revision="r1", first=moment))
            self.learn("other", name)

    @rule(name=names)
    def pause_and_resume(self, name: str) -> None:
        self.change("pause", name, "any")
        self.change("resume", name, "any")

    def declared(self, given: Declared) -> None:
        fields = {"task": "t", "when": given.revision, "gap": given.gap}
        pairs = [part for pair in fields.items() for part in pair]
        moments = [as_text(given.first), as_text(given.owed)]
        argv = [given.name, given.revision, *moments, len(fields), *pairs]
        expected = self.model.declare(given)
        self.same("declare_schedules", [expected], given.source, given.order, *argv)

    @rule(
        how=st.sampled_from(["pause", "resume", "remove", "undeclared", "undeclared", "declared"]),
        name=names,
        expects=st.sampled_from(["any", "any", "right", "wrong"]),
    )
    def change(self, how: str, name: str, expects: str) -> None:
        stands = self.model.stands.get(name)
        expected = None
        if stands and isinstance(stands.due, int) and expects != "any":
            expected = stands.due + (expects == "wrong")
        answer = self.model.change(how, name, expected)
        self.same("change_schedule", answer, how, name, as_text(expected))

    @rule(supervisor=st.sampled_from(["one", "other"]), name=names)
    def learn(self, supervisor: str, name: str) -> None:
        """A supervisor reads how a schedule stands."""
        stands = self.model.stands.get(name)
        if stands is not None and isinstance(stands.due, int):
            self.known[supervisor, name] = (stands.due, stands.declared.revision, stands.resumed)

    @rule(
        supervisor=st.sampled_from(["one", "other"]),
        name=names,
        learns=st.booleans(),
        waits=st.booleans(),
        next=st.sampled_from([GAP, GAP, GAP, 3 * GAP, 0, -1, None, 3 * 366 * 24 * HOUR]),
        missed=st.sampled_from([0, 0, 2]),
        runs=st.sampled_from([True, True, True, False]),
        overlap=st.sampled_from(["allow", "skip", "replace"]),
        final=st.booleans(),
        routable=st.sampled_from([True, True, True, False]),
    )
    def tick(self, supervisor, name, learns, waits, next, missed, runs, **how):  # type: ignore[no-untyped-def]
        if learns:
            self.learn(supervisor, name)
        expected, revision, resumed = self.known[supervisor, name]
        if waits and expected > self.model.now:
            self.model.now = expected + 3
            self.server.set_time(self.model.now)
        following = None if next is None else expected + next
        id = f"{name}-{expected}" if runs else ""
        call = Tick(
            name=name, expected=expected, revision=revision, resumed=resumed, next=following,
            missed=missed, id=id, **how,
        )  # fmt: skip
        forward = self.model.stands.get(name)
        before = forward.due if forward else None
        self.ticked(call)
        after = self.model.stands[name].due if name in self.model.stands else None
        if isinstance(before, int) and isinstance(after, int):
            assert after >= before, "moments only go forward"

    def ticked(self, call: Tick) -> None:
        key = "mail" if call.routable else "nowhere"
        message = [
            "",
            key,
            call.id,
            "none",
            1,
            "",
            "",
            "",
            0,
            2,
            "task",
            "t",
            "tick",
            call.expected,
        ]
        self.same(
            "tick",
            self.model.tick(call),
            *(call.name, call.expected, call.revision, call.resumed, as_text(call.next)),
            *(call.missed, call.expected if call.id else "", call.id, call.overlap),
            *(int(call.final), HOUR, HOUR, "SIGTERM", 60_000),
            *(message if call.id else ()),
        )

    @rule(index=st.integers(0, 5))
    def end_a_run(self, index: int) -> None:
        if self.model.unended:
            id = sorted(self.model.unended)[index % len(self.model.unended)]
            self.model.end(id)
            self.server.client.hset(self.server.keys.task(id), "state", "SUCCESS")

    # What must be so after each step

    @invariant()
    def redis_is_as_the_model_says(self) -> None:
        seen = self.server.look()
        due = seen["schedules"].holds if "schedules" in seen else {}
        stands = self.model.stands
        assert due == {
            name: as_text(each.due) for name, each in stands.items() if each.due is not None
        }
        about = {key: value for key, value in seen.items() if key.startswith("schedule:")}
        hashes = {key: value for key, value in about.items() if not key.endswith(":runs")}
        assert hashes.keys() == {f"schedule:{name}" for name in stands}
        for name, each in stands.items():
            held = hashes[f"schedule:{name}"]
            assert held.holds == self.fields_of(each, held.holds.get("last"))
            assert (held.life >= 0) == each.expires
        runs = {
            key.removeprefix("schedule:").removesuffix(":runs"): [
                fields["outcome"] for _, fields, _ in value.holds.entries
            ]
            for key, value in about.items()
            if key.endswith(":runs")
        }
        assert runs == self.model.runs
        entries = seen["queue:mail"].holds.entries
        assert [fields["id"] for _, fields, _ in entries] == self.model.sent

    def fields_of(self, each: Stands, last: str | None) -> dict[str, str]:
        """The hash of a schedule, by the model."""
        found = {
            "source": each.declared.source,
            "revision": each.declared.revision,
            "order": str(each.order),
            "task": "t",
            "when": each.declared.revision,
            "gap": str(each.declared.gap),
            "before": each.before,
            "paused": each.paused,
            "resumed": each.resumed,
            "next": as_text(each.kept),
            "undeclared": each.undeclared,
            "last": each.last_id.rpartition("-")[2],
            "last_id": each.last_id,
            "last_late_ms": str(each.last_late) if each.last_id else "",
            **{
                name: str(count) if count else ""
                for name, count in (
                    ("missed", each.missed), ("skipped", each.skipped), ("failed", each.failed),
                )
            },
        }  # fmt: skip
        return {name: value for name, value in found.items() if value}

    @invariant()
    def a_paused_schedule_has_no_moment(self) -> None:
        for each in self.model.stands.values():
            assert not each.paused or each.due in (None, INFINITE)
