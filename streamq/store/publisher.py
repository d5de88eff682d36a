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
from time import sleep
from typing import Any, NoReturn

from streamq.clock import monotonic
from streamq.errors import (
    BrokerUnavailable,
    ConfigError,
    NotConfirmed,
    OutOfIds,
    PublishUnknown,
    QueueFull,
    Unroutable,
)
from streamq.message import Envelope, Publication
from streamq.store.addresses import SCHEME, NoMaster
from streamq.store.confirm import (
    POLICY,
    PROBE,
    Confirmation,
    check_policy,
    lacks_waitaof,
    needs_probe,
)
from streamq.store.connection import BLOCK_MARGIN, Connection, Disconnected, Passing, Refused
from streamq.store.keys import Keys
from streamq.store.lending import Lending
from streamq.store.reading import text
from streamq.store.replies import Denied, Foreign, WritesRefused
from streamq.store.scripts import Script, load, refusal

PUBLISH = load("publish")
PUSH = load("push")

#: How many publishes one process has in flight at most.
LANES = 4
#: Seconds between two attempts: the first, and the longest.
PAUSES = (0.05, 1.0)
#: Seconds after which a process that has not heard of its Redis gives up.
FIRST_CONTACT = 1.5


@dataclass(eq=False)
class Lane:
    """One connection, and the number of what was last published on it."""

    connection: Connection
    name: str = field(default_factory=lambda: secrets.token_hex(8))
    number: int = 0
    script: Script = PUBLISH
    argv: tuple[Any, ...] = ()
    #: What the publish in flight needs beyond the server's word; mostly nothing.
    confirm: tuple[Confirmation, ...] = ()
    #: The socket whose server was found able to say when a message is on disk, and how.
    probed: Any = None
    by_policy: bool = False


#: What one call of a script is to publish: the script, and what follows lane and number.
Load = tuple[Script, Iterable[Any]]


def plain(envelope: Envelope, messages: Sequence[str | bytes]) -> Load:
    """Messages for the short way: id, args and kwargs of each, one after the other."""
    return PUSH, (*envelope.shared, *messages)


def full(publications: Iterable[Publication]) -> Load:
    """Messages for the long way, which is good for all."""
    return PUBLISH, chain.from_iterable(publications)


def answers_of(answer: Any) -> list[str]:
    """The queues of each message in a script's answer; those of all if they are the same."""
    each = answer if isinstance(answer, list) else [answer]
    return list(map(text, each))


class Contact:
    """Whether this process has ever heard of its Redis; if not, the URL is likely wrong."""

    def __init__(self, url: str) -> None:
        self.behind_sentinels = url.startswith(SCHEME)
        self.made = False

    def learn(self, error: BrokerUnavailable, *, sent: bool) -> None:
        """A server that answers is there, and so is one that Sentinels know."""
        known = self.behind_sentinels and not isinstance(error.__cause__, NoMaster)
        self.made |= sent or known or isinstance(error, Passing)


