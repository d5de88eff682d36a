"""The verdict on a history: what was promised, rule by rule.

    python -m tests.chaos.checker HISTORY

Pure: the same history gets the same verdict.  A rule yields what broke it: the id, or
whatever it was, and why.
"""

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.book import Book, Call, Run
from tests.chaos.history import Event, read
from tests.chaos.workload import KINDS, TRIES_AGAIN, value_of

FINAL = frozenset({"SUCCESS", "FAILURE", "REVOKED"})
LOST = "streamq.errors.WorkerLost"
#: Crashes after which a message is put aside, or run alone for a last time.
MOST_CRASHES = 3
#: Seconds within which work flows again after Redis is back; and how much of it.
BACK_WITHIN, FLOW = 5.0, 0.5

Broken = Iterator[tuple[str, str]]
Rule = Callable[[Book], Broken]


def lost(book: Book) -> Broken:
    """Every accepted task has ended."""
    for call in book.calls.values():
        for id in book.copies(call):
            if not has_ended(book, call, id):
                record = book.records.get(id, {})
                yield id, f"accepted, and never ended: its state is {record.get('state')}"


def has_ended(book: Book, call: Call, id: str) -> bool:
    if call.kind.afterlife and "@" in id and not was_rejected(book, id):
        return True  # it died of something else: it was killed too often
    if call.kind.keep:
        return book.records.get(id, {}).get("state") in FINAL
    runs = book.runs.get(id, [])
    return id in book.letters or any(run.ended for run in runs) or (call.kind.early and bool(runs))


def was_rejected(book: Book, copy: str) -> bool:
    origin = book.records.get(copy.rpartition("@")[0], {})
    return bool(origin.get("error_type") == "streamq.errors.Reject")


def unexpected(book: Book) -> Broken:
    """Nothing ran that nobody has sent."""
    for id, runs in book.runs.items():
        for run in runs:
            call = book.calls.get(run.number)
            if call is None or KINDS.get(run.kind) is not call.kind:
                yield id, f"run {run.token}, and never sent"
            elif call.ids and id not in {*book.copies(call), *call.ids}:
                yield id, f"ran under an id that the producer of {run.number} was not told"


def double(book: Book) -> Broken:
    """Every task has one accepted settlement, and one for each time that it was tried again."""
    ends: Counter[str] = Counter()
    tries: Counter[str] = Counter()
    for one in book.settled:
        if one.accepted:
            (tries if one.meaning == "again" else ends)[one.id] += 1
    for id, count in ends.items():
        if count > 1:
            yield id, f"{count} settlements that end it were accepted"
    for id, count in tries.items():
        if count > TRIES_AGAIN:
            yield id, f"{count} settlements that try it again were accepted"


def twice(book: Book) -> Broken:
    """What is acknowledged early starts once at most; no entry of a stream starts twice."""
    for id, runs in book.runs.items():
        if KINDS[runs[0].kind].early and len(runs) > 1:
            yield id, f"acknowledged early, and started {len(runs)} times"
    for entry, runs in book.by_entry.items():
        if len(runs) > 1:
            yield runs[0].id, f"the entry {entry} started {len(runs)} times"


def unexplained(book: Book) -> Broken:
    """Every run beside the one that counts is explained by what happened to its worker."""
    for id, runs in book.runs.items():
        tries: dict[int, list[Run]] = defaultdict(list)
        for run in runs:
            tries[run.retries].append(run)
        for number, same in tries.items():
            counted = [run for run in same if run.accepted]
            others = [run for run in same if not run.accepted and not book.explained(run)]
            if len(same) > 1 and len(counted) + len(others) > 1:
                odd = others[0].token if others else counted[1].token
                yield id, f"started {len(same)} times in try {number}; nothing explains {odd}"


def wrong(book: Book) -> Broken:
    """Every task ended as it must, with the value that its payload makes."""
    for call in book.calls.values():
        for id in book.copies(call):
            record = book.records.get(id)
            if record is not None and record.get("state") in FINAL:
                fault = wrong_with(book, call, id, record)
                if fault:
                    yield id, fault


def wrong_with(book: Book, call: Call, id: str, record: Event) -> str:
    kind, state, error = call.kind, record["state"], record.get("error_type")
    endings = frozenset({"SUCCESS"}) if kind.afterlife and "@" in id else kind.endings
    if state == "FAILURE" and error == LOST:
        return wrong_loss(book, call, id, record)
    if state not in endings:
        return f"ended as {state} {error or ''} {record.get('reason') or ''}".rstrip()
    if state == "FAILURE" and error != kind.error:
        return f"failed as {error}"
    if state == "SUCCESS":
        return wrong_value(book, call, id, record)
    if state == "REVOKED" and kind.revoked != (record.get("reason") == "revoked"):
        return f"revoked because {record.get('reason')}"
    return ""


def wrong_value(book: Book, call: Call, id: str, record: Event) -> str:
    value, token = record["result"]
    if value != value_of(call.number):
        return f"its value is {value}"
    run = book.by_token.get(token)
    if run is None or run.id != id:
        return f"its value is from a run of another task: {token}"
    winners = [each for each in book.runs[id] if each.accepted == "SUCCESS"]
    if winners and winners[0] is not run:
        return f"its value is from {token}, though {winners[0].token} was accepted"
    return ""


