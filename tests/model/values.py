"""The values of the model: messages, streams, records, tokens and marks.

All text is as Redis keeps it; times are milliseconds.
"""

import json
from dataclasses import dataclass, field

FINAL = {"SUCCESS", "FAILURE", "REVOKED"}
HOUR = 3_600_000
#: The fields of a record about a run, which a new generation begins without.
ENDING = [
    *("error", "error_type", "error_args", "traceback", "worker", "started", "finished"),
    *("runtime", "result", "content_type", "compression", "reason", "meta"),
    *("meta_content_type", "retries", "revoked", "eta", "dead_lettered_to"),
    *("copies", "ended", "queue"),
]
MOST_DEATHS = 10

Fields = dict[str, str]


@dataclass(eq=False, slots=True)
class Copy:
    """A message in a stream, as one entry.  A message that moves becomes a new copy.

    The id of the entry is made by Redis and given to the model afterwards.
    """

    fields: Fields
    entry: str = ""
    holder: str = ""


@dataclass(slots=True)
class Stream:
    """A stream; without a group no consumer can read it."""

    group: bool = False
    copies: list[Copy] = field(default_factory=list)
    consumers: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Record:
    """The record of a task; it expires if it has a life."""

    fields: Fields = field(default_factory=dict)
    life: int = 0
    waiters: list[str] = field(default_factory=list)

    @property
    def state(self) -> str:
        return self.fields.get("state", "")

    @property
    def generation(self) -> str:
        return self.fields.get("generation", "1")

    @property
    def ended(self) -> bool:
        return self.state in FINAL or "finished" in self.fields

    @property
    def was_revoked(self) -> bool:
        """Whether the task was revoked while it ran, and has not ended since."""
        return "revoked" in self.fields and not self.ended

    def without(self, *names: str) -> None:
        for name in names:
            self.fields.pop(name, None)


@dataclass(frozen=True, slots=True)
class Token:
    """What a consumer knows of a message that it has read: where it was, and who it is."""

    stream: str
    entry: str
    id: str
    generation: str = "1"

    @property
    def name(self) -> str:
        return called(self.id, self.generation)

    @property
    def place(self) -> str:
        return f"{self.stream} {self.entry}"


@dataclass(frozen=True, slots=True)
class Mark:
    """The mark of a message that was acknowledged before its run."""

    stream: str
    fields: Fields

    def text(self) -> str:
        flat = [part for pair in self.fields.items() for part in pair]
        return json.dumps({"stream": self.stream, "fields": flat})


def called(id: str, generation: str) -> str:
    """The name of a message: its id, with the generation if that is not the first."""
    return id if generation == "1" else f"{id}::{generation}"


def generation_of(fields: Fields) -> str:
    return fields.get("generation", "1")


def queue_of(stream: str) -> str:
    return stream.partition(":")[0]


def streams_of(queue: str) -> list[str]:
    """Every stream that a queue can have, in the order in which they are read."""
    levels = [f"{queue}:p{level}" for level in range(9, 0, -1)]
    return [f"{queue}:quarantine", f"{queue}:returned", *levels, queue]


def serial_of(fields: Fields) -> str:
    """The number of a published message: its arguments, which never change."""
    return fields["args"]
