"""Publishing: a call is sent until Redis has answered, and accepted once.

A publisher channel is a connection with one publish in flight.  It numbers its publishes, and
the script keeps the last number and answer of each channel: a call that is sent again because
its answer was lost is recognised, at no cost per message.  The channel is named after the
connection's session; a call that is sent again keeps its first name and number.
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
    FirstContact,
    IdempotentRetry,
    Published,
    PublishRetry,
    refusal_of,
)
from streamq.core.message import MessageTemplate, Publication
from streamq.errors import BrokerUnavailable, ConfigError, NotConfirmed
from streamq.host.clock import monotonic
from streamq.host.forks import FORKS
from streamq.transport.client import Client
from streamq.transport.connection import ANSWER_TIMEOUT, BLOCK_MARGIN, Connection, lost, pack
from streamq.transport.decode import text
from streamq.transport.keys import Keys
from streamq.transport.pool import ResourcePool
from streamq.transport.replies import Denied, Refused, Transient
from streamq.transport.scripts import Script, load

T = TypeVar("T")

PUBLISH = load("publish")
PUBLISH_PLAIN = load("publish_plain")

#: How many publishes one process has in flight at most.
CHANNELS = 4
#: Seconds that Redis may take longer than the time limit of a confirmation.
ANSWER_MARGIN = 0.5
#: Seconds after ``began`` from which on the deadline is set for the connection too.
PROMPT = 0.05


#: One call to publish with: the script, and its arguments behind channel and number.
Load = tuple[Script, Iterable[Any]]
#: Makes a Load, given the session of the connection that it will be sent on.
Make = Callable[[str], Load]


@dataclass(eq=False)
class PublisherChannel:
    """A publisher channel: one connection, and the number of its last publish."""

    connection: Connection
    #: The session of the connection that ``name`` and ``number`` belong to.
    session: str = ""
    name: str = ""
    number: int = 0
    #: The publish that is in flight, or to be sent; no ``argv`` before it is sent first.
    script: Script = PUBLISH
    load: Iterable[Any] = ()
    make: Make | None = None
    argv: tuple[Any, ...] | None = None
    #: The confirmations that the publish in flight needs; mostly none.
    confirm: tuple[Confirmation, ...] = ()
    #: Seconds that it took to send it; and whether it may have arrived, with its answer lost.
    spent: float = 0.0
    doubt: bool = False
    #: The socket whose server was found able to confirm a write to disk, and how.
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

    def start_over(self) -> None:
        """Prepare to publish the same on a new connection, and so under another name."""
        self.connection.drop()
        self.argv = None


def plain(template: MessageTemplate, messages: Sequence[str | bytes]) -> Load:
    """The Load of publish_plain.lua: id, args and kwargs of each message in turn."""
    return PUBLISH_PLAIN, (*template.shared, *messages)


def full(publications: Iterable[Publication]) -> Load:
    """The Load of publish.lua, which takes every message."""
    return PUBLISH, tuple(chain.from_iterable(publications))


def answers_of(answer: Any) -> list[str]:
    """The queues of each message in a script's answer; one text if all have the same."""
    each = answer if isinstance(answer, list) else [answer]
    return list(map(text, each))


