"""Gathers the facts that a diagnosis needs, in few round trips and without stopping anybody.

What the user may not ask is left out.  Judging is done elsewhere (``streamq/diagnosis``).
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

from streamq.acl.rights import missing_rights
from streamq.acl.roles import RIGHTS, ROLES
from streamq.admin.doctor.facts import Facts, KeyFacts, QueueFacts
from streamq.admin.doctor.leaks import Leftovers
from streamq.admin.doctor.server import is_loopback
from streamq.admin.inspector import Inspector, QueueState, our_group
from streamq.core.text import mask_url
from streamq.host import clock
from streamq.transport.client import Client
from streamq.transport.decode import Text, text, texts
from streamq.transport.keys import GROUP, HIGHEST_LEVEL, Keys
from streamq.transport.replies import Denied, Foreign, Refused

#: Settings of the server that matter here.
SETTINGS = (
    "appendfsync", "save", "min-replicas-to-write", "busy-reply-threshold", "timeout",
    "tcp-keepalive", "maxclients", "bind", "protected-mode", "port",
)  # fmt: skip

#: What each single key of ours is; those of a queue are looked at besides.
KINDS = {
    **dict.fromkeys(("exchanges", "alternates", "queues", "lease_ms"), "hash"),
    **dict.fromkeys(("scheduled", "revoked", "terminating"), "zset"),
    **dict.fromkeys(("leases", "orphans", "workers"), "zset"),
    **dict.fromkeys(("dead", "suspects"), "set"),
}

#: Digits of the milliseconds in an id that a clock may show.
LONGEST_MOMENT = 15

#: Keys that are looked at, and pending messages that are looked for.
KEYS_LOOKED_AT = 10_000
PENDING_LOOKED_AT = 500


class Checkup:
    """Asks one Redis about itself and about one namespace."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self.client = client
        self.keys = keys
        self.inspector = Inspector(client, keys)

    def facts(self) -> Facts:
        """Everything that is to be known.  Raises BrokerUnavailable if there is no answer."""
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
            if isinstance(refused, Foreign):
                self.inspector.foreign[refused.key] = refused
        return Facts(**about, foreign=self.foreign([each.name for each in about.get("queues", ())]))

    def clock(self) -> tuple[float, float]:
        """Seconds that the server's clock is ahead of ours, and that asking took."""
        try:
            before = clock.time()
            seconds, micros = self.client.ask("TIME")
            after = clock.time()
        except Denied:
            return 0.0, 0.0
        return int(seconds) + int(micros) / 1e6 - (before + after) / 2, after - before

    def missing(self) -> Mapping[str, Sequence[str]] | None:
        """What the user lacks for each role that runs scripts."""
        return {
            role: missing_rights(self.client, self.keys, ROLES[role].needs)
            for role in ("producer", "worker")
        }

    # The namespace

    def foreign(self, queues: Sequence[str]) -> dict[str, str]:
        """Keys that hold something else; without the right to ask, those that were met."""
        kinds = {f"{self.keys.root}:{name}": kind for name, kind in KINDS.items()}
        kinds |= {self.keys.dead(queue): "zset" for queue in queues}
        kinds |= {key: "stream" for queue in queues for key in self.keys.streams(queue)}
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
        """What lies in the namespace, as names of facts."""
        seen, leases, clock = self.client.ask_all(
            [
                ("ZRANGE", self.keys.workers, 0, -1, "WITHSCORES"),
                ("ZRANGE", self.keys.leases, 0, -1, "WITHSCORES"),
                ("TIME",),
            ]
        )
        queues = self.queues()
        (scheduled,) = self.try_all(("ZCARD", self.keys.scheduled))
        now = int(clock[0]) * 1000
        over = {name: (now - float(until)) / 1000 for name, until in texts(leases).items()}
        living = [node for node, until in texts(seen).items() if float(until) > now]
        described = self.client.ask_all([("HGETALL", self.keys.worker(node)) for node in living])
        workers = dict(zip(living, map(texts, described), strict=True))
        return {
            "queues": queues,
            "dead": self.dead([queue.name for queue in queues]),
            "scheduled": scheduled,
            "leases": over,
            "workers": {node: about.get("queues", "").split() for node, about in workers.items()},
            "levels": levels_read(workers.values()),
            "ghosts": self.ghosts(queues),
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
                spent=self.spent(state.name),
                consumers={each.name: each.running for each in self.inspector.readers(state.name)},
            )
            for state in self.inspector.queues()
        ]

    def spent(self, queue: str) -> list[str]:
        """The streams of a queue whose ids are used up, or soon will be.

        Who may not ask a stream knows it by the last entry that was read.
        """
        keys = self.keys.streams(queue)
        streams = self.try_all(*(("XINFO", "STREAM", key) for key in keys))
        groups = self.try_all(*(("XINFO", "GROUPS", key) for key in keys))
        prefix = len(self.keys.queue(""))
        found = []
        for key, stream, read in zip(keys, streams, groups, strict=True):
            about = dict(zip(stream[::2], stream[1::2], strict=True)) if stream else {}
            last = about.get(b"last-generated-id") or our_group(read).get("last-delivered-id", "")
            if len(text(last).partition("-")[0]) > LONGEST_MOMENT:
                found.append(key[prefix:])
        return found

    def levels(self, queue: str) -> dict[int, int]:
        """What waits in each priority level of a queue above its own stream, if anything does."""
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
        """The queues that have dead letters, and how many."""
        (others,) = self.try_all(("SMEMBERS", self.keys.graveyards))
        names = sorted({*declared, *map(text, others or ())})
        letters = self.try_all(*(("ZCARD", self.keys.dead(name)) for name in names))
        return {name: int(each) for name, each in zip(names, letters, strict=True) if each}

    def sample(self, queues: Sequence[QueueFacts], leases: Sequence[str]) -> KeyFacts | None:
        """What lies about among some of the keys."""
        marks = self.try_all(*(("HLEN", self.keys.started(consumer)) for consumer in leases))
        # A message that was acknowledged early is in no queue, and its task still runs.
        quiet = not any(marks)
        empty = [queue.name for queue in queues if quiet and not queue.length]
        declared = [queue.name for queue in queues]
        return Leftovers(self.client, self.keys).sample(KEYS_LOOKED_AT, declared, leases, empty)

    def ghosts(self, queues: Sequence[QueueFacts]) -> dict[str, int] | None:
        """How many pending entries of each stream have no message; None if nobody may look."""
        streams = [
            key for queue in queues if queue.pending for key in self.keys.streams(queue.name)
        ]
        listed = self.try_all(
            *(("XPENDING", key, GROUP, "-", "+", PENDING_LOOKED_AT) for key in streams)
        )
        places = [
            (key, entry[0])
            for key, entries in zip(streams, listed, strict=True)
            for entry in entries or ()
        ][:PENDING_LOOKED_AT]
        try:
            found = self.client.ask_all([("XRANGE", key, entry, entry) for key, entry in places])
            gone = [place for place, there in zip(places, found, strict=True) if not there]
            # What was settled meanwhile is neither there nor pending any more.
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
        """Ask in one round trip; what is refused or not permitted is None."""
        replies = self.client.try_all(list(commands))
        for reply in replies:
            if isinstance(reply, Exception) and not isinstance(reply, Denied | Refused):
                raise reply
        return [None if isinstance(reply, Exception) else reply for reply in replies]


def levels_of(state: QueueState) -> int:
    """How many priority levels a queue is declared with; none if that cannot be read."""
    most = state.settings.get("max_priority")
    return most if isinstance(most, int) else 0


def levels_read(workers: Iterable[Text]) -> dict[str, int]:
    """The highest priority level of each queue that a worker reads, as far as they say it."""
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
    """Whether the user default needs no password; known for sure if we are that user."""
    if default is not None:
        flags = [text(flag) for flag in default[1]]
        return "nopass" in flags and "on" in flags
    parts = urlsplit(url)
    return not (parts.password or parts.username or parse_qs(parts.query).get("password"))


def our_clients(listing: str) -> dict[str, int]:
    """The clients of streamq by what they are for, such as ``streamq:runner``."""
    found = re.findall(r"\bname=(streamq(?::\w+)?)", listing)
    return dict(Counter(found))
