"""The checker of chaos runs: judges a history by rules, one for each promise.

    python -m tests.chaos.checker HISTORY

The same history always gets the same verdict.  A rule yields each violation: the id of the task,
or what else broke the rule, and the reason.
"""

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.history import Event, read
from tests.chaos.timeline import Call, Run, Timeline
from tests.chaos.workload import KINDS, TRIES_AGAIN, value_of

FINAL = frozenset({"SUCCESS", "FAILURE", "REVOKED"})
LOST = "streamq.errors.WorkerLost"
#: Crashes after which a message is put aside, or run alone for a last time.
MOST_CRASHES = 3
#: Seconds within which tasks are settled again after Redis is back, and the share of the rate.
BACK_WITHIN, FLOW = 5.0, 0.5

Broken = Iterator[tuple[str, str]]
Rule = Callable[[Timeline], Broken]


def lost(timeline: Timeline) -> Broken:
    """Every accepted task has ended."""
    for call in timeline.calls.values():
        for id in timeline.copies(call):
            if not has_ended(timeline, call, id):
                record = timeline.records.get(id, {})
                yield id, f"accepted, and never ended: its state is {record.get('state')}"


def has_ended(timeline: Timeline, call: Call, id: str) -> bool:
    """Whether a task has ended as far as the history can show it."""
    if call.kind.dead_letter_queue and "@" in id and not was_rejected(timeline, id):
        return True  # it became a dead letter for another reason: too many crashes
    if call.kind.keep:
        return timeline.records.get(id, {}).get("state") in FINAL
    runs = timeline.runs.get(id, [])
    return (
        id in timeline.letters or any(run.ended for run in runs) or (call.kind.early and bool(runs))
    )


def was_rejected(timeline: Timeline, copy: str) -> bool:
    """Whether the task of which this is the dead letter's copy has rejected its message."""
    origin = timeline.records.get(copy.rpartition("@")[0], {})
    return bool(origin.get("error_type") == "streamq.errors.Reject")


def unexpected(timeline: Timeline) -> Broken:
    """Every task that ran was sent."""
    for id, runs in timeline.runs.items():
        for run in runs:
            call = timeline.calls.get(run.number)
            if call is None or KINDS.get(run.kind) is not call.kind:
                yield id, f"ran as {run.token}, and was never sent"
            elif call.ids and id not in {*timeline.copies(call), *call.ids}:
                yield id, f"ran under an id that the producer of {run.number} did not get"


def double(timeline: Timeline) -> Broken:
    """Every task has one accepted settlement that ends it, and one for each retry."""
    ends: Counter[str] = Counter()
    tries: Counter[str] = Counter()
    for one in timeline.settled:
        if one.accepted:
            (tries if one.meaning == "again" else ends)[one.id] += 1
    for id, count in ends.items():
        if count > 1:
            yield id, f"{count} settlements that end it were accepted"
    for id, count in tries.items():
        if count > TRIES_AGAIN:
            yield id, f"{count} settlements that retry it were accepted"


def twice(timeline: Timeline) -> Broken:
    """A task that is acknowledged early starts at most once; no stream entry starts twice."""
    for id, runs in timeline.runs.items():
        if KINDS[runs[0].kind].early and len(runs) > 1:
            yield id, f"acknowledged early, and started {len(runs)} times"
    for entry, runs in timeline.by_entry.items():
        if len(runs) > 1:
            yield runs[0].id, f"the entry {entry} started {len(runs)} times"


def unexplained(timeline: Timeline) -> Broken:
    """Every run beside the accepted one is explained by a fault of its worker."""
    for id, runs in timeline.runs.items():
        tries: dict[int, list[Run]] = defaultdict(list)
        for run in runs:
            tries[run.retries].append(run)
        for number, same in tries.items():
            counted = [run for run in same if run.accepted]
            others = [run for run in same if not run.accepted and not timeline.explained(run)]
            if len(same) > 1 and len(counted) + len(others) > 1:
                odd = others[0].token if others else counted[1].token
                yield id, f"started {len(same)} times in try {number}; nothing explains {odd}"


