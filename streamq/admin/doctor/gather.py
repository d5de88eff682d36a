"""Fact gathering for the doctor: few round trips, no command that blocks other clients.

Facts that the Redis user may not ask for are left out.  ``checks.py`` judges them.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

from streamq.acl.rights import missing_rights
from streamq.acl.roles import RIGHTS, ROLES
from streamq.admin.doctor.facts import Facts, KeyFacts, QueueFacts
from streamq.admin.doctor.leaks import LeakScan
from streamq.admin.doctor.server import is_loopback
from streamq.admin.inspector import Inspector, QueueState, our_group
from streamq.core.text import mask_url
from streamq.host import clock
from streamq.transport.client import Client
from streamq.transport.decode import Text, text, texts
from streamq.transport.keys import GROUP, HIGHEST_LEVEL, Keys
from streamq.transport.replies import Denied, Refused, WrongType

#: Settings of the server that checks need.
SETTINGS = (
    "appendfsync", "save", "min-replicas-to-write", "busy-reply-threshold", "timeout",
    "tcp-keepalive", "maxclients", "bind", "protected-mode", "port",
)  # fmt: skip

#: The Redis type of each key that exists once in a namespace.
TYPES = {
    **dict.fromkeys(("exchanges", "alternates", "queues", "lease_ms"), "hash"),
    **dict.fromkeys(("scheduled", "revoked", "schedules", "terminating"), "zset"),
    **dict.fromkeys(("leases", "orphans", "workers"), "zset"),
    **dict.fromkeys(("dead", "quarantine"), "set"),
}

#: Digits that the milliseconds of an entry's id have, if a clock made it.
LONGEST_TIME = 15

#: Keys that are scanned, and pending messages that are checked.
KEYS_SCANNED = 10_000
PENDING_CHECKED = 500


class GatherFacts:
    """A gatherer of facts about one Redis and one namespace."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self.client = client
        self.keys = keys
        self.inspector = Inspector(client, keys)

    def facts(self) -> Facts:
        """Gather all facts.  Raises BrokerUnavailable if Redis does not answer."""
        url = self.client.url
        info, config, whoami, default, clients = self.try_all(
            ("INFO",),
            ("CONFIG", "GET", *SETTINGS),
            ("ACL", "WHOAMI"),
            ("ACL", "GETUSER", "default"),
            ("CLIENT", "LIST"),
        )
        ahead, round_trip = self.clock()
        about: dict[str, Any] = {
            "url": mask_url(url),
            "root": self.keys.root,
            "remote": is_remote(url),
            "info": dict(
                line.split(":", 1) for line in text(info or b"").splitlines() if ":" in line
            ),
            "config": None if config is None else texts(config),
            "ahead": ahead,
            "round_trip": round_trip,
            "user": None if whoami is None else text(whoami),
            "nopass": nopass(default, url),
            "missing": self.missing(),
            "may": [
                name
                for name, right in RIGHTS.items()
                if not missing_rights(self.client, self.keys, right.needs)
            ],
            "clients": None if clients is None else our_clients(text(clients)),
        }
        try:
            about |= self.contents()
        except (Denied, Refused) as refused:
            about["unreadable"] = str(refused).partition("\n")[0]
            if isinstance(refused, WrongType):
                self.inspector.foreign[refused.key] = refused
        return Facts(**about, foreign=self.foreign([each.name for each in about.get("queues", ())]))

    def clock(self) -> tuple[float, float]:
        """Seconds that the server's clock is ahead of ours, and the round trip in seconds."""
        try:
            before = clock.time()
            seconds, micros = self.client.ask("TIME")
            after = clock.time()
        except Denied:
            return 0.0, 0.0
        return int(seconds) + int(micros) / 1e6 - (before + after) / 2, after - before

    def missing(self) -> Mapping[str, Sequence[str]] | None:
        """The rights that the user lacks: role → rights."""
        return {
            role: missing_rights(self.client, self.keys, ROLES[role].needs)
            for role in ("producer", "worker")
        }

    # The namespace

    def foreign(self, queues: Sequence[str]) -> dict[str, str]:
        """Keys of streamq that hold something else: key → what it is.

        Without the right to run TYPE, only those that other commands have met.
        """
        kinds = {f"{self.keys.root}:{name}": kind for name, kind in TYPES.items()}
        kinds |= {self.keys.dead(queue): "zset" for queue in queues}
        kinds |= {key: "stream" for queue in queues for key in self.keys.streams(queue)}
        (schedules,) = self.try_all(("ZRANGE", self.keys.schedules, 0, -1))
        kinds |= {self.keys.schedule(text(name)): "hash" for name in schedules or ()}
        for exchange in texts(*self.try_all(("HGETALL", self.keys.exchanges))):
            kinds |= {self.keys.bindings(exchange): "hash", self.keys.routes(exchange): "hash"}
        found = self.try_all(*(("TYPE", key) for key in kinds))
        met = dict.fromkeys(self.inspector.foreign, "holds something that is not streamq's")
        return met | {
            key: f"is a {text(type)}, where streamq keeps a {kind}"
            for (key, kind), type in zip(kinds.items(), found, strict=True)
            if type is not None and text(type) not in (kind, "none")
        }

    def contents(self) -> dict[str, Any]:
        """The facts about the contents of the namespace, by the names of ``Facts``."""
        seen, leases, clock = self.client.ask_all(
            [
                ("ZRANGE", self.keys.workers, 0, -1, "WITHSCORES"),
                ("ZRANGE", self.keys.leases, 0, -1, "WITHSCORES"),
                ("TIME",),
            ]
        )
        queues = self.queues()
        scheduled, schedules = self.try_all(
            ("ZCARD", self.keys.scheduled),
            ("ZRANGE", self.keys.schedules, 0, -1, "WITHSCORES"),
        )
        now = int(clock[0]) * 1000
        over = {name: (now - float(until)) / 1000 for name, until in texts(leases).items()}
        living = [node for node, until in texts(seen).items() if float(until) > now]
        described = self.client.ask_all([("HGETALL", self.keys.worker(node)) for node in living])
        workers = dict(zip(living, map(texts, described), strict=True))
        return {
            "queues": queues,
            "dead": self.dead([queue.name for queue in queues]),
            "scheduled": scheduled,
            "schedules": None if schedules is None else since_due(texts(schedules), now),
            "leases": over,
            "workers": {node: about.get("queues", "").split() for node, about in workers.items()},
            "levels": levels_read(workers.values()),
            "deleted_pending": self.deleted_pending(queues),
            "keys": self.sample(queues, list(over)),
        }

    def queues(self) -> list[QueueFacts]:
        return [
            QueueFacts(
                name=state.name,
                length=state.ready + state.running,
                pending=state.running,
                max_priority=levels_of(state),
                levels=self.levels(state.name),
                out_of_ids=self.out_of_ids(state.name),
                consumers={
                    each.name: each.running for each in self.inspector.consumers(state.name)
                },
            )
            for state in self.inspector.queues()
        ]

    def out_of_ids(self, queue: str) -> list[str]:
        """The streams of a queue whose ids are used up, or soon will be.

        If XINFO STREAM is not permitted, the last entry that was read decides.
        """
        keys = self.keys.streams(queue)
        streams = self.try_all(*(("XINFO", "STREAM", key) for key in keys))
        groups = self.try_all(*(("XINFO", "GROUPS", key) for key in keys))
        prefix = len(self.keys.queue(""))
        found = []
        for key, stream, read in zip(keys, streams, groups, strict=True):
            about = dict(zip(stream[::2], stream[1::2], strict=True)) if stream else {}
            last = about.get(b"last-generated-id") or our_group(read).get("last-delivered-id", "")
            if len(text(last).partition("-")[0]) > LONGEST_TIME:
                found.append(key[prefix:])
        return found

    def levels(self, queue: str) -> dict[int, int]:
        """The messages that wait in each priority level from 1 on, without empty levels."""
        keys = {level: self.keys.queue(queue, level) for level in range(1, HIGHEST_LEVEL + 1)}
        lengths = self.try_all(*(("XLEN", key) for key in keys.values()))
        filled = {level: length for level, length in zip(keys, lengths, strict=True) if length}
        held = self.try_all(*(("XPENDING", keys[level], GROUP) for level in filled))
        waiting = {
            level: length - int(pending[0] if pending else 0)
            for (level, length), pending in zip(filled.items(), held, strict=True)
        }
        return {level: number for level, number in waiting.items() if number > 0}

    def dead(self, declared: Sequence[str]) -> dict[str, int]:
        """The queues that have dead letters: queue → number."""
        (others,) = self.try_all(("SMEMBERS", self.keys.queues_with_dead))
        names = sorted({*declared, *map(text, others or ())})
        letters = self.try_all(*(("ZCARD", self.keys.dead(name)) for name in names))
        return {name: int(each) for name, each in zip(names, letters, strict=True) if each}

    def sample(self, queues: Sequence[QueueFacts], leases: Sequence[str]) -> KeyFacts | None:
        """Scan some keys for data that was left behind; None if SCAN is not permitted."""
        marks = self.try_all(*(("HLEN", self.keys.started(consumer)) for consumer in leases))
        # An early-acknowledged message is in no queue although its task still runs: then no queue
        # counts as empty.
        none_early = not any(marks)
        empty = [queue.name for queue in queues if none_early and not queue.length]
        declared = [queue.name for queue in queues]
        return LeakScan(self.client, self.keys).sample(KEYS_SCANNED, declared, leases, empty)

    def deleted_pending(self, queues: Sequence[QueueFacts]) -> dict[str, int] | None:
        """The pending entries without a message: stream → number; None if not permitted."""
        streams = [
            key for queue in queues if queue.pending for key in self.keys.streams(queue.name)
        ]
        listed = self.try_all(
            *(("XPENDING", key, GROUP, "-", "+", PENDING_CHECKED) for key in streams)
        )
        places = [
            (key, entry[0])
            for key, entries in zip(streams, listed, strict=True)
            for entry in entries or ()
        ][:PENDING_CHECKED]
        try:
            found = self.client.ask_all([("XRANGE", key, entry, entry) for key, entry in places])
            gone = [place for place, there in zip(places, found, strict=True) if not there]
            # A message that was settled meanwhile is not pending any more.
            still = self.client.ask_all(
                [("XPENDING", key, GROUP, entry, entry, 1) for key, entry in gone]
            )
        except Denied:
            return None
        prefix = len(f"{self.keys.root}:queue:")
        return dict(
            Counter(key[prefix:] for (key, _), held in zip(gone, still, strict=True) if held)
        )

    def try_all(self, *commands: tuple[Any, ...]) -> list[Any]:
        """Run commands in one round trip; the reply is None where refused or not permitted."""
        replies = self.client.try_all(list(commands))
        for reply in replies:
            if isinstance(reply, Exception) and not isinstance(reply, Denied | Refused):
                raise reply
        return [None if isinstance(reply, Exception) else reply for reply in replies]


