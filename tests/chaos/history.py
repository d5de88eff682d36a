"""What happened: every process appends lines of JSON to one file, each in a single write.

Whatever dies next, what it has said stays whole.  Times are seconds of the monotonic clock,
which all processes of a machine share.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

#: Where the history of this run is, for the processes that take part in it.
PLACE = "CHAOS_HISTORY"

Event = dict[str, Any]


class Pen:
    """Writes events, from any thread or greenlet, and in forked children too."""

    def __init__(self, path: str | Path) -> None:
        self.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.encode = msgspec.json.Encoder().encode

    def note(self, what: str, **facts: Any) -> None:
        """Append an event."""
        facts["what"] = what
        facts.setdefault("at", time.monotonic())
        os.write(self.file, self.encode(facts) + b"\n")


def read(path: str | Path) -> list[Event]:
    """Every event of a history, in the order of time."""
    return sorted(lines(path), key=lambda event: event["at"])


def lines(path: str | Path) -> Iterator[Event]:
    decode = msgspec.json.Decoder().decode
    with open(path, "rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield decode(line)