def wrong(timeline: Timeline) -> Broken:
    """Every task ended in a state that its kind allows, with the value of its payload."""
    for call in timeline.calls.values():
        for id in timeline.copies(call):
            record = timeline.records.get(id)
            if record is not None and record.get("state") in FINAL:
                fault = wrong_with(timeline, call, id, record)
                if fault:
                    yield id, fault


def wrong_with(timeline: Timeline, call: Call, id: str, record: Event) -> str:
    """The fault of a final record, or an empty text."""
    kind, state, error = call.kind, record["state"], record.get("error_type")
    outcomes = frozenset({"SUCCESS"}) if kind.dead_letter_queue and "@" in id else kind.outcomes
    if state == "FAILURE" and error == LOST:
        return wrong_loss(timeline, call, id, record)
    if state not in outcomes:
        return f"ended as {state} {error or ''} {record.get('reason') or ''}".rstrip()
    if state == "FAILURE" and error != kind.error:
        return f"failed as {error}"
    if state == "SUCCESS":
        return wrong_value(timeline, call, id, record)
    if state == "REVOKED" and kind.revoked != (record.get("reason") == "revoked"):
        return f"revoked because {record.get('reason')}"
    return ""


def wrong_value(timeline: Timeline, call: Call, id: str, record: Event) -> str:
    """The fault of a returned value, or an empty text."""
    value, token = record["result"]
    if value != value_of(call.number):
        return f"its value is {value}"
    run = timeline.by_token.get(token)
    if run is None or run.id != id:
        return f"its value is from a run of another task: {token}"
    winners = [each for each in timeline.runs[id] if each.accepted == "SUCCESS"]
    if winners and winners[0] is not run:
        return f"its value is from {token}, though {winners[0].token} was accepted"
    return ""


def wrong_loss(timeline: Timeline, call: Call, id: str, record: Event) -> str:
    """The fault of a record that says WorkerLost, or an empty text.

    A task may fail as lost when its runner died: once if it is acknowledged early, else often.
    """
    runs = timeline.runs.get(id, [])
    if call.kind.error == LOST:
        last = runs[-1].start if runs else call.invoked
        most = MOST_CRASHES + 1 + timeline.faults_between(call.invoked, last) - len(runs)
        return f"poison started {len(runs)} times" if len(runs) > most else ""
    name, pid, _ = record["worker"].rsplit(":", 2)
    if call.kind.early:
        known = any(fault.affects(name.split("@")[0], int(pid)) for fault in timeline.explaining)
        known = known or any(timeline.explained(run) for run in runs)
        return "" if known else "failed as lost, though its runner was not killed"
    passed_on = call.kind.dead_letter_queue or id in timeline.letters
    if not passed_on:
        return "failed as lost without a dead letter"
    return (
        ""
        if sum(map(timeline.explained, runs)) >= MOST_CRASHES
        else "dead-lettered without a reason"
    )


def crashes(timeline: Timeline) -> Broken:
    """A message is charged with no more crashes than there were."""
    for id, runs in timeline.runs.items():
        for run in runs:
            charged = run.deliveries - 1
            call = timeline.calls.get(run.number)
            if charged and call and charged > timeline.faults_between(call.invoked, run.start):
                yield id, f"charged with {charged} crashes"


def posthumous(timeline: Timeline) -> Broken:
    """A consumer that was declared dead settles nothing afterwards."""
    died: dict[str, float] = {}
    for consumer, at in timeline.deaths:
        died[consumer] = min(at, died.get(consumer, at))
    for one in timeline.settled:
        if one.accepted and one.sent > died.get(one.consumer, one.sent):
            yield one.id, f"settled by {one.consumer}, which was dead by then"


def reported(timeline: Timeline) -> Broken:
    """Every waiter got the result that the record holds."""
    for event in timeline.reported:
        record, (state, said) = timeline.records.get(event["id"]), event["said"]
        if record is None:
            continue
        stored = record.get("result") if state == "SUCCESS" else said
        if state == "FAILURE":
            stored = (record.get("error_type") or "").rpartition(".")[2]
        if record.get("state") != state or stored != said:
            yield event["id"], f"a waiter got {state} {said}"


