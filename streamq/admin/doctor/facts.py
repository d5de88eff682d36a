"""Facts about a Redis and a namespace, and findings, which checks derive from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Level = Literal["ok", "warning", "problem"]


class Finding(NamedTuple):
    """A finding of one check: its level, a sentence (``says``), and advice."""

    check: str
    level: Level
    says: str
    advice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFacts:
    """Facts about one declared queue, over all its streams."""

    name: str
    length: int
    pending: int
    max_priority: int = 0
    #: Priority level from 1 on → how many messages wait there.
    levels: Mapping[int, int] = field(default_factory=dict)
    #: Its streams that are out of ids, or nearly.
    out_of_ids: Sequence[str] = ()
    #: Consumer → how many messages it holds.
    consumers: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFacts:
    """Facts from a scan of some keys of the namespace."""

    looked_at: int
    all_of_them: bool
    #: Ids of tasks that have not ended, whose record never expires and whose queue is empty.
    lost_records: Sequence[str] = ()
    #: Streams of queues that are not declared.
    undeclared: Sequence[str] = ()
    #: Consumers without a lease that have marks of early-acknowledged messages.
    marks_without_lease: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Facts about one Redis and one namespace.  None means that it could not be asked.

    ``info`` and ``config`` are as INFO and CONFIG GET give them.
    """

    url: str
    root: str
    remote: bool
    info: Mapping[str, str]
    config: Mapping[str, str] | None = None
    #: Seconds that the server's clock is ahead of ours, and the round trip in seconds.
    ahead: float = 0.0
    round_trip: float = 0.0
    user: str | None = None
    nopass: bool | None = None
    #: Role → the rights that the user lacks for it.
    missing: Mapping[str, Sequence[str]] | None = None
    #: Optional rights of a producer that this user has.
    may: Sequence[str] = ()
    #: Key of streamq that holds something else → what it holds.
    foreign: Mapping[str, str] = field(default_factory=dict)
    #: The reason why the namespace could not be read; else empty.
    unreadable: str = ""
    queues: Sequence[QueueFacts] = ()
    #: Queue, declared or not → its number of dead letters.
    dead: Mapping[str, int] = field(default_factory=dict)
    #: Consumer → seconds since its lease ended (negative while it lasts).
    leases: Mapping[str, float] = field(default_factory=dict)
    #: Living worker → the queues it reads.
    workers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    #: Queue → the highest priority level that a living worker reads.
    levels: Mapping[str, int] = field(default_factory=dict)
    scheduled: int | None = None
    #: Schedule → seconds since it was due (negative until then, -inf while it is paused).
    schedules: Mapping[str, float] | None = None
    #: Stream → its number of pending entries whose message is deleted.
    deleted_pending: Mapping[str, int] | None = None
    keys: KeyFacts | None = None
    #: Name of a client → its number of connections.
    clients: Mapping[str, int] | None = None

    def number(self, name: str) -> int:
        """A number of INFO; 0 if it is missing."""
        text = self.info.get(name, "")
        return int(text) if text.lstrip("-").isdecimal() else 0

    def setting(self, name: str) -> str | None:
        """A setting of the server; None if it may not be read."""
        return None if self.config is None else self.config.get(name)
