"""Dead letters as values: how they are filtered and read, and their JSON lines for export."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from streamq.core.message import Value, bytes_of, value_of
from streamq.errors import DecodeError
from streamq.routing import check_name

#: The prefix of the fields that were added when the message became a dead letter.
PREFIX = "dead_"

#: A pattern with one of these characters is a glob.
GLOB = re.compile(r"[*?\[]")
MILLISECONDS = re.compile(rb"\d{1,15}")
#: Ids that begin with the time: ids of this century, as ``host.ids.new_id`` makes them, and
#: ids of messages that are named after their stream entry.
OWN_ID = re.compile(r"[12][0-9a-f]{25}")
ENTRY = re.compile(r"\d{13}-\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterFilter:
    """A filter that selects dead letters; without any condition it selects all.

    ``task`` is a name or a glob, ``reason`` a part of the reason or a glob.  The message died
    more than ``older`` and less than ``newer`` seconds ago.
    """

    task: str | None = None
    reason: str | None = None
    older: float | None = None
    newer: float | None = None

    @property
    def needs_fields(self) -> bool:
        """Whether the fields of a letter must be read to decide whether it is selected."""
        return self.task is not None or self.reason is not None

    def matches(self, task: str, reason: str) -> bool:
        """Whether a letter of this task with this reason is selected, whatever its age."""
        if self.task is not None and not fnmatchcase(task, self.task):
            return False
        return self.reason is None or reason_matches(reason, self.reason)

    def score_range(self, now: int) -> tuple[str, str]:
        """The earliest and the latest time of death in milliseconds, as ZRANGE takes them."""
        first = "-inf" if self.newer is None else str(now - int(self.newer * 1000))
        last = now if self.older is None else now - int(self.older * 1000)
        return first, str(last)


def reason_matches(reason: str, wanted: str) -> bool:
    """Whether a reason matches a glob or, without a glob, contains the text; ignores case."""
    reason, wanted = reason.lower(), wanted.lower()
    return fnmatchcase(reason, wanted) if GLOB.search(wanted) else wanted in reason


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A dead letter: the fields of a message that could not be run, and the reason.

    Times are seconds since the epoch.  ``history`` lists the earlier deaths of the message, the
    first one first.  ``notes`` are all other fields that were added when it died.
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


def letter_of(queue: str, name: bytes, raw: Mapping[bytes, bytes]) -> DeadLetter:
    """The dead letter that a hash of Redis holds."""
    values = {readable(name): readable(value) for name, value in raw.items()}
    fields = {name: value for name, value in values.items() if not name.startswith(PREFIX)}
    notes = {
        name.removeprefix(PREFIX): value for name, value in values.items() if name not in fields
    }
    return DeadLetter(
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
        history=parse_history(raw.get(b"history", b"").decode(errors="replace")),
        notes=notes,
    )


def parse_history(history: str) -> list[dict[str, Any]]:
    """The earlier deaths in a history, which retry_dead.lua writes as one JSON object a line."""
    return [
        {**death, "at": seconds_in(death.get("at")), "enqueued": seconds_in(death.get("enqueued"))}
        for line in history.split("\n")
        if (death := parse_history_line(line)) is not None
    ]


def parse_history_line(line: str) -> dict[str, Any] | None:
    """One line of a history; None if it is no JSON object, because streamq did not write it."""
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.MsgspecError:
        return None


def seconds_in(milliseconds: Any) -> float | None:
    """Milliseconds, as Redis stores them, in seconds; None if the value is no number."""
    text = str(milliseconds)
    return int(text) / 1000 if text.isascii() and text.isdigit() else None


def enqueued_at(queue: str, id: str) -> float | None:
    """When a message was sent, in seconds since the epoch; None if its id does not hold a time."""
    if OWN_ID.fullmatch(id):
        return int(id[:11], 16) / 1000
    entry = id.removeprefix(f"{queue}-")
    return seconds_in(entry.partition("-")[0]) if ENTRY.fullmatch(entry) else None


def readable(data: bytes) -> str:
    """Bytes as text; bytes that are not UTF-8 are escaped."""
    return data.decode(errors="backslashreplace")


# Lines


class Line(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One line of an export: a dead letter with the fields of its hash.

    ``odd`` are the fields whose name is not UTF-8.
    """

    queue: str
    letter: Value
    fields: dict[str, Value]
    odd: list[tuple[Value, Value]] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedLetter:
    """A dead letter read from a line of an export; ``at`` is its time of death in milliseconds."""

    queue: str
    letter: bytes
    at: int
    fields: dict[bytes, bytes]


def to_line(queue: str, letter: bytes, fields: Mapping[bytes, bytes]) -> bytes:
    """Encode a dead letter as one line of JSON; bytes that are not UTF-8 are ``{"base64": …}``.

    Fields are sorted, because Redis returns them in any order: two exports can be compared.
    """
    named = [(value_of(name), value_of(value)) for name, value in sorted(fields.items())]
    line = Line(
        queue=queue,
        letter=value_of(letter),
        fields={name: value for name, value in named if isinstance(name, str)},
        odd=[(name, value) for name, value in named if not isinstance(name, str)],
    )
    return msgspec.json.encode(line)


def from_line(text: bytes) -> ExportedLetter:
    """Decode a line that ``to_line`` wrote.  Raises DecodeError with the reason."""
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
    return ExportedLetter(
        queue=line.queue, letter=bytes_of(line.letter), at=int(fields[b"dead_at"]), fields=fields
    )