def slow(timeline: Timeline) -> Broken:
    """Tasks are settled again soon after an outage of Redis, unless the next outage comes."""
    begin, end = timeline.produced
    outages = [fault for fault in timeline.faults if fault.outage or fault.explains == "all"]
    ends = sorted(one.at for one in timeline.settled if one.accepted)
    for fault in outages:
        limit = fault.ended + BACK_WITHIN
        again = any(other.began < limit and other.ended > fault.ended for other in outages)
        if again or not fault.outage or not begin < fault.began or limit > end:
            continue
        after = [at for at in ends if fault.ended < at <= limit]
        best = max((sum(at <= each < at + 1 for each in after) for at in after), default=0)
        if best < FLOW * timeline.rate:
            yield fault.fault, f"{best} tasks in the best second of {BACK_WITHIN:g} s after it"


def leaks(timeline: Timeline) -> Broken:
    """At the end Redis and the processes are at rest."""
    for complaint in timeline.complaints:
        yield "at the end", complaint


RULES: tuple[Rule, ...] = (
    lost,
    unexpected,
    double,
    twice,
    unexplained,
    wrong,
    crashes,
    posthumous,
    reported,
    slow,
    leaks,
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on a history: counts, and the violations of each rule."""

    counts: dict[str, Any]
    broken: dict[str, list[tuple[str, str]]]

    @property
    def ok(self) -> bool:
        """Whether no rule is broken."""
        return not any(self.broken.values())

    def line(self, **more: Any) -> str:
        """The verdict as one line of JSON."""
        broken = {rule: len(found) for rule, found in self.broken.items()}
        return json.dumps({"ok": self.ok, **more, **self.counts, **broken})


def check(events: list[Event]) -> Verdict:
    """Judge a history."""
    timeline = Timeline(events)
    broken = {rule.__name__: list(rule(timeline)) for rule in RULES}
    accepted = [call for call in timeline.calls.values() if call.ids]
    runs = sum(map(len, timeline.runs.values()))
    tries = len({(run.id, run.retries) for runs in timeline.runs.values() for run in runs})
    silent = [call for call in timeline.calls.values() if not call.ids]
    states = Counter(record.get("state") for record in timeline.records.values())
    counts = {
        "accepted": len(accepted),
        "unknown": len(silent),
        "runs": runs,
        "extra_runs": runs - tries,
        "settled": sum(one.accepted for one in timeline.settled),
        "refused": sum(not one.accepted for one in timeline.settled),
        **{str(state).lower(): count for state, count in sorted(states.items(), key=str)},
        "letters": len(timeline.letters),
        "faults": len([fault for fault in timeline.faults if fault.fault != "poison"]),
    }
    return Verdict(counts, broken)


def events_of(events: list[Event], task: str) -> list[Event]:
    """The events of one task, and the faults of that time (5 s before and after included)."""
    base = task.partition("@")[0]
    about = [event for event in events if concerns(event, base)]
    numbers = {event["number"] for event in about if "number" in event}
    about = [e for e in events if concerns(e, base) or e.get("number") in numbers]
    if not about:
        return []
    tokens = {event["token"] for event in about if "token" in event}
    begin, end = about[0]["at"] - 5, about[-1]["at"] + 5
    chosen = {id(event) for event in about}
    return [
        event
        for event in events
        if id(event) in chosen
        or event.get("token") in tokens
        or (event["what"] == "fault" and event["at"] > begin and event["began"] < end)
    ]


def concerns(event: Event, base: str) -> bool:
    """Whether an event names the task, or a copy of it."""
    if event["what"] == "settled":
        return any(id.partition("@")[0] == base for id, *_ in event["answers"])
    return str(event.get("id", "")).partition("@")[0] == base


def report(verdict: Verdict, events: list[Event], *, most: int = 3) -> Iterator[str]:
    """The violations as text, and the events of the first tasks that each rule names."""
    for rule, found in verdict.broken.items():
        for id, why in found[: 4 * most]:
            yield f"{rule}: {id}: {why}"
    ids = [id for found in verdict.broken.values() for id, _ in found[:most]]
    for id in dict.fromkeys(ids):
        yield f"--- {id}"
        for event in events_of(events, id)[:60]:
            yield json.dumps(event)


if __name__ == "__main__":
    events = read(Path(sys.argv[1]))
    verdict = check(events)
    print("\n".join(report(verdict, events)))
    print(verdict.line())
    sys.exit(0 if verdict.ok else 1)
