"""A delivery: a message as a consumer received it."""

import re
from datetime import UTC, datetime
from typing import Any

from streamq.core.backoff import Backoff
from streamq.core.names import named, own_id
from streamq.core.policy import TaskPolicy
from streamq.core.text import visible

#: The most digits of a number in a message; Redis refuses longer ones as milliseconds.
LONGEST_NUMBER = 15

#: How often a task may reject its message without a pause; and the pauses after that.
FREE_REJECTIONS, REJECTION_BACKOFF = 3, Backoff(first=0.1, longest=30.0)

#: Bytes of a part of an id, the longest being QUEUE-ENTRY; and of one that dead-letter
#: exchanges have copied from queue to queue: ID@QUEUE@QUEUE.
LONGEST_PART, LONGEST_ID = 250, 2500
#: The number of a generation, as a message carries it.
GENERATION = re.compile(rb"[1-9][0-9]{0,14}")
GOOD_ID = re.compile(rb"[^@:{}\x00-\x1f\x7f]{1,250}(?:@[^@:{}\x00-\x1f\x7f]{1,200})*")

#: Bytes of a task's name, and of an id, that are shown.
LONGEST_TITLE = 250

#: Nanoseconds after which Redis is asked again whether a message may run: it may have been
#: revoked or have expired since.
RECHECK_AFTER = 50_000_000


class Delivery:
    """A message as one consumer received it.

    ``hard`` and ``soft`` are its time limits in seconds, 0 for none.
    """

    __slots__ = (
        *("early", "entry", "fields", "hard", "id", "keep", "policy", "seen", "soft", "stream"),
    )

    #: When Redis last allowed the run, or was last asked (monotonic ns).
    seen: int

    def __init__(self, stream: str, entry: bytes, fields: dict[bytes, bytes]) -> None:
        self.stream = stream
        self.entry = entry
        self.fields = fields
        id = fields.get(b"id")
        self.id = id if id is not None else own_id(self.queue, entry.decode()).encode()
        self.policy: TaskPolicy[Any] | None = None
        self.early = False
        self.hard = self.soft = 0.0
        self.keep = fields.get(b"ignore_result") != b"1"

    def has_good_id(self) -> bool:
        """Whether the id is well formed; if it is not, the entry's id replaces it.

        Ids become parts of keys, and appear in every log.
        """
        if self.id.isalnum() and len(self.id) <= LONGEST_PART:  # every id that streamq makes
            return True
        if len(self.id) <= LONGEST_ID and GOOD_ID.fullmatch(self.id):
            return True
        self.id = own_id(self.queue, self.entry.decode()).encode()
        return False

    @property
    def generation(self) -> bytes:
        """The generation of its id: 1 for the first use of the id, then 2, 3 …"""
        given = self.fields.get(b"generation")
        return given if given is not None and GENERATION.fullmatch(given) else b"1"

    @property
    def name(self) -> bytes:
        """The id with its generation, as keys and sets use it: ID, then ID::2, ID::3 …"""
        return named(self.id, self.generation) if b"generation" in self.fields else self.id

    @property
    def title(self) -> str:
        """Task and id, with which a log line begins; made safe, as both may hold any bytes."""
        name = self.fields.get(b"shadow") or self.fields.get(b"task", b"?")
        parts = (part[:LONGEST_TITLE].decode(errors="replace") for part in (name, self.id))
        return visible("{}[{}]".format(*parts), kept="")

    @property
    def place(self) -> tuple[str, bytes]:
        """The stream that it was read from, and its entry id there."""
        return self.stream, self.entry

    @property
    def queue(self) -> str:
        """The queue that the stream belongs to: a queue has several streams."""
        return self.stream.partition(":")[0]

    @property
    def base(self) -> bytes | None:
        """The id of the fan-out call that this is a copy of; None if it is no copy."""
        base, _, queue = self.id.rpartition(b"@")
        ours = queue == self.queue.encode() and b"deaths" not in self.fields
        return base if base and ours else None

    @property
    def base_name(self) -> bytes:
        """The name (with generation) of the call that this is a copy of; empty if it is no copy."""
        base = self.base
        return named(base, self.generation) if base else b""

    @property
    def expires(self) -> int | None:
        """The server's time (ms) from which on the task must not start; None for no limit."""
        moments = (self.number(b"expires"), self.number(b"stale"))
        return min((moment for moment in moments if moment is not None), default=None)

    def needs_recheck(self, now: int) -> bool:
        """Whether to ask Redis again if it may run; ``now`` is in monotonic ns."""
        return now - self.seen > RECHECK_AFTER

    @property
    def size(self) -> int:
        """Bytes of the values of its fields."""
        return sum(map(len, self.fields.values()))

    @property
    def crashes(self) -> int:
        """The number of runners that died while they ran this message."""
        return self.number(b"crashes") or 0

    @property
    def may_have_run(self) -> bool:
        """Whether a runner had this message before: it died, or gave the message back."""
        return self.crashes > 0 or self.stream.endswith(":returned")

    @property
    def retries(self) -> int:
        """The number of retries so far."""
        return self.number(b"retries") or 0

    @property
    def rejections(self) -> int:
        """The number of rejections with ``requeue=True`` by its task."""
        return self.number(b"rejections") or 0

    @property
    def rejection_pause(self) -> float:
        """Seconds until its next run, if its task rejects it now with ``requeue=True``."""
        earlier = self.rejections - FREE_REJECTIONS
        return 0.0 if earlier < 0 else REJECTION_BACKOFF.pause(earlier)

    def number(self, name: bytes) -> int | None:
        """A whole number in a field; None if the field is missing or holds anything else."""
        found = self.fields.get(name)
        fits = found is not None and found.isdigit() and len(found) <= LONGEST_NUMBER
        return int(found) if found is not None and fits else None

    def seconds(self, name: bytes) -> float | None:
        """A duration in a field, in seconds; the field has milliseconds."""
        found = self.number(name)
        return None if found is None else found / 1000

    def moment(self, name: bytes) -> datetime | None:
        """A point in time in a field; None if it holds none."""
        found = self.number(name)
        try:
            return None if found is None else datetime.fromtimestamp(found / 1000, UTC)
        except (ValueError, OverflowError, OSError):
            return None
