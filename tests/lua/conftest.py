"""One consumer with a lease, and a queue to take messages from."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from streamq.transport.scripts import load

Run = Callable[..., Any]

#: How many dead letters a queue keeps here, and for how many milliseconds.
BOUNDS = (3, 60_000)
HOUR = 3_600_000
ROOT = "{streamq}"


class Consumer:
    """What a consumer named `me` does, straight at Redis."""

    def __init__(self, redis: Any, scripts: Run, name: str = "me") -> None:
        self.redis, self.scripts, self.name = redis, scripts, name
        self.number = 0

    def add(self, id: str = "", stream: str = "mail", **fields: str) -> str:
        """Add a message with a waiting task's record; return its entry."""
        named = {"id": id} if id else {}
        if id and "ignore_result" not in fields:
            self.redis.hset(f"{ROOT}:task:{id}", "state", "QUEUED")
        return str(
            self.redis.xadd(f"{ROOT}:queue:{stream}", {**named, "task": "tasks.send", **fields})
        )

    def read(self, stream: str = "mail") -> list[str]:
        """Take whatever waits; return the entries."""
        found = self.redis.xreadgroup("workers", self.name, {f"{ROOT}:queue:{stream}": ">"})
        return [entry for _, entries in found for entry, _ in entries]

    def take(self, id: str = "", stream: str = "mail", **fields: str) -> str:
        """Add a message and read it."""
        entry = self.add(id, stream, **fields)
        assert self.read(stream) == [entry]
        return entry

    def settle(self, *groups: Any, number: int | None = None) -> Any:
        """Call settle.lua for these groups; each call has the next number."""
        self.number += 1
        argv = [part for group in groups for part in group]
        return self.scripts("settle", self.name, number or self.number, *argv)

    def follow(self, *messages: Any, number: int | None = None) -> Any:
        """Call follow.lua for these messages; each call has the next number."""
        self.number += 1
        argv = [part for message in messages for part in message]
        return self.scripts("follow", self.name, number or self.number, *BOUNDS, *argv)

    def start(self, entry: str, stream: str = "mail") -> Any:
        """Acknowledge a message before it runs."""
        found = self.redis.xrange(f"{ROOT}:queue:{stream}", entry, entry)
        pairs = found[0][1].items() if found else ()
        fields = [part for pair in pairs for part in pair]
        mark = json.dumps({"stream": stream, "fields": fields})
        return self.settle(("start", stream, 1, entry, mark))

    def recover(self, *running: str, name: str = "me", **options: Any) -> list[int]:
        """Call recover.lua; ``running`` are entries of `mail`."""
        told = {
            **{"reason": "it died", "blame": "sole_task", "crashes": 3, "budget": 100},
            **{"deadline": "", "expect": "", "tolerance": 0, "known": True},
            **options,
        }
        pairs = [part for entry in running for part in (told.get("stream", "mail"), entry)]
        count = len(running) if told["known"] else "*"
        return list(
            self.scripts(
                *("recover", name, told["deadline"], told["expect"], told["tolerance"]),
                *(told["reason"], told["blame"], told["crashes"], HOUR, *BOUNDS),
                *(told["budget"], count, *pairs, *told.get("streams", ())),
            )
        )

    def record(self, id: str) -> dict[str, str]:
        return dict(self.redis.hgetall(f"{ROOT}:task:{id}"))

    def letter(self, id: str, queue: str = "mail") -> dict[str, str]:
        return dict(self.redis.hgetall(f"{ROOT}:dead:{queue}:{id}"))

    def letters(self, queue: str = "mail") -> list[str]:
        return list(self.redis.zrange(f"{ROOT}:dead:{queue}", 0, -1))

    def waiting(self, stream: str = "mail:returned") -> list[dict[str, str]]:
        """The fields of every entry of a stream."""
        return [fields for _, fields in self.redis.xrange(f"{ROOT}:queue:{stream}")]

    def pending(self, stream: str = "mail") -> int:
        return int(self.redis.xpending(f"{ROOT}:queue:{stream}", "workers")["pending"])


def ended(entry: str, id: str, *, ack: str = "late", stream: str = "mail", **told: Any) -> tuple:
    """One outcome as settle.lua takes it."""
    state, expires = told.pop("state", "SUCCESS"), told.pop("expires", HOUR)
    pairs = [part for pair in told.items() for part in pair]
    return (ack, stream, 1, entry, id, state, expires, len(told), *pairs)


def followed(
    entry: str, id: str, *words: Any, ack: str = "late", stream: str = "mail", **told: Any
) -> tuple:
    """One outcome as follow.lua takes it: ``words`` say what follows."""
    state, expires = told.pop("state", "FAILURE"), told.pop("expires", HOUR)
    pairs = [part for pair in told.items() for part in pair]
    return (ack, stream, entry, id, state, expires, len(told), *pairs, len(words), *words)


@pytest.fixture
def outcome() -> Run:
    return ended


@pytest.fixture
def following() -> Run:
    return followed


@pytest.fixture
def consumer(redis: Any, scripts: Run) -> Consumer:
    """The consumer `me`, with a lease and the queue `mail`."""
    scripts("declare_queue", "mail", "{}")
    scripts("register", 15_000, "me")
    return Consumer(redis, scripts)


@pytest.fixture
def changed(redis: Any) -> Run:
    """``changed("retry_dead", line, instead)`` runs a script in which one line is another."""

    def changed(name: str, line: str, instead: str) -> Run:
        text = load(name).text
        assert text.count(line) == 1, f"{name}.lua has changed: {line!r}"
        return lambda *argv: redis.eval(text.replace(line, instead), 1, "{streamq}", *argv)

    return changed
