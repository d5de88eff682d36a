"""The checks after every step: Redis holds what the model does, and nothing is lost.

The expected contents of Redis are written out key by key; invariants that need no model are
checked too.
"""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from streamq.transport.keys import Keys
from tests.model.broker import Broker
from tests.model.server import Held, Seen
from tests.model.values import FINAL, HOUR, queue_of

#: Keys of the topology, which has a model of its own, and the descriptions of workers.
ELSEWHERE = {"exchanges", "alternates", "bindings", "routes", "queues", "workers", "worker"}
#: Milliseconds for which the generation of an id without a record is kept.
NUMBER_LIFE = 30 * 24 * HOUR
#: Keys that always expire; records and letters have rules of their own.
EXPIRING = {
    "publisher",
    "dedup",
    "settled",
    "revoked",
    "terminating",
    "orphans",
    "group_scan",
    "reply",
}
EXPIRING |= {"waiters", "generation"}
#: The kinds of keys that may be left at rest: topology, bounded stores, and what expires.
AT_REST = EXPIRING | {"exchanges", "alternates", "bindings", "routes", "queues", "queue"}
AT_REST |= {"workers", "worker", "task", "dead", "quarantine"}


def kinds_of_keys() -> set[str]:
    """The kinds of keys that `streamq.transport.keys` knows."""
    keys, kinds = Keys(), set()
    for name, member in inspect.getmembers(Keys):
        if isinstance(member, property):
            kinds.add(str(getattr(keys, name)))
        elif inspect.isfunction(member) and not name.startswith("_") and name != "streams":
            needed = len(inspect.signature(member).parameters) - 1
            kinds.add(str(getattr(keys, name)(*["1", "1"][: min(needed, 2)])))
    return {kind.split(":")[1] for kind in kinds if ":" in kind}


KINDS = kinds_of_keys()


class Checks:
    """The invariants; keeps how tasks have ended, because that may not change."""

    def __init__(self) -> None:
        self.finals: dict[str, tuple[object, ...]] = {}

    def check(self, model: Broker, seen: Mapping[str, Seen]) -> None:
        """Check all that must hold after a step."""
        learn(model, seen)
        compare(model, seen)
        for key, each in seen.items():
            check_life(model, key, each.life)
        self.check_finals(seen)
        assert not model.balance(), f"lost (> 0) or twice (< 0): {model.balance()}"
        check_reach(model)

    def check_finals(self, seen: Mapping[str, Seen]) -> None:
        """Check that an end is written once in each generation of a record."""
        now = {}
        for key, each in seen.items():
            if key.startswith("task:") and each.holds.get("state") in FINAL:
                names = ("generation", "enqueued", "state", "result", "error", "finished", "worker")
                now[key] = tuple(each.holds.get(name) for name in names)
                before = self.finals.get(key, now[key])
                assert before[:2] != now[key][:2] or before == now[key], f"{key} has ended twice"
        for key, before in self.finals.items():
            if key in seen and key not in now:
                again = seen[key].holds.get("generation")
                assert again != before[0], f"{key} had ended, and begins again"
        self.finals = now


def learn(model: Broker, seen: Mapping[str, Seen]) -> None:
    """Give the model the ids that Redis made for new entries."""
    for name, stream in model.streams.items():
        entries = seen[f"queue:{name}"].holds.entries if f"queue:{name}" in seen else ()
        for copy, (entry, _, _) in zip(stream.copies, entries, strict=False):
            copy.entry = copy.entry or entry


def compare(model: Broker, seen: Mapping[str, Seen]) -> None:
    """Check that every key holds what the model says."""
    expected = dict(contents(model))
    for key in seen.keys() | expected.keys():
        kind = key.partition(":")[0]
        assert kind in KINDS, f"{key} is of no kind that streamq/transport/keys.py knows"
        if kind in ELSEWHERE:
            continue
        holds = seen[key].holds if key in seen else None
        if kind == "reply" and holds is not None:
            holds = [(news["id"], news.get("state", "")) for _, news, _ in holds.entries]
        wanted = expected.get(key)
        assert holds == wanted, f"{key} holds {holds!r}, expected is {wanted!r}"