def wrong_loss(book: Book, call: Call, id: str, record: Event) -> str:
    """A task may fail as lost when its runner died: an early one, or one that did it often."""
    runs = book.runs.get(id, [])
    if call.kind.error == LOST:
        last = runs[-1].start if runs else call.invoked
        most = MOST_CRASHES + 1 + book.faults_between(call.invoked, last) - len(runs)
        return f"poison started {len(runs)} times" if len(runs) > most else ""
    name, pid, _ = record["worker"].rsplit(":", 2)
    if call.kind.early:
        known = any(fault.strikes(name.split("@")[0], int(pid)) for fault in book.telling)
        known = known or any(book.explained(run) for run in runs)
        return "" if known else "failed as lost, though its runner was not killed"
    passed_on = call.kind.afterlife or id in book.letters
    if not passed_on:
        return "failed as lost without a dead letter"
    return "" if sum(map(book.explained, runs)) >= MOST_CRASHES else "condemned without a reason"


def crashes(book: Book) -> Broken:
    """A message is charged with no more crashes than there were."""
    for id, runs in book.runs.items():
        for run in runs:
            charged = run.deliveries - 1
            call = book.calls.get(run.number)
            if charged and call and charged > book.faults_between(call.invoked, run.start):
                yield id, f"charged with {charged} crashes"


def posthumous(book: Book) -> Broken:
    """A consumer that was declared dead settles nothing afterwards."""
    died: dict[str, float] = {}
    for consumer, at in book.deaths:
        died[consumer] = min(at, died.get(consumer, at))
    for one in book.settled:
        if one.accepted and one.sent > died.get(one.consumer, one.sent):
            yield one.id, f"settled by {one.consumer}, which was dead by then"


def told(book: Book) -> Broken:
    """Who waited was told what the record says."""
    for event in book.told:
        record, (state, said) = book.records.get(event["id"]), event["said"]
        if record is None:
            continue
        stored = record.get("result") if state == "SUCCESS" else said
        if state == "FAILURE":
            stored = (record.get("error_type") or "").rpartition(".")[2]
        if record.get("state") != state or stored != said:
            yield event["id"], f"somebody was told {state} {said}"


def slow(book: Book) -> Broken:
    """Work flows again soon after an outage of Redis, unless the next one comes."""
    begin, end = book.produced
    outages = [fault for fault in book.faults if fault.outage or fault.explains == "all"]
    ends = sorted(one.at for one in book.settled if one.accepted)
    for fault in outages:
        limit = fault.ended + BACK_WITHIN
        again = any(other.began < limit and other.ended > fault.ended for other in outages)
        if again or not fault.outage or not begin < fault.began or limit > end:
            continue
        after = [at for at in ends if fault.ended < at <= limit]
        best = max((sum(at <= each < at + 1 for each in after) for at in after), default=0)
        if best < FLOW * book.rate:
            yield fault.fault, f"{best} tasks in the best second of {BACK_WITHIN:g} s after it"


def unrest(book: Book) -> Broken:
    """At the end everything is at rest."""
    for complaint in book.complaints:
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
    told,
    slow,
    unrest,
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a history shows: counts, and for each rule what broke it."""

    counts: dict[str, Any]
    broken: dict[str, list[tuple[str, str]]]

    @property
    def ok(self) -> bool:
        return not any(self.broken.values())

    def line(self, **more: Any) -> str:
        """The verdict as one line of JSON."""
        broken = {rule: len(found) for rule, found in self.broken.items()}
        return json.dumps({"ok": self.ok, **more, **self.counts, **broken})


def check(events: list[Event]) -> Verdict:
    """Judge a history."""
    book = Book(events)
    broken = {rule.__name__: list(rule(book)) for rule in RULES}
    accepted = [call for call in book.calls.values() if call.ids]
    runs = sum(map(len, book.runs.values()))
    tries = len({(run.id, run.retries) for runs in book.runs.values() for run in runs})
    silent = [call for call in book.calls.values() if not call.ids]
    states = Counter(record.get("state") for record in book.records.values())
    counts = {
        "accepted": len(accepted),
        "unknown": len(silent),
        "runs": runs,
        "extra_runs": runs - tries,
        "settled": sum(one.accepted for one in book.settled),
        "refused": sum(not one.accepted for one in book.settled),
        **{str(state).lower(): count for state, count in sorted(states.items(), key=str)},
        "letters": len(book.letters),
        "faults": len([fault for fault in book.faults if fault.fault != "poison"]),
    }
    return Verdict(counts, broken)


def story(events: list[Event], task: str) -> list[Event]:
    """Everything that a history says of one task, and the faults of that time."""
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
    if event["what"] == "settled":
        return any(id.partition("@")[0] == base for id, *_ in event["told"])
    return str(event.get("id", "")).partition("@")[0] == base


def tell(verdict: Verdict, events: list[Event], *, most: int = 3) -> Iterator[str]:
    """What was broken, and the stories of the first few tasks that it happened to."""
    for rule, found in verdict.broken.items():
        for id, why in found[: 4 * most]:
            yield f"{rule}: {id}: {why}"
    ids = [id for found in verdict.broken.values() for id, _ in found[:most]]
    for id in dict.fromkeys(ids):
        yield f"--- {id}"
        for event in story(events, id)[:60]:
            yield json.dumps(event)


if __name__ == "__main__":
    events = read(Path(sys.argv[1]))
    verdict = check(events)
    print("\n".join(tell(verdict, events)))
    print(verdict.line())
    sys.exit(0 if verdict.ok else 1)
