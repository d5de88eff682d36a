"""The history of a chaos run: every process appends lines of JSON to one file.

Each line is a single write, so that it is whole even if its process is killed next.  Times are
seconds of the monotonic clock, which all processes of a machine share.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

#: The environment variable with the path of the history, for the processes of a run.
PLACE = "CHAOS_HISTORY"

Event = dict[str, Any]


class HistoryWriter:
    """The writer of a history: may be used by threads, greenlets and forked children."""

    def __init__(self, path: str | Path) -> None:
        self.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.encode = msgspec.json.Encoder().encode

    def note(self, what: str, **facts: Any) -> None:
        """Append an event."""
        facts["what"] = what
        facts.setdefault("at", time.monotonic())
        os.write(self.file, self.encode(facts) + b"\n")


def read(path: str | Path) -> list[Event]:
    """All events of a history, in the order of time."""
    return sorted(lines(path), key=lambda event: event["at"])


def lines(path: str | Path) -> Iterator[Event]:
    """The complete lines of a history, decoded, in the order in which they were written."""
    decode = msgspec.json.Decoder().decode
    with open(path, "rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield decode(line)
