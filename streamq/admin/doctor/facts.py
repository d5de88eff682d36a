"""What is learnt of a Redis, and what a check says of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Level = Literal["ok", "warning", "problem"]


class Finding(NamedTuple):
    """What one check found, and what to do about it."""

    check: str
    level: Level
    says: str
    advice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFacts:
    """One declared queue, over all its streams."""

    name: str
    length: int
    pending: int
    max_priority: int = 0
    #: Priority level from 1 on → how many messages wait there.
    levels: Mapping[int, int] = field(default_factory=dict)
    #: Those of its streams that are out of ids, or nearly.
    spent: Sequence[str] = ()
    #: Consumer → how many messages it holds.
    consumers: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFacts:
    """What a look at some of the keys found."""

    looked_at: int
    all_of_them: bool
    #: Ids of tasks that have not ended, whose record never expires, and whose queue is empty.
    forgotten_tasks: Sequence[str] = ()
    #: Streams of queues that are not declared.
    undeclared: Sequence[str] = ()
    #: Consumers without a lease that have marks of early-acknowledged messages.
    unknown_starters: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was learnt of one Redis and one namespace.  None: it could not be asked.

    ``info`` and ``config`` are as INFO and CONFIG GET give them.
    """

    url: str
    root: str
    remote: bool
    info: Mapping[str, str]
    config: Mapping[str, str] | None = None
    #: Seconds that the server's clock is ahead of ours, and how long asking took.
    ahead: float = 0.0
    round_trip: float = 0.0
    user: str | None = None
    nopass: bool | None = None
    #: Role → the rights that the user lacks for it.
    missing: Mapping[str, Sequence[str]] | None = None
    #: What a producer may only do if it is said to, and this user may.
    may: Sequence[str] = ()
    #: Keys of ours that hold something else, and what that is.
    foreign: Mapping[str, str] = field(default_factory=dict)
    #: Why the namespace could not be read, if it could not.
    unreadable: str = ""
    queues: Sequence[QueueFacts] = ()
    #: Queue, declared or not → how many dead letters it has.
    dead: Mapping[str, int] = field(default_factory=dict)
    #: Consumer → seconds that its lease has been over (negative: it still lasts).
    leases: Mapping[str, float] = field(default_factory=dict)
    #: Living worker → the queues it reads.
    workers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    #: Queue → the highest priority level that a living worker says it reads.
    levels: Mapping[str, int] = field(default_factory=dict)
    scheduled: int | None = None
    #: Entries of pending lists that are deleted, by stream.
    ghosts: Mapping[str, int] | None = None
    keys: KeyFacts | None = None
    #: Name of a client → how many there are.
    clients: Mapping[str, int] | None = None

    def number(self, name: str) -> int:
        """A figure of INFO; 0 where it says nothing."""
        text = self.info.get(name, "")
        return int(text) if text.lstrip("-").isdecimal() else 0

    def setting(self, name: str) -> str | None:
        """A setting of the server, if it may be read."""
        return None if self.config is None else self.config.get(name)
