"""Publishing: sent until Redis has answered, accepted once.

A lane is a connection with one publish in flight.  It numbers its publishes, and the
script remembers the last number and answer of each lane: what is sent again because its
answer was lost is recognised, at no cost per message.  Its name is that of the connection's
session; only what is sent again keeps the name and number under which it was sent first.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from math import inf
from time import sleep
from typing import Any, TypeVar

from streamq.broker.confirmation import (
    POLICY,
    PROBE,
    Confirmation,
    check_policy,
    lacks_waitaof,
    needs_probe,
)
from streamq.broker.publish_retry import (
    TWO_ANSWERS,
    Attempt,
    Contact,
    Errand,
    Published,
    refusal_of,
)
from streamq.core.message import Envelope, Publication
from streamq.errors import BrokerUnavailable, ConfigError, NotConfirmed
from streamq.host.clock import monotonic
from streamq.host.forks import FORKS
from streamq.transport.client import Client
from streamq.transport.connection import ANSWER_TIMEOUT, BLOCK_MARGIN, Connection, lost, pack
from streamq.transport.decode import text
from streamq.transport.keys import Keys
from streamq.transport.pool import Lending
from streamq.transport.replies import Denied, Passing, Refused
from streamq.transport.scripts import Script, load

T = TypeVar("T")

PUBLISH = load("publish")
PUSH = load("push")

#: How many publishes one process has in flight at most.
LANES = 4
#: Seconds for the answer to a question whose time is over by then.
ANSWER_MARGIN = 0.5
#: Seconds that a publish may have taken already and still be at its beginning.
PROMPT = 0.05


#: What one call of a script is to publish: the script, and what follows lane and number.
Load = tuple[Script, Iterable[Any]]
#: Makes it, given the session of the connection that it is to be sent on.
Make = Callable[[str], Load]


@dataclass(eq=False)
class Lane:
    """One connection, and the number of what was last published on it."""

    connection: Connection
    #: The session of the connection which name and number belong to.
    session: str = ""
    name: str = ""
    number: int = 0
    #: What is to be published, or is in flight; no ``argv`` before it is sent first.
    script: Script = PUBLISH
    load: Iterable[Any] = ()
    make: Make | None = None
    argv: tuple[Any, ...] | None = None
    #: What the publish in flight needs beyond the server's word; mostly nothing.
    confirm: tuple[Confirmation, ...] = ()
    #: Seconds that it took to send it, and whether it may have arrived and nobody will say so.
    spent: float = 0.0
    doubt: bool = False
    #: The socket whose server was found able to say when a message is on disk, and how.
    probed: Any = None
    by_policy: bool = False

    def command(self, root: str) -> tuple[Any, ...]:
        """The call that publishes: numbered when it is sent first, the same from then on."""
        if self.argv is None:
            session = self.connection.session
            if self.make is not None:
                self.script, self.load = self.make(session)
            if session != self.session:
                self.session = self.name = session
                self.number = 0
            self.number += 1
            self.argv = (self.name, self.number, *self.load)
        return self.script.command(root, *self.argv)

    def begin_again(self) -> None:
        """Publish the same on a new connection, and so under another name."""
        self.connection.drop()
        self.argv = None


def plain(envelope: Envelope, messages: Sequence[str | bytes]) -> Load:
    """Messages for the short way: id, args and kwargs of each, one after the other."""
    return PUSH, (*envelope.shared, *messages)


def full(publications: Iterable[Publication]) -> Load:
    """Messages for the long way, which is good for all."""
    return PUBLISH, tuple(chain.from_iterable(publications))


def answers_of(answer: Any) -> list[str]:
    """The queues of each message in a script's answer; those of all if they are the same."""
    each = answer if isinstance(answer, list) else [answer]
    return list(map(text, each))


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
        *,
        began: float | None = None,
    ) -> list[str]:
        """Publish all or none; return for each the queues it went to, joined by ``:``.

        On ``lane``, if the caller has one: who waited for another could wait for ever.
        ``publish_timeout`` counts from ``began`` (monotonic seconds), else from now.

        Raises Refusal, BrokerUnavailable or PublishUnknown when Redis stays away, and
        NotConfirmed if what ``confirm`` asks for does not come.
        """
        began = monotonic() if began is None else began
        if lane is None:
            lent = self.borrow(began)
            try:
                return self.publish(publications, lent, confirm, began=began)
            finally:
                self.lanes.give_back(lent)
        lane.script, lane.load = full(publications)
        lane.confirm, lane.argv = confirm, None
        if monotonic() - began > PROMPT:
            lane.connection.until = began + self.timeout()
        return answers_of(self.insist(lane, began))

    def push(
        self,
        envelope: Envelope,
        messages: Sequence[str | bytes],
        confirm: tuple[Confirmation, ...] = (),
        *,
        began: float,
    ) -> str | None:
        """Publish plain messages the short way; None if that is not the way for them."""
        lane = self.borrow(began)
        try:
            lane.script, lane.load = plain(envelope, messages)
            lane.confirm, lane.argv = confirm, None
            answer: bytes = self.insist(lane, began)
        finally:
            self.lanes.give_back(lane)
        return answer.decode(errors="backslashreplace") if answer else None

    def borrow(self, began: float) -> Lane:
        """A lane, if one is free before the time is over; it is to be given back."""
        lanes = self.lanes
        if lanes.idle and lanes.forks == FORKS.mark[0]:
            try:
                return lanes.idle.pop()
            except IndexError:
                pass  # another thread was faster
        timeout = self.timeout()
        try:
            lane = lanes.borrow(began + timeout)
            lane.connection.until = began + timeout
            return lane
        except TimeoutError:
            raise BrokerUnavailable(
                f"no connection to Redis was free for {timeout:g} s; nothing was sent",
                known={"connections": f"{LANES}, all of them waiting for an answer"},
                advice=["is Redis up, and not stuck?  streamq doctor"],
            ) from None

    def begin(self, lane: Lane, make: Make, confirm: tuple[Confirmation, ...] = ()) -> None:
        """Send a publish without waiting for its answer; ``end`` must follow."""
        lane.make, lane.confirm, lane.argv = make, confirm, None
        began = monotonic()
        try:
            with suppress(BrokerUnavailable):
                self.limit(lane, began)
                self.send(lane)
        finally:
            lane.connection.until = inf
            lane.spent = monotonic() - began

    def end(self, lane: Lane) -> Any:
        """Wait for the answer to what ``begin`` sent; send it again while there is none.

        What the caller did meanwhile takes nothing of the time that there is for that.
        """
        lane.doubt = lane.argv is not None and not lane.connection.unread
        try:
            return self.insist(lane, monotonic() - lane.spent, sent=True)
        finally:
            lane.make, lane.doubt = None, False

    def insist(self, lane: Lane, began: float, *, sent: bool = False) -> Any:
        """Run a lane's script until it has answered; raise when there is to be no further try."""
        attempt, tried = None, False
        self.limit(lane, began)
        try:
            while True:
                try:
                    answer = self.once(lane, sent=sent and not tried)
                    self.contact.made = True
                    return answer
                except NotConfirmed:
                    raise
                except BrokerUnavailable as error:
                    attempt = attempt or self.attempt(lane, began)
                    sleep(attempt.pause(error, monotonic()))
                    lane.connection.until = lane.connection.due
                except (Refused, ConfigError) as error:
                    attempt = attempt or self.attempt(lane, began)
                    refusal = refusal_of(error)
                    if not attempt.renames(refusal):
                        attempt.give_up(refusal)
                    if attempt.sent and (found := self.found(lane, attempt, refusal)):
                        return found
                    lane.begin_again()
                tried = True
        finally:
            lane.connection.until = inf

    def attempt(self, lane: Lane, began: float) -> Attempt:
        """What decides whether to try again."""
        attempt = Attempt(self.timeout(), self.contact, now=began)
        attempt.sent = lane.doubt
        return attempt

    def found(self, lane: Lane, attempt: Attempt, refusal: Exception) -> Any:
        """The answer to what was published after all, if its records are there; else None.

        Gives up where there would be none.
        """
        published = Published.of(lane.script.name, lane.argv or ())
        questions = published.questions(self.keys)
        if not questions:
            attempt.give_up(refusal)
        try:
            lane.connection.send(questions)
            return published.answer([lane.connection.read() for _ in questions])
        except BrokerUnavailable as error:
            attempt.give_up(error)

    def limit(self, lane: Lane, began: float) -> None:
        """Let everything on this connection end by ``publish_timeout`` after ``began``."""
        timeout, connection = self.timeout(), lane.connection
        connection.patience = timeout / 2 if timeout < TWO_ANSWERS else ANSWER_TIMEOUT
        connection.due = began + timeout
        if lane.confirm:
            connection.until = connection.due

    def send(self, lane: Lane) -> None:
        """Send what a lane is to publish."""
        connection = lane.connection
        if lane.confirm:
            self.prepare(lane)
        connection.ready()
        connection.transmit(pack(lane.command(self.root)), 1)

    def once(self, lane: Lane, *, sent: bool) -> Any:
        """Run a lane's script once: read its answer, having sent it unless that was done."""
        connection = lane.connection
        if not sent or not connection.unread:
            self.send(lane)
        else:
            connection.refuse_inherited()
        reply = connection.read(raising=False)
        if isinstance(reply, Refused) and reply.code == "NOSCRIPT":
            reply = connection.call(lane.script, self.root, *(lane.argv or ()))
        if isinstance(reply, Exception):
            raise reply
        if lane.confirm and reply:
            self.confirm(lane, reply)
        return reply

    def persist(self, act: Callable[[Client], T], client: Client, began: float) -> T:
        """Do what a publish needs beside it, and may be repeated, in the time that it has."""
        errand = Errand(self.timeout(), self.contact, now=began)
        while True:
            try:
                answer = act(client.limited(errand.deadline))
                self.contact.made = True
                return answer
            except BrokerUnavailable as error:
                sleep(errand.pause(error, monotonic()))

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
            each = each.within(connection.due - monotonic())
            connection.until = connection.due + ANSWER_MARGIN
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