class Attempt:
    """The decisions of one publish: whether to try again, and what to say in the end.

    Knows no connection and does not wait, so that the blocking and the asyncio publisher
    share it.
    """

    def __init__(self, timeout: float, contact: Contact, *, now: float) -> None:
        self.began = now
        self.deadline = now + timeout
        self.first_deadline = now + min(timeout, FIRST_CONTACT)
        self.contact = contact
        self.tries = 0
        self.sent = False

    def pause(self, error: BrokerUnavailable, now: float) -> float:
        """Seconds to wait before the next try; raises when there is to be none."""
        self.sent |= isinstance(error, Disconnected) and error.sent
        self.contact.learn(error, sent=self.sent)
        pause: float = min(PAUSES[0] * 2**self.tries, PAUSES[1])
        self.tries += 1
        deadline = self.deadline if self.contact.made else self.first_deadline
        if self.asks_again(error) and now + pause < deadline:
            return pause
        if self.tries > 1:
            error.add_note(f"  tried {self.tries} times in {now - self.began:.1f} s")
        self.give_up(error)

    def asks_again(self, error: BrokerUnavailable) -> bool:
        """Whether a further try may help; after a lost answer only an answer ends the doubt."""
        if isinstance(error, Denied):
            return False
        passes = isinstance(error, Disconnected | Passing) and not isinstance(error, WritesRefused)
        return passes or self.sent

    def give_up(self, error: Exception) -> NoReturn:
        """Raise this; after a lost answer PublishUnknown, as no refusal is about the try before."""
        if not self.sent or (isinstance(error, Refusal) and error.leads_nowhere):
            raise error
        raise PublishUnknown(
            "Redis was lost before it answered; whether it took the message is unknown",
            known={"last error": str(error).partition("\n")[0], "tries": self.tries},
            advice=[
                "with a task_id of yours: send it again with the same task_id, it is accepted once"
            ],
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

    @property
    def reason(self) -> str:
        """What was refused, in one line."""
        return str(self.error()).partition("\n")[0]

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
            case "OUTOFIDS", [queue]:
                return OutOfIds.of(queue)
            case "BADSETTINGS", [queue]:
                return ConfigError(
                    f"nobody can read what queue {queue!r} was declared with",
                    advice=[
                        "start a worker for it: that declares it again, as its app says",
                        f"see what is there: HGET {{NAMESPACE}}:queues {queue}",
                    ],
                )
            case "WRONGTYPE", _:
                return Foreign(str(self))
            case _:
                return ConfigError(f"the publish script refused the call: {self}")


def refusal_of(error: Refused | ConfigError) -> Exception:
    """What the script refused as a Refusal; that this Redis cannot confirm, as it is."""
    return Refusal(str(error)) if isinstance(error, Refused) else error


class Publisher:
    """Publishes from any thread."""

    def __init__(
        self, url: str, keys: Keys, contact: Contact, *, timeout: Callable[[], float]
    ) -> None:
        self.url = url
        self.keys = keys
        self.contact = contact
        self.root = keys.root
        self.timeout = timeout
        self.lanes = Lending(lambda: Lane(Connection(url, name="streamq:producer")), LANES)

    def close(self) -> None:
        """Close what is idle."""
        for lane in self.lanes.clear():
            lane.connection.drop()

    def publish(
        self,
        publications: list[Publication],
        lane: Lane | None = None,
        confirm: tuple[Confirmation, ...] = (),
    ) -> list[str]:
        """Publish all or none; return for each the queues it went to, joined by ``:``.

        On ``lane``, if the caller has one: who waited for another could wait for ever.

        Raises Refusal, BrokerUnavailable or PublishUnknown when Redis stays away, and
        NotConfirmed if what ``confirm`` asks for does not come.
        """
        if lane is None:
            with self.lanes.lent() as lent:
                return self.publish(publications, lent, confirm)
        answers = self.deliver(lane, full(publications), confirm)
        return answers_of(answers)

    def push(
        self,
        envelope: Envelope,
        messages: Sequence[str | bytes],
        confirm: tuple[Confirmation, ...] = (),
    ) -> str | None:
        """Publish plain messages the short way; None if that is not the way for them."""
        lane = self.lanes.borrow()
        try:
            answer: bytes = self.deliver(lane, plain(envelope, messages), confirm)
        finally:
            self.lanes.give_back(lane)
        return answer.decode(errors="backslashreplace") if answer else None

    def deliver(self, lane: Lane, load: Load, confirm: tuple[Confirmation, ...] = ()) -> Any:
        """Publish, and return the script's answer."""
        lane.number += 1
        lane.confirm = confirm
        script, arguments = load
        return self.insist(lane, script, (lane.name, lane.number, *arguments))

    def begin(self, lane: Lane, load: Load, confirm: tuple[Confirmation, ...] = ()) -> None:
        """Send a publish without waiting for its answer; ``end`` must follow."""
        lane.number += 1
        lane.confirm = confirm
        script, arguments = load
        lane.script, lane.argv = script, (lane.name, lane.number, *arguments)
        with suppress(BrokerUnavailable):
            self.prepare(lane)
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
                answer = self.once(lane, script, argv, sent=sent and attempt is None)
                self.contact.made = True
                return answer
            except NotConfirmed:
                raise
            except BrokerUnavailable as error:
                attempt = attempt or Attempt(self.timeout(), self.contact, now=monotonic())
                sleep(attempt.pause(error, monotonic()))
            except (Refused, ConfigError) as error:
                if attempt:
                    attempt.give_up(refusal_of(error))
                raise refusal_of(error) from None

    def once(self, lane: Lane, script: Script, argv: tuple[Any, ...], *, sent: bool) -> Any:
        """Run a script once: read its answer, having sent it unless that was done."""
        connection = lane.connection
        if not sent or connection.socket is None:
            if lane.confirm:
                self.prepare(lane)
            connection.send([script.command(self.root, *argv)])
        reply = connection.read(raising=False)
        if isinstance(reply, Refused) and reply.code == "NOSCRIPT":
            reply = connection.call(script, self.root, *argv)
        if isinstance(reply, Exception):
            raise reply
        if lane.confirm and reply:
            self.confirm(lane, reply)
        return reply

    # Confirming

    def prepare(self, lane: Lane) -> None:
        """Make sure that the server can confirm what it is to be asked; once a connection."""
        connection = lane.connection
        if not needs_probe(lane.confirm):
            return
        if lane.probed is not None and lane.probed is connection.socket:
            return
        lane.by_policy = lacks_waitaof(self.try_to_ask(connection, PROBE))
        if lane.by_policy:
            check_policy(self.try_to_ask(connection, POLICY))
        lane.probed = connection.socket

    def confirm(self, lane: Lane, answer: Any) -> None:
        """Ask for what the accepted message needs.  Raises NotConfirmed if it does not come."""
        connection, link = lane.connection, lane.connection.socket
        for each in lane.confirm:
            try:
                reply = self.try_to_ask(
                    connection,
                    each.question(by_policy=lane.by_policy),
                    each.timeout + BLOCK_MARGIN,
                )
            except Passing as error:
                raise lost(str(error)) from error
            if connection.socket is not link:  # a new connection would confirm anything
                raise lost("the connection broke before the message was confirmed")
            each.judge(reply, answer)

    def try_to_ask(
        self, connection: Connection, command: tuple[Any, ...], timeout: float | None = None
    ) -> Any:
        """Ask, and return an error that the server answers: it, too, is an answer here."""
        try:
            return connection.ask(*command, timeout=timeout)
        except (Refused, Denied) as error:
            return error


def lost(text: str) -> Disconnected:
    """A connection that was lost after the server had taken the message."""
    error = Disconnected(text)
    error.sent = True
    return error
