"""Dead letters as people choose and read them, and as lines that travel between servers."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from streamq.errors import DecodeError
from streamq.routing import check_name

#: The fields of a letter that are not its message's.
PREFIX = "dead_"

#: What makes a pattern a glob.
GLOB = re.compile(r"[*?\[]")
MILLISECONDS = re.compile(rb"\d{1,15}")
#: Ids that begin with the time: of this century, as ``message.new_id`` makes them, and of
#: messages that are named after their entry.
OWN_ID = re.compile(r"[12][0-9a-f]{25}")
ENTRY = re.compile(r"\d{13}-\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Which:
    """Which letters are meant; without any of these, all.

    ``task`` is a name or a glob, ``reason`` a part of the reason or a glob; letters died
    more than ``older`` and less than ``newer`` seconds ago.
    """

    task: str | None = None
    reason: str | None = None
    older: float | None = None
    newer: float | None = None

    @property
    def looks_inside(self) -> bool:
        """Whether a letter must be read to know whether it is meant."""
        return self.task is not None or self.reason is not None

    def fits(self, task: str, reason: str) -> bool:
        """Whether a letter of this task with this reason is meant, whatever its age."""
        if self.task is not None and not fnmatchcase(task, self.task):
            return False
        return self.reason is None or fits_reason(reason, self.reason)

    def times(self, now: int) -> tuple[str, str]:
        """From when to when they died, in milliseconds, as ZRANGE takes it."""
        first = "-inf" if self.newer is None else str(now - int(self.newer * 1000))
        last = now if self.older is None else now - int(self.older * 1000)
        return first, str(last)


def fits_reason(reason: str, wanted: str) -> bool:
    """Whether a reason is like a glob, or else has the text in it; case does not matter."""
    reason, wanted = reason.lower(), wanted.lower()
    return fnmatchcase(reason, wanted) if GLOB.search(wanted) else wanted in reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A dead letter: the message's own fields, and why it lies here.

    Times are seconds since the epoch.  ``history`` are the earlier deaths, the first one
    first; ``notes`` whatever else was written down when it died.
    """

    queue: str
    letter: str
    id: str
    task: str
    reason: str
    error: str
    worker: str
    at: float
    traceback: str | None = None
    enqueued: float | None = None
    fields: dict[str, str]
    history: list[dict[str, Any]] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)


def letter_of(queue: str, name: bytes, raw: Mapping[bytes, bytes]) -> Letter:
    """The letter that the fields of a hash tell of."""
    told = {readable(name): readable(value) for name, value in raw.items()}
    fields = {name: value for name, value in told.items() if not name.startswith(PREFIX)}
    notes = {name.removeprefix(PREFIX): value for name, value in told.items() if name not in fields}
    return Letter(
        queue=queue,
        letter=readable(name),
        id=fields.get("id", readable(name)),
        task=fields.get("task", ""),
        reason=notes.pop("reason", ""),
        error=notes.pop("error", ""),
        worker=notes.pop("worker", ""),
        at=seconds_in(notes.pop("at", "")) or 0.0,
        traceback=notes.pop("traceback", None),
        fields=fields,
        history=deaths_in(raw.get(b"history", b"").decode(errors="replace")),
        notes=notes,
    )


def deaths_in(history: str) -> list[dict[str, Any]]:
    """The deaths in a history, as revive.lua writes it: a JSON object a line."""
    return [
        {**death, "at": seconds_in(death.get("at")), "enqueued": seconds_in(death.get("enqueued"))}
        for line in history.split("\n")
        if (death := death_in(line)) is not None
    ]


def death_in(line: str) -> dict[str, Any] | None:
    """One death; nothing if somebody else wrote the line."""
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.MsgspecError:
        return None


def seconds_in(milliseconds: Any) -> float | None:
    """Milliseconds as Redis has them, in seconds; None if they are no number."""
    text = str(milliseconds)
    return int(text) / 1000 if text.isascii() and text.isdigit() else None


def enqueued_at(queue: str, id: str) -> float | None:
    """When a message was sent, if its id says so; chosen ids do not."""
    if OWN_ID.fullmatch(id):
        return int(id[:11], 16) / 1000
    entry = id.removeprefix(f"{queue}-")
    return seconds_in(entry.partition("-")[0]) if ENTRY.fullmatch(entry) else None


def readable(data: bytes) -> str:
    """Bytes as text; what is not UTF-8 is escaped."""
    return data.decode(errors="backslashreplace")


# Lines


class Bytes(msgspec.Struct):
    """What is not UTF-8."""

    base64: bytes


Value = str | Bytes


class Line(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A letter on its way: the fields of its hash.  ``odd`` are those whose name is no text."""

    queue: str
    letter: Value
    fields: dict[str, Value]
    odd: list[tuple[Value, Value]] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A letter read from a line: everything that Redis is to keep; ``at`` in milliseconds."""

    queue: str
    letter: bytes
    at: int
    fields: dict[bytes, bytes]


def to_line(queue: str, letter: bytes, fields: Mapping[bytes, bytes]) -> bytes:
    """A letter as one line of JSON; bytes that are not UTF-8 become ``{"base64": …}``.

    Redis gives fields in any order; they are sorted, so that two exports can be compared.
    """
    named = [(value_of(name), value_of(value)) for name, value in sorted(fields.items())]
    line = Line(
        queue=queue,
        letter=value_of(letter),
        fields={name: value for name, value in named if isinstance(name, str)},
        odd=[(name, value) for name, value in named if not isinstance(name, str)],
    )
    return msgspec.json.encode(line)


def from_line(text: bytes) -> Parcel:
    """Read a line that ``to_line`` wrote.  Raises DecodeError with what is wrong with it."""
    try:
        line = msgspec.json.decode(text, type=Line)
        check_name(line.queue, "queue name")
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        raise DecodeError(str(error).partition("\n")[0]) from None
    named = [*line.fields.items(), *line.odd]
    fields = {bytes_of(name): bytes_of(value) for name, value in named}
    for needed in (b"id", b"dead_reason", b"dead_at"):
        if needed not in fields:
            raise DecodeError(f"no field {needed.decode()!r}")
    if not MILLISECONDS.fullmatch(fields[b"dead_at"]):
        raise DecodeError("dead_at is no time in milliseconds")
    return Parcel(
        queue=line.queue, letter=bytes_of(line.letter), at=int(fields[b"dead_at"]), fields=fields
    )


def value_of(data: bytes) -> Value:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return Bytes(base64=data)


def bytes_of(value: Value) -> bytes:
    return value.base64 if isinstance(value, Bytes) else value.encode()