def contents(model: Broker) -> Iterator[tuple[str, Any]]:
    """The contents of every key according to the model."""
    for name, stream in model.streams.items():
        entries = tuple((copy.entry, copy.fields, copy.holder) for copy in stream.copies)
        yield f"queue:{name}", Held(stream.group, entries, frozenset(stream.consumers))
    for id, record in model.records.items():
        if record.state:
            yield f"task:{id}", model.shown(record)
        else:  # there is no record yet, but a waiter
            yield f"waiters:{id}", " ".join(record.waiters)
    for waiter, news in model.replies.items():
        yield f"reply:{waiter}", news
    for name, (_, _, fields) in model.scheduled.items():
        yield f"scheduled:{name}", fields
    for queue, letters in model.dead.items():
        yield f"dead:{queue}", {name: str(at) for name, (at, _) in letters.items()}
        for name, (_, fields) in letters.items():
            yield f"dead:{queue}:{name}", fields
    for consumer in model.marks.keys() | model.sole_task.keys():
        marks = {place: mark.text() for place, mark in model.marks.get(consumer, {}).items()}
        sole_task = {"sole_task": model.sole_task[consumer]} if consumer in model.sole_task else {}
        if marks or sole_task:
            yield f"started:{consumer}", marks | sole_task
    for channel, (number, first, answers) in model.channels.items():
        yield f"publisher:{channel}", "\n".join([f"{number} {first}", *answers])
    for consumer, (text, answer) in model.settled.items():
        yield f"settled:{consumer}", f"{text} {answer}"
    for id, number in model.numbers.items():
        yield f"generation:{id}", number
    for id, answer in model.dedup.items():
        yield f"dedup:{id}", answer
    yield from tables(model)


def tables(model: Broker) -> Iterator[tuple[str, Any]]:
    """The contents of sorted sets and sets; an empty one does not exist."""
    sorted_sets: dict[str, Mapping[str, int]] = {
        "scheduled": {name: due for name, (due, _, _) in model.scheduled.items()},
        "leases": model.leases,
        "revoked": model.revoked,
        "terminating": model.terminating,
        "orphans": model.orphans,
    }
    for key, table in sorted_sets.items():
        if table:
            yield key, {member: str(score) for member, score in table.items()}
    for key, members in {"quarantine": model.quarantine, "dead": set(model.dead)}.items():
        if members:
            yield key, members
    if model.lease_ms:
        yield "lease_ms", model.lease_ms
    if model.scanned:
        yield "group_scan", "1"


def check_life(model: Broker, key: str, life: int) -> None:
    """Check the life of a key: a record expires only after its task has ended."""
    kind, _, name = key.partition(":")
    if kind == "task":
        most = model.records[name].life
        assert (0 < life <= most) if most else life == -1, f"{key} lives for {life} ms of {most}"
    elif kind == "generation":
        assert 0 < life <= NUMBER_LIFE, f"{key} lives for {life} ms"
    elif kind in EXPIRING or kind == "dead":
        assert 0 < life <= HOUR, f"{key} lives for {life} ms"
    elif kind != "worker":
        assert life == -1, f"{key} lives for {life} ms"


def check_reach(model: Broker) -> None:
    """Check that what waits is in a stream that workers read."""
    for name, stream in model.streams.items():
        if stream.copies:
            assert stream.group, f"no consumer can read what waits in {name}"
            assert queue_of(name) in model.queues, f"{name} belongs to no queue"


def check_rest(seen: Mapping[str, Seen]) -> None:
    """Check that at rest only topology and what is bounded or expires is left."""
    for key, each in seen.items():
        kind = key.partition(":")[0]
        assert kind in AT_REST, f"{key} was left behind"
        if kind == "queue":
            assert not each.holds.entries, f"{key} holds {each.holds.entries}"
            assert not each.holds.consumers, f"{key} is known to {each.holds.consumers}"
        elif kind == "task":
            assert each.life > 0, f"{key} stays for ever: {each.holds}"