def since_due(moments: Mapping[str, str], now: float) -> dict[str, float]:
    """The seconds since each schedule was due; a paused one is due infinitely late."""
    return {name: (now - float(due)) / 1000 for name, due in moments.items()}


def levels_of(state: QueueState) -> int:
    """The ``max_priority`` that a queue is declared with; 0 if it cannot be read."""
    most = state.settings.get("max_priority")
    return most if isinstance(most, int) else 0


def levels_read(workers: Iterable[Text]) -> dict[str, int]:
    """The highest priority level of each queue that a worker reads, as workers report it."""
    found: dict[str, int] = {}
    for about in workers:
        for pair in about.get("levels", "").split():
            queue, _, level = pair.rpartition(":")
            if level.isdecimal():
                found[queue] = max(found.get(queue, 0), int(level))
    return found


def is_remote(url: str) -> bool:
    """Whether the server is reached over a network."""
    parts = urlsplit(url)
    return parts.scheme != "unix" and not is_loopback(parts.hostname or "localhost")


def nopass(default: Any, url: str) -> bool:
    """Whether the user ``default`` needs no password.

    If its rights may not be read, the answer is whether the URL holds no password.
    """
    if default is not None:
        flags = [text(flag) for flag in default[1]]
        return "nopass" in flags and "on" in flags
    parts = urlsplit(url)
    return not (parts.password or parts.username or parse_qs(parts.query).get("password"))


def our_clients(listing: str) -> dict[str, int]:
    """The connections of streamq by name, such as ``streamq:runner``: name → number."""
    found = re.findall(r"\bname=(streamq(?::\w+)?)", listing)
    return dict(Counter(found))
