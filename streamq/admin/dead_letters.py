"""Dead letters: what could not be run, looked at, put back, deleted and moved by people.

A queue may keep many thousands: whatever asks for some of them reads pages, and whatever
changes them does so letter by letter.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from streamq.admin.dead_letter import (
    Letter,
    Parcel,
    Which,
    enqueued_at,
    letter_of,
    readable,
    seconds_in,
    to_line,
)
from streamq.errors import OutOfIds, StreamqError
from streamq.transport.client import Client
from streamq.transport.keys import Keys
from streamq.transport.replies import Refused
from streamq.transport.scripts import Script, load

REVIVE = load("revive")
DISCARD = load("discard")
IMPORT_LETTER = load("import_letter")

#: Letters handled in one round trip, and names read in one.
AT_ONCE = 100
NAMES_AT_ONCE = 1000

EVERY = Which()


class Undeclared(StreamqError, LookupError):
    """A letter cannot be put back: its queue is not declared."""


class Page(NamedTuple):
    """Some letters of a queue, and how many older ones were not looked at."""

    letters: list[Letter]
    older: int


@dataclass(slots=True)
class Revived:
    """How many letters wait again, and of these, how many without an expiry that had passed.

    ``too_large`` are those that stay: they have more fields than a script can add.  So do those
    ``in_use``: their id was used again, by a task that is in this state now.
    """

    waiting: int = 0
    unexpired: int = 0
    too_large: tuple[str, ...] = ()
    in_use: dict[str, str] = field(default_factory=dict)


class DeadLetters:
    """The dead letters of one namespace.  The name of a letter is bytes, as ids may be."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    # Looking

    def queues(self) -> dict[str, int]:
        """Every queue that is declared or has dead letters, and how many it has."""
        declared, others = self.client.ask_all(
            [("HKEYS", self.keys.queues), ("SMEMBERS", self.keys.graveyards)]
        )
        names = sorted({readable(name) for name in (*declared, *others)})
        counts = self.client.ask_all([("ZCARD", self.keys.dead(name)) for name in names])
        return dict(zip(names, map(int, counts), strict=True))

    def newest(self, queue: str, most: int, which: Which = EVERY) -> Page:
        """Letters of a queue, the newest first; reads no further than it must."""
        first, last = which.times(self.now())
        key, looked_at, found = self.keys.dead(queue), 0, list[Letter]()
        total = int(self.client.ask("ZCOUNT", key, first, last))
        while looked_at < total and len(found) < most:
            limit = (looked_at, AT_ONCE if which.looks_inside else min(most, AT_ONCE))
            names = self.client.ask("ZRANGE", key, last, first, "BYSCORE", "REV", "LIMIT", *limit)
            if not names:
                break
            fitting = self.fitting(queue, names, which)[: most - len(found)]
            enough = len(found) + len(fitting) == most
            looked_at += names.index(fitting[-1]) + 1 if enough else len(names)
            found += self.read(queue, fitting)
        return Page(found, total - looked_at)

    def names(self, queue: str, which: Which = EVERY) -> list[bytes]:
        """The names of all letters that are meant, oldest first."""
        first, last = which.times(self.now())
        key, found = self.keys.dead(queue), dict[bytes, None]()
        while True:
            limit = (len(found), NAMES_AT_ONCE)
            names = self.client.ask("ZRANGE", key, first, last, "BYSCORE", "LIMIT", *limit)
            found |= dict.fromkeys(names)
            if len(names) < NAMES_AT_ONCE:
                return [
                    name
                    for chunk in chunks(list(found))
                    for name in self.fitting(queue, self.there(queue, chunk), which)
                ]

    def fitting(self, queue: str, names: Sequence[bytes], which: Which) -> list[bytes]:
        """Those of some letters that are meant by their task and reason."""
        if not which.looks_inside:
            return list(names)
        replies = self.client.ask_all(
            [("HMGET", self.key(queue, name), "task", "dead_reason") for name in names]
        )
        return [
            name
            for name, (task, reason) in zip(names, replies, strict=True)
            if which.fits(readable(task or b""), readable(reason or b""))
        ]

    def there(self, queue: str, names: Sequence[bytes]) -> list[bytes]:
        """Those of some letters that are there."""
        replies = self.client.ask_all([("EXISTS", self.key(queue, name)) for name in names])
        return [name for name, found in zip(names, replies, strict=True) if found]

    def read(self, queue: str, names: Sequence[bytes]) -> list[Letter]:
        """These letters, without those that have expired or are being put back."""
        return [letter_of(queue, name, raw) for name, raw in self.raw(queue, names)]

    def raw(self, queue: str, names: Sequence[bytes]) -> Iterator[tuple[bytes, dict[bytes, bytes]]]:
        """The hashes of these letters, as they are in Redis."""
        for chunk in chunks(names):
            replies = self.client.ask_all([("HGETALL", self.key(queue, name)) for name in chunk])
            for name, flat in zip(chunk, replies, strict=True):
                if flat:
                    yield name, dict(zip(flat[::2], flat[1::2], strict=True))

    def one(self, queue: str, name: str) -> Letter | None:
        """One dead letter, with what its task's record knows besides; None if it is not there."""
        found = self.read(queue, [name.encode()])
        if not found:
            return None
        (letter,) = found
        names = ("generation", "enqueued", *DIED_OF)
        record = self.client.ask("HMGET", self.keys.task(letter.id), *names)
        generation, enqueued, error, traceback = (readable(value or b"") for value in record)
        if (generation or "1") != letter.fields.get("generation", "1"):  # used again since
            enqueued = error = traceback = ""
        noted = letter.notes.get("enqueued") or enqueued
        first = letter.history[0]["enqueued"] if letter.history else seconds_in(noted)
        return replace(
            letter,
            enqueued=first or enqueued_at(letter.queue, letter.id),
            traceback=letter.traceback or (traceback if error == letter.error else "") or None,
        )

    def now(self) -> int:
        """The server's time in milliseconds."""
        seconds, micros = self.client.ask("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    def key(self, queue: str, name: bytes) -> bytes:
        """The key of a letter, whose name may be any bytes."""
        return self.keys.dead_letter(queue, "").encode() + name

    # Changing

    def revive(self, queue: str, names: Sequence[bytes]) -> Revived:
        """Put letters into their queue again, the first first.

        Raises Undeclared if the queue is not declared, and OutOfIds: then those that remain stay.
        """
        done, too_large = Revived(), []
        for name, reply in self.each(REVIVE, queue, names):
            match reply:
                case Refused(code="TOOLARGE"):
                    too_large.append(readable(name))
                case Refused(code="INUSE"):
                    done.in_use[readable(name)] = str(reply).partition(" ")[2]
                case Refused(code="NOQUEUE"):
                    raise Undeclared(f"queue {queue!r} is not declared")
                case Refused(code="OUTOFIDS"):
                    raise OutOfIds.of(queue)
                case Exception():
                    raise reply
                case _:
                    done.waiting += int(reply) > 0
                    done.unexpired += int(reply) == 2
        done.too_large = tuple(too_large)
        return done

    def discard(self, queue: str, names: Sequence[bytes]) -> int:
        """Delete letters for good; return how many were there."""
        done = 0
        for _, reply in self.each(DISCARD, queue, names):
            if isinstance(reply, Exception):
                raise reply
            done += int(reply)
        return done

    def each(
        self, script: Script, queue: str, names: Sequence[bytes]
    ) -> Iterator[tuple[bytes, Any]]:
        """Call a script for every letter; an error reply stands in the place of its answer."""
        for chunk in chunks(names):
            calls: list[tuple[Script, tuple[Any, ...]]] = [
                (script, (queue, name)) for name in chunk
            ]
            yield from zip(chunk, self.client.call_all(calls, self.keys.root), strict=True)

    # Moving

    def export(self, queue: str, names: Sequence[bytes]) -> Iterator[bytes]:
        """Letters as lines of JSON, with all that is needed to import them elsewhere."""
        for name, raw in self.raw(queue, names):
            yield to_line(queue, name, raw)

    def import_letters(
        self, parcels: Sequence[Parcel], *, most: int, life: float
    ) -> list[tuple[str, int]]:
        """Keep letters within the bounds of their queues; ``life`` is in seconds.

        Tells of each what became of it, ``kept``, ``known``, ``expired`` or ``crowded`` (see
        import_letter.lua), and how many older letters made room for it.
        """
        calls: list[tuple[Script, tuple[Any, ...]]] = []
        for one in parcels:
            pairs = [part for pair in one.fields.items() for part in pair]
            bounds = (one.at, most, int(life * 1000))
            calls.append((IMPORT_LETTER, (one.queue, one.letter, *bounds, *pairs)))
        replies = self.client.call_all(calls, self.keys.root) if calls else []
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return [(fate.decode(), int(dropped)) for fate, dropped in replies]


#: What the record of a task says about how it ended.
DIED_OF = ("error", "traceback")


def chunks(names: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """The names in pieces of what is handled at once."""
    return (names[at : at + AT_ONCE] for at in range(0, len(names), AT_ONCE))
