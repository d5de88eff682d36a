"""For people: what is in Redis, read in few round trips, and mended where they ask.

Everything is found through the hashes of queues and exchanges and the set of workers:
no key is ever searched for.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from streamq.broker.waiter import as_record
from streamq.core.names import own_id
from streamq.transport.client import Client
from streamq.transport.decode import Text, arguments_in, millis, settings_in, text, texts
from streamq.transport.keys import GROUP, Keys, node_of
from streamq.transport.replies import Denied, Foreign, Refused
from streamq.transport.scripts import load

PURGE = load("purge")

#: Messages that one purge call removes: a script during which Redis serves nobody else.
PURGED_AT_ONCE = 500
#: Running messages that are looked at in one stream.
MOST_RUNNING = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueState:
    """One queue, summed over its streams."""

    name: str
    ready: int
    running: int
    dead: int
    consumers: int
    settings: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A consumer of a queue: how many messages it holds, and how long it has been silent."""

    name: str
    running: int
    idle: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A message that waits."""

    stream: str
    entry: str
    id: str
    fields: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A binding: from ``exchange`` to the queue or exchange (``kind``) called ``name``."""

    exchange: str
    kind: str
    name: str
    key: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeState:
    """One exchange with what is bound to it."""

    name: str
    type: str
    alternate: str | None
    bindings: list[Bound]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A message in the hands of a runner.  ``since`` is when it was started, or else read."""

    consumer: str
    pid: str
    queue: str
    task: str
    id: str
    ack: str
    state: str
    since: float | None


class Held(NamedTuple):
    """A message that a consumer has read, and when it did, if that is known."""

    consumer: str
    stream: str
    entry: str
    fields: Text
    ack: str
    read: float | None

    @property
    def queue(self) -> str:
        return self.stream.partition(":")[0]

    @property
    def id(self) -> str:
        return self.fields.get("id") or own_id(self.queue, self.entry)


class Mark(msgspec.Struct):
    """What is kept of a message that was acknowledged before its run."""

    stream: str
    fields: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerState:
    """One worker: what it says about itself, and what it holds by what Redis says."""

    node: str
    up: bool
    about: Text
    consumers: list[str]
    running: list[Run] = field(default_factory=list)


class Inspector:
    """Reads and mends one namespace."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self.client = client
        self.keys = keys
        #: What the user was not permitted to look at.
        self.hidden: set[str] = set()
        #: What stands where our keys should be, as errors that name them.
        self.foreign: dict[str, Foreign] = {}

    # Queues

    def scheduled(self) -> int:
        """How many messages are for later, in all queues."""
        (found,) = self.ask([("ZCARD", self.keys.scheduled)])
        return int(found or 0)

    def queues(self, names: Iterable[str] | None = None) -> list[QueueState]:
        """The state of these queues, or of all that are declared, by name."""
        declared = texts(self.client.ask("HGETALL", self.keys.queues))
        chosen = sorted(declared if names is None else [name for name in names if name in declared])
        streams = [(name, key) for name in chosen for key in self.keys.streams(name)]
        lengths = self.ask([("XLEN", key) for _, key in streams])
        groups = self.ask([("XINFO", "GROUPS", key) for _, key in streams])
        dead = self.ask([("ZCARD", self.keys.dead(name)) for name in chosen])
        found = {name: [0, 0, 0] for name in chosen}
        for (name, _), length, group in zip(streams, lengths, groups, strict=True):
            ours = our_group(group)
            pending, consumers = int(ours.get("pending", 0)), int(ours.get("consumers", 0))
            sums = found[name]
            found[name] = [
                sums[0] + int(length or 0) - pending, sums[1] + pending, max(sums[2], consumers)
            ]  # fmt: skip
        return [
            QueueState(
                name=name,
                ready=found[name][0],
                running=found[name][1],
                dead=int(letters or 0),
                consumers=found[name][2],
                settings=settings_in(declared[name]),
            )
            for name, letters in zip(chosen, dead, strict=True)
        ]

    def readers(self, queue: str) -> list[Reader]:
        """The consumers of a queue, by name."""
        commands = [("XINFO", "CONSUMERS", key, GROUP) for key in self.keys.streams(queue)]
        found: dict[str, tuple[int, float]] = {}
        for reply in self.ask(commands):
            for flat in reply if isinstance(reply, list) else ():
                one = texts(flat)
                held, idle = found.get(one["name"], (0, float("inf")))
                found[one["name"]] = (
                    held + int(one["pending"]), min(idle, int(one["idle"]) / 1000)
                )  # fmt: skip
        return [
            Reader(name=name, running=held, idle=idle)
            for name, (held, idle) in sorted(found.items())
        ]

    def peek(self, queue: str, count: int) -> list[Waiting]:
        """The messages that are read next, as far as that can be foretold."""
        streams = self.keys.streams(queue)
        groups = self.ask([("XINFO", "GROUPS", key) for key in streams])
        reads = [
            (
                "XRANGE",
                key,
                f"({our_group(group).get('last-delivered-id', '0-0')}",
                "+",
                "COUNT",
                count,
            )
            for key, group in zip(streams, groups, strict=True)
        ]
        found = []
        for key, entries in zip(streams, self.ask(reads), strict=True):
            stream = key.removeprefix(f"{self.keys.root}:queue:")
            for entry, flat in entries if isinstance(entries, list) else ():
                fields, at = texts(flat), text(entry)
                id = fields.get("id") or own_id(queue, at)
                found.append(Waiting(stream=stream, entry=at, id=id, fields=fields))
        return found[:count]

    def purge(self, queue: str, expires: float) -> int:
        """Remove what waits; its tasks end as REVOKED.  Returns how many there were."""
        removed = 0
        while True:
            argv = (queue, PURGED_AT_ONCE, int(expires * 1000))
            step = int(self.client.call(PURGE, self.keys.root, *argv))
            removed += step
            if step < PURGED_AT_ONCE:
                return removed

    # Exchanges

    def exchanges(self) -> list[ExchangeState]:
        """Every exchange with its bindings, by name."""
        types, alternates = map(
            texts,
            self.ask([("HGETALL", self.keys.exchanges), ("HGETALL", self.keys.alternates)]),
        )
        names = sorted(types)
        replies = self.ask([("HGETALL", self.keys.bindings(name)) for name in names])
        return [
            ExchangeState(
                name=name,
                type=types[name],
                alternate=alternates.get(name),
                bindings=[
                    bound(name, types[name], place, arguments)
                    for place, arguments in sorted(texts(reply).items())
                ],
            )
            for name, reply in zip(names, replies, strict=True)
        ]

    # Workers

    def workers(self) -> list[WorkerState]:
        """Every worker and what it holds, by node."""
        seen, leases, clock, queues = self.client.ask_all(
            [
                ("ZRANGE", self.keys.workers, 0, -1, "WITHSCORES"),
                ("ZRANGE", self.keys.leases, 0, -1),
                ("TIME",),
                ("HKEYS", self.keys.queues),
            ]
        )
        now = int(clock[0]) + int(clock[1]) / 1e6
        until = {node: float(score) / 1000 for node, score in texts(seen).items()}
        consumers = [text(consumer) for consumer in leases]
        runs = self.runs([text(name) for name in queues], consumers, now)
        everyone = sorted({*consumers, *(run.consumer for run in runs)})
        nodes = sorted({*until, *map(node_of, everyone)})
        about = self.ask([("HGETALL", self.keys.worker(node)) for node in nodes])
        return [
            WorkerState(
                node=node,
                up=until.get(node, 0) > now,
                about=texts(facts),
                consumers=[consumer for consumer in everyone if node_of(consumer) == node],
                running=[run for run in runs if node_of(run.consumer) == node],
            )
            for node, facts in zip(nodes, about, strict=True)
        ]

    def runs(self, queues: Sequence[str], consumers: Sequence[str], now: float) -> list[Run]:
        """What runners hold, the longest first; the records know what of it has started."""
        held = [*self.pending(queues, now), *self.marked(consumers)]
        records = self.look(
            "records", [("HMGET", self.keys.task(one.id), "state", "started") for one in held]
        )
        found = [
            Run(
                consumer=one.consumer,
                pid=pid_of(one.consumer),
                queue=one.queue,
                task=one.fields.get("task", ""),
                id=one.id if one.fields else "",
                ack=one.ack,
                state=text(state or b""),
                since=millis(text(started or b"")) or one.read,
            )
            for one, record in zip(held, records, strict=True)
            for state, started in [record or (None, None)]
        ]
        return sorted(found, key=lambda run: run.since or 0)

    def pending(self, queues: Sequence[str], now: float) -> Iterator[Held]:
        """Messages that were read and are acknowledged late."""
        keys = [key for queue in queues for key in self.keys.streams(queue)]
        lists = self.ask([("XPENDING", key, GROUP, "-", "+", MOST_RUNNING) for key in keys])
        places = [(key, *one) for key, list in zip(keys, lists, strict=True) for one in list or ()]
        entries = self.look("messages", [("XRANGE", key, id, id) for key, id, *_ in places])
        for (key, entry, consumer, idle, _), reply in zip(places, entries, strict=True):
            if reply or reply is None:  # else it was settled meanwhile
                stream = key.removeprefix(f"{self.keys.root}:queue:")
                fields, read = texts(reply[0][1] if reply else ()), now - int(idle) / 1000
                yield Held(text(consumer), stream, text(entry), fields, "late", read)

    def marked(self, consumers: Sequence[str]) -> Iterator[Held]:
        """Messages that were acknowledged before their run, which has not ended."""
        marks = self.look(
            "messages", [("HGETALL", self.keys.started(consumer)) for consumer in consumers]
        )
        for consumer, reply in zip(consumers, marks, strict=True):
            for place, mark in as_record(reply).items():
                # Arguments may be bytes of any kind; only text can be shown.
                try:
                    what = msgspec.json.decode(mark.decode(errors="replace"), type=Mark)
                except msgspec.DecodeError:
                    continue  # nobody of ours has written that
                fields = dict(zip(what.fields[::2], what.fields[1::2], strict=False))
                yield Held(consumer, what.stream, place.split(" ")[-1], fields, "early", None)

    def ask(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Ask in one round trip.  What is refused, as for a stream that is not there, is None.

        So is a key that holds something else, which ``foreign`` remembers.
        """
        return self.look("", commands)

    def look(self, what: str, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Ask in one round trip for something that may be ``hidden`` from the user: then None."""
        replies = self.client.try_all(commands)
        for reply in replies:
            if what and isinstance(reply, Denied):
                self.hidden.add(what)
            elif isinstance(reply, Foreign):
                self.foreign.setdefault(reply.key, reply)
            elif isinstance(reply, Exception) and not isinstance(reply, Refused):
                raise reply
        return [None if isinstance(reply, Exception) else reply for reply in replies]


def our_group(reply: Any) -> Text:
    """The consumer group of the workers among those of a stream, if it is there."""
    groups = [texts(flat) for flat in reply or ()]
    return next((group for group in groups if group["name"] == GROUP), {})


def pid_of(consumer: str) -> str:
    """The process that a consumer is."""
    return consumer.rsplit(":", 2)[-2] if consumer.count(":") > 1 else ""


def bound(exchange: str, type: str, place: str, arguments: str) -> Bound:
    """A binding from its field ``KIND:NAME:KEY``; headers bindings end with ``?ARGUMENTS``."""
    kind, name, key = [*place.split(":", 2), "", ""][:3]
    if type == "headers":
        key = key.rpartition("?")[0]
    asked = arguments_in(arguments)
    return Bound(exchange=exchange, kind=kind, name=name, key=key, arguments=asked)
