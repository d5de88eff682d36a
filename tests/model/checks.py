"""What must hold after every step: Redis holds what the model does, and nothing is lost.

What is expected of Redis is written out whole, key by key; what must hold whatever the
model says is checked besides.
"""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from streamq.transport.keys import Keys
from tests.model.broker import Broker
from tests.model.ledger import FINAL, HOUR, queue_of
from tests.model.server import Held, Seen

#: Keys of the topology, which has a model of its own; and what workers say of themselves.
ELSEWHERE = {"exchanges", "alternates", "bindings", "routes", "queues", "workers", "worker"}
#: How long the number of an id is kept for which there is no record.
NUMBER_LIFE = 30 * 24 * HOUR
#: Keys that always expire; records and letters have rules of their own.
EXPIRING = {"lane", "dedup", "settled", "revoked", "terminating", "orphans", "survey", "reply"}
EXPIRING |= {"wish", "generation"}
#: What may be left when nothing is going on: topology, stores with bounds, and what expires.
AT_REST = EXPIRING | {"exchanges", "alternates", "bindings", "routes", "queues", "queue"}
AT_REST |= {"workers", "worker", "task", "dead", "suspects"}


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
    """Remembers how tasks have ended, because that may not change."""

    def __init__(self) -> None:
        self.finals: dict[str, tuple[object, ...]] = {}

    def check(self, model: Broker, seen: Mapping[str, Seen]) -> None:
        learn(model, seen)
        compare(model, seen)
        for key, each in seen.items():
            check_life(model, key, each.life)
        self.check_finals(seen)
        assert not model.balance(), f"lost (> 0) or twice (< 0): {model.balance()}"
        check_reach(model)

    def check_finals(self, seen: Mapping[str, Seen]) -> None:
        """How a task has ended is written once in each generation of its record."""
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
    """Tell the model what Redis calls the entries that were added."""
    for name, stream in model.streams.items():
        entries = seen[f"queue:{name}"].holds.entries if f"queue:{name}" in seen else ()
        for copy, (entry, _, _) in zip(stream.copies, entries, strict=False):
            copy.entry = copy.entry or entry


def compare(model: Broker, seen: Mapping[str, Seen]) -> None:
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
    """What every key holds, as the model sees it."""
    for name, stream in model.streams.items():
        entries = tuple((copy.entry, copy.fields, copy.holder) for copy in stream.copies)
        yield f"queue:{name}", Held(stream.group, entries, frozenset(stream.consumers))
    for id, record in model.records.items():
        if record.state:
            yield f"task:{id}", model.shown(record)
        else:  # nobody has written one yet: somebody waits for it
            yield f"wish:{id}", " ".join(record.waiters)
    for waiter, news in model.news.items():
        yield f"reply:{waiter}", news
    for name, (_, _, fields) in model.scheduled.items():
        yield f"scheduled:{name}", fields
    for queue, letters in model.dead.items():
        yield f"dead:{queue}", {name: str(at) for name, (at, _) in letters.items()}
        for name, (_, fields) in letters.items():
            yield f"dead:{queue}:{name}", fields
    for consumer in model.marks.keys() | model.alone.keys():
        marks = {place: mark.text() for place, mark in model.marks.get(consumer, {}).items()}
        alone = {"alone": model.alone[consumer]} if consumer in model.alone else {}
        if marks or alone:
            yield f"started:{consumer}", marks | alone
    for lane, (number, first, answers) in model.lanes.items():
        yield f"lane:{lane}", "\n".join([f"{number} {first}", *answers])
    for consumer, (text, answer) in model.settled.items():
        yield f"settled:{consumer}", f"{text} {answer}"
    for id, number in model.numbers.items():
        yield f"generation:{id}", number
    for id, answer in model.dedup.items():
        yield f"dedup:{id}", answer
    yield from tables(model)


def tables(model: Broker) -> Iterator[tuple[str, Any]]:
    """The sorted sets and sets; one that is empty is not there."""
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
    for key, members in {"suspects": model.suspects, "dead": set(model.dead)}.items():
        if members:
            yield key, members
    if model.lease_ms:
        yield "lease_ms", model.lease_ms
    if model.surveyed:
        yield "survey", "1"


def check_life(model: Broker, key: str, life: int) -> None:
    """A record expires once its task has ended, and not before; what is bounded expires."""
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
    """What waits, waits where a worker looks."""
    for name, stream in model.streams.items():
        if stream.copies:
            assert stream.group, f"nobody can read what waits in {name}"
            assert queue_of(name) in model.queues, f"{name} belongs to no queue"


def check_rest(seen: Mapping[str, Seen]) -> None:
    """When everything has ended, only topology and what is bounded or expires is left."""
    for key, each in seen.items():
        kind = key.partition(":")[0]
        assert kind in AT_REST, f"{key} was left behind"
        if kind == "queue":
            assert not each.holds.entries, f"{key} holds {each.holds.entries}"
            assert not each.holds.consumers, f"{key} is known to {each.holds.consumers}"
        elif kind == "task":
            assert each.life > 0, f"{key} stays for ever: {each.holds}"
