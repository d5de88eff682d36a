"""Inspection of a namespace for people: queues, exchanges and workers; and purging a queue.

Reads take few round trips.  Keys are found through the hashes of queues and exchanges and the
set of workers; Redis is never searched for keys.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from streamq.broker.readers import (
    Readers,
    count_readers,
    first_commands,
    next_commands,
    nodes_up,
    readers_in,
)
from streamq.broker.waiter import as_record
from streamq.core.names import own_id
from streamq.transport.client import Client
from streamq.transport.decode import Text, arguments_in, millis, settings_in, text, texts
from streamq.transport.keys import GROUP, Keys, node_of
from streamq.transport.replies import Denied, Refused, WrongType
from streamq.transport.scripts import load

PURGE = load("purge")

#: Messages that one purge call removes; Redis serves no other client during a script.
PURGED_AT_ONCE = 500
#: Pending messages that are listed in one stream.
MOST_RUNNING = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueState:
    """The state of one queue, summed over its streams."""

    name: str
    ready: int
    running: int
    dead: int
    consumers: int
    #: The workers that read it and are up; None if the user may not know.
    workers: int | None
    settings: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerState:
    """A consumer of a queue: how many messages it holds, and its idle time in seconds."""

    name: str
    running: int
    idle: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingMessage:
    """A message that waits in a stream."""

    stream: str
    entry: str
    id: str
    fields: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class BindingState:
    """A binding: from ``exchange`` to the queue or exchange (``kind``) called ``name``."""

    exchange: str
    kind: str
    name: str
    key: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeState:
    """One exchange with its bindings."""

    name: str
    type: str
    alternate: str | None
    bindings: list[BindingState]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """A message that a runner holds.

    ``since`` is when it was started, else when it was read, in seconds since the epoch.
    """

    consumer: str
    pid: str
    queue: str
    task: str
    id: str
    ack: str
    state: str
    since: float | None


class HeldMessage(NamedTuple):
    """A message that a consumer has read; ``read`` is when, if that is known."""

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


class RunMark(msgspec.Struct):
    """The mark of a message that was acknowledged before its run."""

    stream: str
    fields: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerState:
    """One worker: its own description (``about``), and the messages that its runners hold."""

    node: str
    up: bool
    about: Text
    consumers: list[str]
    running: list[RunInfo] = field(default_factory=list)


class Inspector:
    """An inspector of one namespace."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self.client = client
        self.keys = keys
        #: Kinds of data that the Redis user may not read.
        self.hidden: set[str] = set()
        #: Keys of streamq that hold something else, with the errors that name them.
        self.foreign: dict[str, WrongType] = {}

    # Queues

    def scheduled(self) -> int:
        """The number of scheduled messages, in all queues."""
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
        workers = self.readers()
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
                workers=None if workers is None else count_readers(name, workers),
                settings=settings_in(declared[name]),
            )
            for name, letters in zip(chosen, dead, strict=True)
        ]

    def readers(self) -> Readers | None:
        """The workers that are up, with the queues they read; None if the user may not know."""
        nodes = nodes_up(self.ask(first_commands(self.keys)))
        if nodes is None:
            return None
        return readers_in(nodes, self.ask(next_commands(self.keys, nodes)))

    def consumers(self, queue: str) -> list[ConsumerState]:
        """The consumers of a queue, sorted by name."""
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
            ConsumerState(name=name, running=held, idle=idle)
            for name, (held, idle) in sorted(found.items())
        ]

    def peek(self, queue: str, count: int) -> list[WaitingMessage]:
        """The messages that are probably read next, at most ``count``."""
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
                found.append(WaitingMessage(stream=stream, entry=at, id=id, fields=fields))
        return found[:count]

    def purge(self, queue: str, expires: float) -> int:
        """Remove the messages that wait; their tasks end as REVOKED.

        Records of these tasks expire after ``expires`` seconds.  Returns the number of messages.
        """
        removed = 0
        while True:
            argv = (queue, PURGED_AT_ONCE, int(expires * 1000))
            step = int(self.client.call(PURGE, self.keys.root, *argv))
            removed += step
            if step < PURGED_AT_ONCE:
                return removed

    # Exchanges

    def exchanges(self) -> list[ExchangeState]:
        """Every exchange with its bindings, sorted by name."""
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
                    binding_from(name, types[name], place, arguments)
                    for place, arguments in sorted(texts(reply).items())
                ],
            )
            for name, reply in zip(names, replies, strict=True)
        ]

    # Workers

    def workers(self) -> list[WorkerState]:
        """Every worker and the messages it holds, sorted by node."""
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

    def runs(self, queues: Sequence[str], consumers: Sequence[str], now: float) -> list[RunInfo]:
        """The messages that runners hold, the oldest first, with the state of their tasks."""
        held = [*self.pending(queues, now), *self.early_acked(consumers)]
        records = self.ask(
            [("HMGET", self.keys.task(one.id), "state", "started") for one in held], "records"
        )
        found = [
            RunInfo(
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

    def pending(self, queues: Sequence[str], now: float) -> Iterator[HeldMessage]:
        """Messages that were read and not acknowledged yet (late ack)."""
        keys = [key for queue in queues for key in self.keys.streams(queue)]
        lists = self.ask([("XPENDING", key, GROUP, "-", "+", MOST_RUNNING) for key in keys])
        places = [(key, *one) for key, list in zip(keys, lists, strict=True) for one in list or ()]
        entries = self.ask([("XRANGE", key, id, id) for key, id, *_ in places], "messages")
        for (key, entry, consumer, idle, _), reply in zip(places, entries, strict=True):
            if reply or reply is None:  # an empty reply: it was settled meanwhile
                stream = key.removeprefix(f"{self.keys.root}:queue:")
                fields, read = texts(reply[0][1] if reply else ()), now - int(idle) / 1000
                yield HeldMessage(text(consumer), stream, text(entry), fields, "late", read)

    def early_acked(self, consumers: Sequence[str]) -> Iterator[HeldMessage]:
        """Messages that were acknowledged before their run and have not finished (early ack)."""
        marks = self.ask(
            [("HGETALL", self.keys.started(consumer)) for consumer in consumers], "messages"
        )
        for consumer, reply in zip(consumers, marks, strict=True):
            for place, mark in as_record(reply).items():
                # Arguments may be bytes of any kind; only text can be shown.
                try:
                    what = msgspec.json.decode(mark.decode(errors="replace"), type=RunMark)
                except msgspec.DecodeError:
                    continue  # not written by streamq
                fields = dict(zip(what.fields[::2], what.fields[1::2], strict=False))
                yield HeldMessage(
                    consumer, what.stream, place.split(" ")[-1], fields, "early", None
                )

    def ask(self, commands: list[tuple[Any, ...]], kind: str = "") -> list[Any]:
        """Run commands in one round trip.

        The reply is None for a command that is refused, for instance because the stream does not
        exist, or that the user may not run (``kind`` is then noted in ``hidden``), and for a key
        that holds something else (noted in ``foreign``).
        """
        replies = self.client.try_all(commands)
        for reply in replies:
            if kind and isinstance(reply, Denied):
                self.hidden.add(kind)
            elif isinstance(reply, WrongType):
                self.foreign.setdefault(reply.key, reply)
            elif isinstance(reply, Exception) and not isinstance(reply, Refused):
                raise reply
        return [None if isinstance(reply, Exception) else reply for reply in replies]


def our_group(reply: Any) -> Text:
    """The group ``workers`` in a reply of XINFO GROUPS; empty if it does not exist."""
    groups = [texts(flat) for flat in reply or ()]
    return next((group for group in groups if group["name"] == GROUP), {})


def pid_of(consumer: str) -> str:
    """The process id in the name of a consumer; empty if there is none."""
    return consumer.rsplit(":", 2)[-2] if consumer.count(":") > 1 else ""


def binding_from(exchange: str, type: str, place: str, arguments: str) -> BindingState:
    """Parse the field ``KIND:NAME:KEY`` of a binding; headers bindings end with ``?ARGUMENTS``."""
    kind, name, key = [*place.split(":", 2), "", ""][:3]
    if type == "headers":
        key = key.rpartition("?")[0]
    asked = arguments_in(arguments)
    return BindingState(exchange=exchange, kind=kind, name=name, key=key, arguments=asked)