class Publisher:
    """The publisher of a process, for all its threads."""

    def __init__(
        self, url: str, keys: Keys, first_contact: FirstContact, *, timeout: Callable[[], float]
    ) -> None:
        self.url = url
        self.keys = keys
        self.first_contact = first_contact
        self.root = keys.root
        self.timeout = timeout
        self.channels = ResourcePool(
            lambda: PublisherChannel(Connection(url, name="streamq:producer")), CHANNELS
        )

    def close(self) -> None:
        """Close the idle channels."""
        for channel in self.channels.clear():
            channel.connection.drop()

    def publish(
        self,
        publications: list[Publication],
        channel: PublisherChannel | None = None,
        confirm: tuple[Confirmation, ...] = (),
        *,
        began: float | None = None,
    ) -> list[str]:
        """Publish all or none; return for each the queues it went to, joined by ``:``.

        On ``channel``, if the caller has one: waiting for another could last for ever.
        ``publish_timeout`` counts from ``began`` (monotonic seconds), else from now.

        Raises Refusal, BrokerUnavailable or PublishUnknown when Redis stays away, and
        NotConfirmed if what ``confirm`` asks for does not come.
        """
        began = monotonic() if began is None else began
        if channel is None:
            lent = self.borrow(began)
            try:
                return self.publish(publications, lent, confirm, began=began)
            finally:
                self.channels.give_back(lent)
        channel.script, channel.load = full(publications)
        channel.confirm, channel.argv = confirm, None
        if monotonic() - began > PROMPT:
            channel.connection.until = began + self.timeout()
        return answers_of(self.publish_until_answered(channel, began))

    def publish_plain(
        self,
        template: MessageTemplate,
        messages: Sequence[str | bytes],
        confirm: tuple[Confirmation, ...] = (),
        *,
        began: float,
    ) -> str | None:
        """Publish with publish_plain.lua; None if the messages need publish.lua."""
        channel = self.borrow(began)
        try:
            channel.script, channel.load = plain(template, messages)
            channel.confirm, channel.argv = confirm, None
            answer: bytes = self.publish_until_answered(channel, began)
        finally:
            self.channels.give_back(channel)
        return answer.decode(errors="backslashreplace") if answer else None

    def borrow(self, began: float) -> PublisherChannel:
        """Borrow a channel; it must be given back.  Raises BrokerUnavailable if none is free."""
        channels = self.channels
        if channels.idle and channels.forks == FORKS.mark[0]:
            try:
                return channels.idle.pop()
            except IndexError:
                pass  # another thread was faster
        timeout = self.timeout()
        try:
            channel = channels.borrow(began + timeout)
            channel.connection.until = began + timeout
            return channel
        except TimeoutError:
            raise BrokerUnavailable(
                f"no connection to Redis was free for {timeout:g} s; nothing was sent",
                known={"connections": f"{CHANNELS}, all of them waiting for an answer"},
                advice=["is Redis up, and not stuck?  streamq doctor"],
            ) from None

    def begin(
        self, channel: PublisherChannel, make: Make, confirm: tuple[Confirmation, ...] = ()
    ) -> None:
        """Send a publish without waiting for its answer; ``end`` must follow."""
        channel.make, channel.confirm, channel.argv = make, confirm, None
        began = monotonic()
        try:
            with suppress(BrokerUnavailable):
                self.set_deadline(channel, began)
                self.send(channel)
        finally:
            channel.connection.until = inf
            channel.spent = monotonic() - began

    def end(self, channel: PublisherChannel) -> Any:
        """Wait for the answer to what ``begin`` sent; send it again while there is none.

        The time between ``begin`` and ``end`` does not count for ``publish_timeout``.
        """
        channel.doubt = channel.argv is not None and not channel.connection.unread
        try:
            return self.publish_until_answered(channel, monotonic() - channel.spent, sent=True)
        finally:
            channel.make, channel.doubt = None, False

    def publish_until_answered(
        self, channel: PublisherChannel, began: float, *, sent: bool = False
    ) -> Any:
        """Run a channel's script until it has answered; raise when no further try is to be made."""
        retry, tried = None, False
        self.set_deadline(channel, began)
        try:
            while True:
                try:
                    answer = self.try_once(channel, sent=sent and not tried)
                    self.first_contact.made = True
                    return answer
                except NotConfirmed:
                    raise
                except BrokerUnavailable as error:
                    retry = retry or self.new_retry(channel, began)
                    sleep(retry.pause(error, monotonic()))
                    channel.connection.until = channel.connection.due
                except (Refused, ConfigError) as error:
                    retry = retry or self.new_retry(channel, began)
                    refusal = refusal_of(error)
                    if not retry.needs_new_name(refusal):
                        retry.give_up(refusal)
                    if retry.sent and (found := self.find_published(channel, retry, refusal)):
                        return found
                    channel.start_over()
                tried = True
        finally:
            channel.connection.until = inf

    def new_retry(self, channel: PublisherChannel, began: float) -> PublishRetry:
        """The retry decisions of one publish."""
        retry = PublishRetry(self.timeout(), self.first_contact, now=began)
        retry.sent = channel.doubt
        return retry

    def find_published(
        self, channel: PublisherChannel, retry: PublishRetry, refusal: Exception
    ) -> Any:
        """The answer to a call that was published after all, if its records exist; else None.

        Gives up if its messages keep no records.
        """
        published = Published.of(channel.script.name, channel.argv or ())
        questions = published.questions(self.keys)
        if not questions:
            retry.give_up(refusal)
        try:
            channel.connection.send(questions)
            return published.answer([channel.connection.read() for _ in questions])
        except BrokerUnavailable as error:
            retry.give_up(error)

    def set_deadline(self, channel: PublisherChannel, began: float) -> None:
        """End everything on this connection ``publish_timeout`` seconds after ``began``."""
        timeout, connection = self.timeout(), channel.connection
        connection.patience = timeout / 2 if timeout < TWO_ANSWERS else ANSWER_TIMEOUT
        connection.due = began + timeout
        if channel.confirm:
            connection.until = connection.due

    def send(self, channel: PublisherChannel) -> None:
        """Send the publish of a channel."""
        connection = channel.connection
        if channel.confirm:
            self.probe_confirmation(channel)
        connection.ready()
        connection.transmit(pack(channel.command(self.root)), 1)

    def try_once(self, channel: PublisherChannel, *, sent: bool) -> Any:
        """Run a channel's script once: send it, unless it was sent, and read its answer."""
        connection = channel.connection
        if not sent or not connection.unread:
            self.send(channel)
        else:
            connection.refuse_inherited()
        reply = connection.read(raising=False)
        if isinstance(reply, Refused) and reply.code == "NOSCRIPT":
            reply = connection.call(channel.script, self.root, *(channel.argv or ()))
        if isinstance(reply, Exception):
            raise reply
        if channel.confirm and reply:
            self.confirm(channel, reply)
        return reply

    def retry_until_deadline(self, act: Callable[[Client], T], client: Client, began: float) -> T:
        """Call ``act``, which may be repeated, until it succeeds or the time is over."""
        retry = IdempotentRetry(self.timeout(), self.first_contact, now=began)
        while True:
            try:
                answer = act(client.limited(retry.deadline))
                self.first_contact.made = True
                return answer
            except BrokerUnavailable as error:
                sleep(retry.pause(error, monotonic()))

    # Confirming

    def probe_confirmation(self, channel: PublisherChannel) -> None:
        """Check once a connection that the server can confirm what will be asked."""
        connection = channel.connection
        if not needs_probe(channel.confirm):
            return
        if channel.probed is not None and channel.probed is connection.socket:
            return
        channel.by_policy = lacks_waitaof(self.try_to_ask(connection, PROBE))
        if channel.by_policy:
            check_policy(self.try_to_ask(connection, POLICY))
        channel.probed = connection.socket

    def confirm(self, channel: PublisherChannel, answer: Any) -> None:
        """Wait for the confirmations of an accepted message.  Raises NotConfirmed."""
        connection, link = channel.connection, channel.connection.socket
        for each in channel.confirm:
            each = each.within(connection.due - monotonic())
            connection.until = connection.due + ANSWER_MARGIN
            try:
                reply = self.try_to_ask(
                    connection,
                    each.question(by_policy=channel.by_policy),
                    each.timeout + BLOCK_MARGIN,
                )
            except Transient as error:
                raise lost(str(error)) from error
            if connection.socket is not link:  # a new connection would confirm anything
                raise lost("the connection broke before the message was confirmed")
            each.judge(reply, answer)

    def try_to_ask(
        self, connection: Connection, command: tuple[Any, ...], timeout: float | None = None
    ) -> Any:
        """Send a command; return an error reply instead of raising it."""
        try:
            return connection.ask(*command, timeout=timeout)
        except (Refused, Denied) as error:
            return error
