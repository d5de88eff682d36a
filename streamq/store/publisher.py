"""Publishing: sent until Redis has answered, accepted once.

A lane is a connection with one publish in flight.  It numbers its publishes, and the
script remembers the last number and answer of each lane: what is sent again because its
answer was lost is recognised, at no cost per message.
"""

import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from streamq.errors import BrokerUnavailable, ConfigError, PublishUnknown, QueueFull, Unroutable
from streamq.store.connection import Connection, Disconnected, Passing, Refused
from streamq.store.keys import Keys
from streamq.store.scripts import load, refusal

PUBLISH = load("publish")

#: How many publishes one process has in flight at most.
LANES = 4
#: Seconds between two attempts: the first, and the longest.
PAUSES = (0.05, 1.0)
#: Seconds after which a process that never reached Redis gives up: its URL is likely wrong.
FIRST_CONTACT = 1.5

#: The arguments of the script for one message.
Publication = tuple[str | bytes | int, ...]


@dataclass(slots=True)
class Lane:
    """One connection, and the number of what was last published on it."""

    connection: Connection
    name: str = field(default_factory=lambda: secrets.token_hex(8))
    number: int = 0
    proven: bool = False


class Attempt:
    """The decisions of one publish: whether to try again, and what to say in the end.

    Knows no connection and does not wait, so that the blocking and the asyncio publisher
    share it.
    """

    def __init__(self, timeout: float, *, proven: bool, now: float) -> None:
        self.deadline = now + timeout
        self.first_deadline = now + min(timeout, FIRST_CONTACT)
        self.proven = proven
        self.tries = 0
        self.sent = False

    def pause(self, error: BrokerUnavailable, now: float) -> float:
        """Seconds to wait before the next try; raises when there is to be none."""
        if not isinstance(error, Disconnected | Passing):
            raise error
        self.sent |= isinstance(error, Disconnected) and error.sent
        self.proven |= self.sent or isinstance(error, Passing)
        pause: float = min(PAUSES[0] * 2**self.tries, PAUSES[1])
        self.tries += 1
        if now + pause < (self.deadline if self.proven else self.first_deadline):
            return pause
        if not self.sent:
            raise error
        raise PublishUnknown(
            "Redis was lost before it answered; whether it took the message is unknown",
            known={"last error": str(error).partition("\n")[0], "tries": self.tries},
            advice=["send it again with the same task_id: it is accepted once"],
        ) from error


class Refusal(Exception):
    """What publish.lua refused: ``index`` is the message's place in the call."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.code, index, *self.words = refusal(text)
        self.index = int(index) if index.isdigit() else 0

    @property
    def leads_nowhere(self) -> bool:
        """Whether declaring the topology again may help."""
        return self.code in ("UNROUTABLE", "NOEXCHANGE")

    def error(self) -> Exception:
        """The public error that says the same."""
        match self.code, self.words:
            case "UNROUTABLE", ["", key]:
                return Unroutable(
                    f"there is no queue {key!r}", advice=["declare it, or start a worker with -Q"]
                )
            case "UNROUTABLE", [exchange, key]:
                return Unroutable(
                    f"exchange {exchange!r} leads to no queue for the key {key!r}",
                    advice=[f"streamq exchanges route {exchange} {key!r}  shows its bindings"],
                )
            case "NOEXCHANGE", [exchange]:
                return Unroutable(
                    f"there is no exchange {exchange!r}",
                    advice=["declare it: app.queues = [Queue(…, Exchange(…))]"],
                )
            case "QUEUEFULL", [queue, limit]:
                return QueueFull(
                    f"queue {queue!r} is full",
                    known={"max_length": limit},
                    advice=["start more workers, or raise its max_length"],
                )
            case _:
                return ConfigError(f"the publish script refused the call: {self}")


class Publisher:
    """Publishes from any thread."""

    def __init__(self, url: str, keys: Keys, *, timeout: Callable[[], float]) -> None:
        self.url = url
        self.keys = keys
        self.timeout = timeout
        self.reset()

    def reset(self) -> None:
        """Start without lanes: at the beginning, and in a forked child."""
        self.pid = os.getpid()
        self.idle: deque[Lane] = deque()
        self.room = threading.BoundedSemaphore(LANES)

    @contextmanager
    def lane(self) -> Iterator[Lane]:
        """Borrow a lane; a caller waits while all are in use."""
        if self.pid != os.getpid():
            self.reset()
        with self.room:
            try:
                lane = self.idle.pop()
            except IndexError:
                lane = Lane(Connection(self.url, name="streamq:producer"))
            try:
                yield lane
            finally:
                self.idle.append(lane)

    def publish(self, publications: list[Publication]) -> list[str]:
        """Publish all or none; return for each the queues it went to, joined by ``:``.

        Raises Refusal, and BrokerUnavailable or PublishUnknown when Redis stays away.
        """
        with self.lane() as lane:
            self.begin(lane, publications)
            return self.end(lane, publications)

    def begin(self, lane: Lane, publications: list[Publication]) -> None:
        """Send a publish without waiting for its answer; ``end`` must follow."""
        lane.number += 1
        try:
            lane.connection.send([command(self.keys, lane, publications)])
        except Disconnected:
            lane.connection.drop()

    def end(self, lane: Lane, publications: list[Publication]) -> list[str]:
        """Wait for the answer to what ``begin`` sent; send it again while there is none."""
        attempt = Attempt(self.timeout(), proven=lane.proven, now=time.monotonic())
        while True:
            try:
                answer = self.answer(lane, publications, again=attempt.tries > 0)
                lane.proven = True
                return [queues.decode() for queues in answer]
            except BrokerUnavailable as error:
                time.sleep(attempt.pause(error, time.monotonic()))
            except Refused as error:
                raise Refusal(str(error)) from None

    def answer(self, lane: Lane, publications: list[Publication], *, again: bool) -> Any:
        """Read the answer; send first if there is nothing to be read."""
        connection = lane.connection
        if again or connection.socket is None:
            connection.send([command(self.keys, lane, publications)])
        reply = connection.read(raising=False)
        if isinstance(reply, Refused) and reply.code == "NOSCRIPT":
            connection.ask("SCRIPT", "LOAD", PUBLISH.text)
            connection.send([command(self.keys, lane, publications)])
            reply = connection.read(raising=False)
        if isinstance(reply, Exception):
            raise reply
        return reply


def command(keys: Keys, lane: Lane, publications: list[Publication]) -> Any:
    """The one EVALSHA that publishes."""
    arguments = [argument for publication in publications for argument in publication]
    return PUBLISH.command(keys.root, lane.name, lane.number, *arguments)
