"""A message as a worker has it in hand, and what comes of it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from streamq.context import Request
from streamq.core.message import own_id
from streamq.core.retry import RetryPolicy
from streamq.core.units import visible
from streamq.errors import DecodeError
from streamq.host.clock import monotonic_ns
from streamq.serialization.codec import decode_json
from streamq.tasks import Task

#: Digits of a number of milliseconds: more, and Redis refuses.
LONGEST_LIFE = 15

#: How often a task may reject its message without a pause; then the first pause in seconds,
#: and the longest.  In between each is twice the one before.
REJECTED_FREELY, REJECTED = 3, (0.1, 30.0)
#: Rejections after which the pause is the longest in any case.
GROWING = 20

#: Bytes of a part of an id, the longest being QUEUE-ENTRY; and of one that dead-letter
#: exchanges have copied from queue to queue: ID@QUEUE@QUEUE.
LONGEST_PART, LONGEST_ID = 250, 2500
#: The number of a generation, as a message carries it.
GENERATION = re.compile(rb"[1-9][0-9]{0,14}")
GOOD_ID = re.compile(rb"[^@:{}\x00-\x1f\x7f]{1,250}(?:@[^@:{}\x00-\x1f\x7f]{1,200})*")

#: Bytes of a task's name, and of an id, that are shown.
LONGEST_TITLE = 250

#: Nanoseconds after which Redis is asked again whether a message may run: it may have been
#: revoked since, or have expired.
STALE = 50_000_000

#: Words of an outcome for what follows its message.
BURY, EXPIRE, LATER, OFFER, REVOKED = b"bury", b"expire", b"later", b"offer", b"revoked"


class Delivery:
    """A message as one consumer received it.

    ``hard`` and ``soft`` are its time limits in seconds, 0 for none.
    """

    __slots__ = (
        *("early", "entry", "fields", "hard", "id", "keep", "manner", "seen", "soft", "stream"),
    )

    #: When Redis last said that it may run, or was asked (monotonic ns).
    seen: int

    def __init__(self, stream: str, entry: bytes, fields: dict[bytes, bytes]) -> None:
        self.stream = stream
        self.entry = entry
        self.fields = fields
        id = fields.get(b"id")
        self.id = id if id is not None else own_id(self.queue, entry.decode()).encode()
        self.manner: Manner | None = None
        self.early = False
        self.hard = self.soft = 0.0
        self.keep = fields.get(b"ignore_result") != b"1"

    def has_good_id(self) -> bool:
        """Whether the message is named as one of ours may be; else it is named after its entry.

        Names become parts of keys, and stand in every log.
        """
        if self.id.isalnum() and len(self.id) <= LONGEST_PART:  # all that we make ourselves
            return True
        if len(self.id) <= LONGEST_ID and GOOD_ID.fullmatch(self.id):
            return True
        self.id = own_id(self.queue, self.entry.decode()).encode()
        return False

    @property
    def generation(self) -> bytes:
        """Which generation of its id this is: its id may have been used before, and since."""
        said = self.fields.get(b"generation")
        return said if said is not None and GENERATION.fullmatch(said) else b"1"

    @property
    def name(self) -> bytes:
        """What it is called in Redis where its generation counts: ID, then ID::2, ID::3 …"""
        return named(self.id, self.generation) if b"generation" in self.fields else self.id

    @property
    def title(self) -> str:
        """Task and id, as they begin a line of the log: both may be anything."""
        name = self.fields.get(b"shadow") or self.fields.get(b"task", b"?")
        parts = (part[:LONGEST_TITLE].decode(errors="replace") for part in (name, self.id))
        return visible("{}[{}]".format(*parts), kept="")

    @property
    def place(self) -> tuple[str, bytes]:
        """Where it was read: the stream and its entry there."""
        return self.stream, self.entry

    @property
    def queue(self) -> str:
        """The queue, whichever of its streams the message was read from."""
        return self.stream.partition(":")[0]

    @property
    def base(self) -> bytes | None:
        """The id of the call that was sent to several queues, if this is a copy of one."""
        base, _, queue = self.id.rpartition(b"@")
        ours = queue == self.queue.encode() and b"deaths" not in self.fields
        return base if base and ours else None

    @property
    def base_name(self) -> bytes:
        """What the whole call is called, of which this is a copy; nothing if it is none."""
        base = self.base
        return named(base, self.generation) if base else b""

    @property
    def expires(self) -> int | None:
        """The server's moment, in milliseconds, from which on it is not to start."""
        moments = (self.number(b"expires"), self.number(b"stale"))
        return min((moment for moment in moments if moment is not None), default=None)

    @property
    def is_stale(self) -> bool:
        """Whether it is long ago that Redis said that it may run."""
        return monotonic_ns() - self.seen > STALE

    @property
    def size(self) -> int:
        """Bytes of the values that it carries."""
        return sum(map(len, self.fields.values()))

    @property
    def crashes(self) -> int:
        """How many runners died while they ran this message."""
        return self.number(b"crashes") or 0

    @property
    def may_have_run(self) -> bool:
        """Whether a runner had this message before: it died, or gave the message back."""
        return self.crashes > 0 or self.stream.endswith(":returned")

    @property
    def retries(self) -> int:
        """How often the task was tried again."""
        return self.number(b"retries") or 0

    @property
    def rejections(self) -> int:
        """How often its task has handed it back."""
        return self.number(b"rejections") or 0

    @property
    def rejected_for(self) -> float:
        """Seconds until it is to run again, if its task hands it back now."""
        first, longest = REJECTED
        grown = min(self.rejections - REJECTED_FREELY, GROWING)
        return 0.0 if grown < 0 else float(min(first * 2**grown, longest))

    def number(self, name: bytes) -> int | None:
        """A whole number that the message carries; None for anything else it may say."""
        found = self.fields.get(name)
        fits = found is not None and found.isdigit() and len(found) <= LONGEST_LIFE
        return int(found) if found is not None and fits else None

    def seconds(self, name: bytes) -> float | None:
        """A duration that the message carries, which it does in milliseconds."""
        found = self.number(name)
        return None if found is None else found / 1000

    def moment(self, name: bytes) -> datetime | None:
        """A moment that the message carries."""
        found = self.number(name)
        try:
            return None if found is None else datetime.fromtimestamp(found / 1000, UTC)
        except (ValueError, OverflowError, OSError):
            return None


