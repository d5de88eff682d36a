"""Publishing: sent until Redis has answered, accepted once.

A lane is a connection with one publish in flight.  It numbers its publishes, and the
script remembers the last number and answer of each lane: what is sent again because its
answer was lost is recognised, at no cost per message.
"""

import secrets
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from time import monotonic, sleep
from typing import Any

from streamq.errors import BrokerUnavailable, ConfigError, PublishUnknown, QueueFull, Unroutable
from streamq.message import Envelope, Publication
from streamq.store.connection import Connection, Disconnected, Passing, Refused
from streamq.store.keys import Keys
from streamq.store.lending import Lending
from streamq.store.scripts import Script, load, refusal

PUBLISH = load("publish")
PUSH = load("push")

#: How many publishes one process has in flight at most.
LANES = 4
#: Seconds between two attempts: the first, and the longest.
PAUSES = (0.05, 1.0)
#: Seconds after which a process that never reached Redis gives up: its URL is likely wrong.
FIRST_CONTACT = 1.5


@dataclass(slots=True)
class Lane:
    """One connection, and the number of what was last published on it."""

    connection: Connection
    name: str = field(default_factory=lambda: secrets.token_hex(8))
    number: int = 0
    proven: bool = False
    script: Script = PUBLISH
    argv: tuple[Any, ...] = ()


#: What one call of a script is to publish: the script, and what follows lane and number.
Load = tuple[Script, Iterable[Any]]


def plain(envelope: Envelope, messages: Sequence[str | bytes]) -> Load:
    """Messages for the short way: id, args and kwargs of each, one after the other."""
    return PUSH, (*envelope.shared, *messages)


def full(publications: Iterable[Publication]) -> Load:
    """Messages for the long way, which is good for all."""
    return PUBLISH, chain.from_iterable(publications)


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
        self.root = keys.root
        self.timeout = timeout
        self.lanes = Lending(lambda: Lane(Connection(url, name="streamq:producer")), LANES)

    def close(self) -> None:
        """Close what is idle."""
        for lane in self.lanes.clear():
            lane.connection.drop()

    def publish(self, publications: list[Publication], lane: Lane | None = None) -> list[str]:
        """Publish all or none; return for each the queues it went to, joined by ``:``.

        On ``lane``, if the caller has one: who waited for another could wait for ever.

        Raises Refusal, and BrokerUnavailable or PublishUnknown when Redis stays away.
        """
        if lane is None:
            with self.lanes.lent() as lent:
                return self.publish(publications, lent)
        answers = self.deliver(lane, full(publications))
        return [queues.decode() for queues in answers]

    def push(self, envelope: Envelope, messages: Sequence[str | bytes]) -> str | None:
        """Publish plain messages the short way; None if that is not the way for them."""
        lane = self.lanes.borrow()
        try:
            answer: bytes = self.deliver(lane, plain(envelope, messages))
        finally:
            self.lanes.give_back(lane)
        return answer.decode() if answer else None

    def deliver(self, lane: Lane, load: Load) -> Any:
        """Publish, and return the script's answer."""
        lane.number += 1
        script, arguments = load
        return self.insist(lane, script, (lane.name, lane.number, *arguments))

    def begin(self, lane: Lane, load: Load) -> None:
        """Send a publish without waiting for its answer; ``end`` must follow."""
        lane.number += 1
        script, arguments = load
        lane.script, lane.argv = script, (lane.name, lane.number, *arguments)
        with suppress(BrokerUnavailable):
            lane.connection.send([script.command(self.root, *lane.argv)])

    def end(self, lane: Lane) -> Any:
        """Wait for the answer to what ``begin`` sent; send it again while there is none."""
        return self.insist(lane, lane.script, lane.argv, sent=True)

    def insist(
        self, lane: Lane, script: Script, argv: tuple[Any, ...], *, sent: bool = False
    ) -> Any:
        """Run a script until it has answered; raise when there is to be no further try."""
        attempt = None
        while True:
            try:
                answer = self.once(lane.connection, script, argv, sent=sent and attempt is None)
                lane.proven = True
                return answer
            except BrokerUnavailable as error:
                attempt = attempt or Attempt(self.timeout(), proven=lane.proven, now=monotonic())
                sleep(attempt.pause(error, monotonic()))
            except Refused as error:
                raise Refusal(str(error)) from None

    def once(
        self, connection: Connection, script: Script, argv: tuple[Any, ...], *, sent: bool
    ) -> Any:
        """Run a script once: read its answer, having sent it unless that was done."""
        if not sent or connection.socket is None:
            connection.send([script.command(self.root, *argv)])
        reply = connection.read(raising=False)
        if isinstance(reply, Refused) and reply.code == "NOSCRIPT":
            return connection.call(script, self.root, *argv)
        if isinstance(reply, Exception):
            raise reply
        return reply
