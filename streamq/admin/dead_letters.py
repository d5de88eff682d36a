"""Dead letters of a namespace: listing, retrying, deleting, exporting and importing them.

A queue may keep many thousands.  So they are read in pages and changed one by one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from streamq.admin.dead_letter import (
    DeadLetter,
    DeadLetterFilter,
    ExportedLetter,
    enqueued_at,
    letter_of,
    readable,
    seconds_in,
    to_line,
)
from streamq.errors import OutOfIds, StreamqError
from streamq.transport.client import Client
from streamq.transport.keys import Keys
from streamq.transport.replies import Refused, raised
from streamq.transport.scripts import Script, load

RETRY_DEAD = load("retry_dead")
DELETE_DEAD = load("delete_dead")
IMPORT_LETTER = load("import_letter")

#: Letters per round trip, and names of letters per round trip.
AT_ONCE = 100
NAMES_AT_ONCE = 1000

ALL_LETTERS = DeadLetterFilter()


class QueueNotDeclared(StreamqError, LookupError):
    """A dead letter cannot be retried, because its queue is not declared."""


class Page(NamedTuple):
    """A page: the newest letters of a queue, and how many older ones were not looked at."""

    letters: list[DeadLetter]
    older: int


@dataclass(slots=True)
class RetriedDead:
    """The outcome of a retry: ``waiting`` letters are in their queue again.

    Of these, ``unexpired`` had an expiry that had passed, and have none now.  Letters in
    ``too_large`` stay, because they have more fields than a script can add.  Letters in
    ``in_use`` stay, because their id was used again; the value is the state of that task.
    """

    waiting: int = 0
    unexpired: int = 0
    too_large: tuple[str, ...] = ()
    in_use: dict[str, str] = field(default_factory=dict)


class DeadLetters:
    """The dead letters of one namespace.  Names of letters are bytes, because ids may be any."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    # Reading

    def queues(self) -> dict[str, int]:
        """The number of dead letters of each queue that is declared or has any."""
        declared, others = self.client.ask_all(
            [("HKEYS", self.keys.queues), ("SMEMBERS", self.keys.queues_with_dead)]
        )
        names = sorted({readable(name) for name in (*declared, *others)})
        counts = self.client.ask_all([("ZCARD", self.keys.dead(name)) for name in names])
        return dict(zip(names, map(int, counts), strict=True))

    def newest(self, queue: str, most: int, filter: DeadLetterFilter = ALL_LETTERS) -> Page:
        """Read at most ``most`` letters of a queue, the newest first."""
        first, last = filter.score_range(self.now())
        key, looked_at, found = self.keys.dead(queue), 0, list[DeadLetter]()
        total = int(self.client.ask("ZCOUNT", key, first, last))
        while looked_at < total and len(found) < most:
            limit = (looked_at, AT_ONCE if filter.needs_fields else min(most, AT_ONCE))
            names = self.client.ask("ZRANGE", key, last, first, "BYSCORE", "REV", "LIMIT", *limit)
            if not names:
                break
            matching = self.matching(queue, names, filter)[: most - len(found)]
            enough = len(found) + len(matching) == most
            looked_at += names.index(matching[-1]) + 1 if enough else len(names)
            found += self.read(queue, matching)
        return Page(found, total - looked_at)

    def names(self, queue: str, filter: DeadLetterFilter = ALL_LETTERS) -> list[bytes]:
        """The names of all selected letters, the oldest first."""
        first, last = filter.score_range(self.now())
        key, found = self.keys.dead(queue), dict[bytes, None]()
        while True:
            limit = (len(found), NAMES_AT_ONCE)
            names = self.client.ask("ZRANGE", key, first, last, "BYSCORE", "LIMIT", *limit)
            found |= dict.fromkeys(names)
            if len(names) < NAMES_AT_ONCE:
                return [
                    name
                    for chunk in chunks(list(found))
                    for name in self.matching(queue, self.existing(queue, chunk), filter)
                ]

    def matching(self, queue: str, names: Sequence[bytes], filter: DeadLetterFilter) -> list[bytes]:
        """The letters among ``names`` whose task and reason match."""
        if not filter.needs_fields:
            return list(names)
        replies = self.client.ask_all(
            [("HMGET", self.key(queue, name), "task", "dead_reason") for name in names]
        )
        return [
            name
            for name, (task, reason) in zip(names, replies, strict=True)
            if filter.matches(readable(task or b""), readable(reason or b""))
        ]

    def existing(self, queue: str, names: Sequence[bytes]) -> list[bytes]:
        """The letters among ``names`` that exist."""
        replies = self.client.ask_all([("EXISTS", self.key(queue, name)) for name in names])
        return [name for name, found in zip(names, replies, strict=True) if found]

    def read(self, queue: str, names: Sequence[bytes]) -> list[DeadLetter]:
        """Read these letters, except those that have expired or are being retried."""
        return [letter_of(queue, name, raw) for name, raw in self.hashes(queue, names)]

    def hashes(
        self, queue: str, names: Sequence[bytes]
    ) -> Iterator[tuple[bytes, dict[bytes, bytes]]]:
        """The hashes of these letters, unchanged."""
        for chunk in chunks(names):
            replies = self.client.ask_all([("HGETALL", self.key(queue, name)) for name in chunk])
            for name, flat in zip(chunk, replies, strict=True):
                if flat:
                    yield name, dict(zip(flat[::2], flat[1::2], strict=True))

    def get(self, queue: str, name: str) -> DeadLetter | None:
        """Read one dead letter; None if it does not exist.

        The time of sending and the traceback are taken from the task's record where the letter
        has none.
        """
        found = self.read(queue, [name.encode()])
        if not found:
            return None
        (letter,) = found
        names = ("generation", "enqueued", *ERROR_FIELDS)
        record = self.client.ask("HMGET", self.keys.task(letter.id), *names)
        generation, enqueued, error, traceback = (readable(value or b"") for value in record)
        if (generation or "1") != letter.fields.get("generation", "1"):  # the id was used again
            enqueued = error = traceback = ""
        noted = letter.notes.get("enqueued") or enqueued
        first = letter.history[0]["enqueued"] if letter.history else seconds_in(noted)
        return replace(
            letter,
            enqueued=first or enqueued_at(letter.queue, letter.id),
            traceback=letter.traceback or (traceback if error == letter.error else "") or None,
        )

    def now(self) -> int:
        """The server's time in milliseconds since the epoch."""
        seconds, micros = self.client.ask("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    def key(self, queue: str, name: bytes) -> bytes:
        """The key of a letter, whose name may be any bytes."""
        return self.keys.dead_letter(queue, "").encode() + name

    # Changing

    def retry(self, queue: str, names: Sequence[bytes]) -> RetriedDead:
        """Put letters into their queue again, in the order of ``names``.

        Raises QueueNotDeclared if the queue is not declared, and OutOfIds if its stream takes
        no more entries; the remaining letters then stay.
        """
        done, too_large = RetriedDead(), []
        for name, reply in self.call_for_each(RETRY_DEAD, queue, names):
            match reply:
                case Refused(code="TOOLARGE"):
                    too_large.append(readable(name))
                case Refused(code="INUSE"):
                    done.in_use[readable(name)] = str(reply).partition(" ")[2]
                case Refused(code="NOQUEUE"):
                    raise QueueNotDeclared(f"queue {queue!r} is not declared")
                case Refused(code="OUTOFIDS"):
                    raise OutOfIds.of(queue)
                case Exception():
                    raise reply
                case _:
                    done.waiting += int(reply) > 0
                    done.unexpired += int(reply) == 2
        done.too_large = tuple(too_large)
        return done

    def delete(self, queue: str, names: Sequence[bytes]) -> int:
        """Delete letters for good; returns how many existed."""
        done = 0
        for _, reply in self.call_for_each(DELETE_DEAD, queue, names):
            done += int(raised(reply))
        return done

    def call_for_each(
        self, script: Script, queue: str, names: Sequence[bytes]
    ) -> Iterator[tuple[bytes, Any]]:
        """Call a script for every letter; yields its reply, which may be an exception."""
        for chunk in chunks(names):
            calls: list[tuple[Script, tuple[Any, ...]]] = [
                (script, (queue, name)) for name in chunk
            ]
            yield from zip(chunk, self.client.call_all(calls, self.keys.root), strict=True)

    # Moving

    def export(self, queue: str, names: Sequence[bytes]) -> Iterator[bytes]:
        """Encode letters as lines of JSON, which ``import_letters`` of any server takes."""
        for name, raw in self.hashes(queue, names):
            yield to_line(queue, name, raw)

    def import_letters(
        self, letters: Sequence[ExportedLetter], *, most: int, life: float
    ) -> list[tuple[str, int]]:
        """Store letters, at most ``most`` in a queue and each for ``life`` seconds.

        Returns for each letter ``kept``, ``known``, ``expired`` or ``full`` (see
        import_letter.lua), and how many older letters were dropped to make room for it.
        """
        calls: list[tuple[Script, tuple[Any, ...]]] = []
        for one in letters:
            pairs = [part for pair in one.fields.items() for part in pair]
            bounds = (one.at, most, int(life * 1000))
            calls.append((IMPORT_LETTER, (one.queue, one.letter, *bounds, *pairs)))
        replies = self.client.call_all(calls, self.keys.root) if calls else []
        return [(answer.decode(), int(dropped)) for answer, dropped in map(raised, replies)]


#: The fields of a task's record that say how it failed.
ERROR_FIELDS = ("error", "traceback")


def chunks(names: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """The names in pieces of at most ``AT_ONCE``."""
    return (names[at : at + AT_ONCE] for at in range(0, len(names), AT_ONCE))
