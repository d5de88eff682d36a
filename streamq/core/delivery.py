"""A message as a worker has it in hand, and what comes of it."""

import re
from datetime import UTC, datetime
from typing import Any

from streamq.core.names import named, own_id
from streamq.core.policy import Manner
from streamq.core.text import visible

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
        self.manner: Manner[Any] | None = None
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

    def is_stale(self, now: int) -> bool:
        """Whether it is long ago (``now`` in monotonic ns) that Redis said that it may run."""
        return now - self.seen > STALE

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
