"""Dead letters: what could not be run, looked at, put back and deleted by people."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from streamq.store.client import Client
from streamq.store.inspector import Text, text, texts
from streamq.store.keys import Keys
from streamq.store.scripts import Script, load

REVIVE = load("revive")
DISCARD = load("discard")

#: Letters handled in one round trip.
AT_ONCE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A dead letter: the message's own fields, and why it lies here."""

    queue: str
    letter: str
    task: str
    reason: str
    error: str
    worker: str
    at: float
    fields: Text


class DeadLetters:
    """The dead letters of one namespace."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def newest(self, queue: str, most: int) -> list[Letter]:
        """The dead letters of a queue, newest first."""
        names = self.client.ask("ZRANGE", self.keys.dead(queue), 0, most - 1, "REV")
        return [letter for name in names if (letter := self.one(queue, text(name)))]

    def one(self, queue: str, letter: str) -> Letter | None:
        """One dead letter, if it is there."""
        fields = texts(self.client.ask("HGETALL", self.keys.dead_letter(queue, letter)))
        if not fields:
            return None
        return Letter(
            queue=queue,
            letter=letter,
            task=fields.get("task", ""),
            reason=fields.pop("dead_reason", ""),
            error=fields.pop("dead_error", ""),
            worker=fields.pop("dead_worker", ""),
            at=int(fields.pop("dead_at", 0)) / 1000,
            fields=fields,
        )

    def names(self, queue: str) -> list[str]:
        """The names of all dead letters of a queue, oldest first."""
        return [text(name) for name in self.client.ask("ZRANGE", self.keys.dead(queue), 0, -1)]

    def revive(self, queue: str, letters: Sequence[str]) -> int:
        """Put dead letters into their queue again; return how many were there."""
        return self.each(REVIVE, queue, letters)

    def discard(self, queue: str, letters: Sequence[str]) -> int:
        """Delete dead letters for good; return how many were there."""
        return self.each(DISCARD, queue, letters)

    def each(self, script: Script, queue: str, letters: Sequence[str]) -> int:
        done = 0
        for at in range(0, len(letters), AT_ONCE):
            calls: list[tuple[Script, tuple[Any, ...]]] = [
                (script, (queue, letter)) for letter in letters[at : at + AT_ONCE]
            ]
            for reply in self.client.call_all(calls, self.keys.root):
                if isinstance(reply, Exception):
                    raise reply
                done += int(reply)
        return done