def named(id: bytes, generation: bytes) -> bytes:
    """The name of a message by its id and generation; no id holds a colon."""
    return id if generation == b"1" else b"%s::%s" % (id, generation)


class Outcome:
    """How a run ended: the state of the record, its fields, and what follows the message.

    ``follow`` are the words that settle.lua takes; with ``release`` the message goes back
    to its queue, after a pause if its task does that again and again.  ``expected`` says that
    the task failed in a way that it announces.
    """

    __slots__ = ("delivery", "expected", "expires", "fields", "follow", "release", "state")

    def __init__(
        self,
        delivery: Delivery,
        state: bytes,
        fields: tuple[bytes, ...],
        *,
        expires: bytes = b"0",
        follow: tuple[bytes, ...] = (),
        release: bool = False,
        expected: bool = False,
    ) -> None:
        self.delivery = delivery
        self.state = state
        self.fields = fields
        self.expires = expires
        self.follow = follow
        self.release = release
        self.expected = expected

    @property
    def reason(self) -> bytes:
        """Why the message goes to the dead letters, if it does, or nobody else wants it."""
        if self.follow and self.follow[0] in (BURY, OFFER):
            return self.follow[-2]
        return b""

    @property
    def pause(self) -> float | None:
        """Seconds until the message runs again, where that is known in seconds."""
        if self.follow and self.follow[0] == LATER and self.follow[1].startswith(b"+"):
            return int(self.follow[1]) / 1000
        if self.release:
            return self.delivery.rejected_for
        return None


@dataclass(slots=True)
class Manner:
    """How the messages of one task are run here, settled once."""

    task: Task[..., Any]
    early: bool
    keep: bool
    track_started: bool
    expires: bytes
    hard: float
    soft: float
    retry: RetryPolicy
    #: Dotted names of the exceptions that its task is expected to raise.
    throws: frozenset[str] = frozenset()


def request_of(delivery: Delivery, args: Any, kwargs: dict[str, Any], hostname: str) -> Request:
    """What a task may know about its run."""
    fields = {k.decode(errors="replace"): v for k, v in delivery.fields.items()}

    def text(name: str) -> str | None:
        return fields[name].decode(errors="replace") if name in fields else None

    return Request(
        id=delivery.id.decode(errors="replace"),
        task=text("task") or "",
        args=tuple(args),
        kwargs=kwargs,
        retries=delivery.retries,
        deliveries=delivery.crashes + 1,
        redelivered=delivery.may_have_run,
        root_id=text("root_id") or delivery.id.decode(errors="replace"),
        parent_id=text("parent_id"),
        queue=delivery.queue,
        exchange=text("exchange") or "",
        routing_key=text("routing_key") or delivery.queue,
        headers=headers_of(delivery),
        eta=delivery.moment(b"eta"),
        expires=delivery.moment(b"expires"),
        hostname=hostname,
        timelimit=(delivery.hard or None, delivery.soft or None),
        generation=int(delivery.generation),
    )


def headers_of(delivery: Delivery) -> dict[str, Any]:
    """The headers of a message; those of one that died before say where, and of what."""
    try:
        headers = decode_json(delivery.fields.get(b"headers", b"{}"))
    except DecodeError:
        headers = {}
    found = dict(headers) if isinstance(headers, dict) else {}
    if b"deaths" in delivery.fields:
        for name in ("queue", "reason"):
            said = delivery.fields.get(f"death_{name}".encode(), b"")
            found[f"x-death-{name}"] = said.decode(errors="replace")
        found["x-death-count"] = delivery.number(b"deaths") or 0
    return found


def millis(seconds: float) -> bytes:
    return b"%d" % round(seconds * 1000)


def flat(fields: Mapping[str, bytes], **more: bytes) -> tuple[bytes, ...]:
    """Names and values in a row, as the settle script takes them."""
    both = {**fields, **more}
    return tuple(part for name, value in both.items() for part in (name.encode(), value))
