"""Publishing from threads: a call is sent until Redis has answered, and accepted once.

The usual publish is a straight line: one command on the connection of a free channel, and its
answer.  What else may be needed is decided by ``publish_steps``; the steps are done here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from time import sleep
from typing import Any, TypeVar

from streamq.broker.confirmation import Confirmation
from streamq.broker.publish_retry import TWO_ANSWERS, FirstContact, IdempotentRetry, PublishRetry
from streamq.broker.publish_steps import (
    FAILURES,
    CallFunction,
    Declare,
    PublishSteps,
    Reconnect,
    Send,
    Sleep,
    Step,
    Steps,
)
from streamq.broker.publisher_channel import Channel, Make, answers_of, full, plain
from streamq.core.message import MessageTemplate, Publication
from streamq.errors import BrokerUnavailable
from streamq.host.clock import monotonic
from streamq.host.forks import FORKS
from streamq.transport.client import Client
from streamq.transport.connection import ANSWER_TIMEOUT, Connection, lost, pack
from streamq.transport.keys import Keys
from streamq.transport.pool import ResourcePool

T = TypeVar("T")

#: How many publishes one process has in flight at most.
CHANNELS = 4
#: Seconds after ``began`` from which on the deadline is set for the connection too.
PROMPT = 0.05


#: The channel of a thread.
PublisherChannel = Channel[Connection]


@dataclass(slots=True)
class Receive:
    """The step that ``end`` begins with: read the replies to what ``begin`` has sent."""

    timeout: float


@dataclass(slots=True)
class InFlight:
    """A publish that ``begin`` has sent, with its remaining steps."""

    channel: PublisherChannel
    steps: Steps
    retry: PublishRetry
    receive: Receive
    #: The error of sending it, if there was one.
    failed: Exception | None = None
    #: Seconds that it took to send it.
    spent: float = 0.0


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
        declare: Declare | None = None,
    ) -> list[str]:
        """Publish all or none; return for each the queues it went to, joined by ``:``.

        On ``channel``, if the caller has one: waiting for another could last for ever.
        ``publish_timeout`` counts from ``began`` (monotonic seconds), else from now.
        ``declare`` is called once if they lead nowhere.

        Raises Refusal, BrokerUnavailable or PublishUnknown when Redis stays away, and
        NotConfirmed if what ``confirm`` asks for does not come.
        """
        began = monotonic() if began is None else began
        if channel is None:
            lent = self.borrow(began)
            try:
                return self.publish(publications, lent, confirm, began=began, declare=declare)
            finally:
                self.channels.give_back(lent)
        channel.script, channel.load = full(publications)
        channel.confirm, channel.argv = confirm, None
        if monotonic() - began > PROMPT:
            channel.connection.until = began + self.timeout()
        return answers_of(self.publish_until_answered(channel, began, declare))

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
    ) -> InFlight:
        """Send a publish without waiting for its answer; ``end`` must follow."""
        channel.confirm, channel.argv = confirm, None
        connection, began = channel.connection, monotonic()
        retry = PublishRetry(self.timeout(), self.first_contact, now=began)
        steps = PublishSteps(channel, retry, self.keys, make=make).run()
        in_flight = InFlight(channel, steps, retry, Receive(retry.patience))
        step: Step = next(steps)
        try:
            while not (isinstance(step, Send) and step.publishes):
                step = steps.send(self.do(connection, step))
            in_flight.receive.timeout = step.timeout
            self.transmit(connection, step)
        except FAILURES as error:
            in_flight.failed = error
        finally:
            connection.until = inf
            in_flight.spent = monotonic() - began
        return in_flight

    def end(self, sent: InFlight) -> Any:
        """Wait for the answer to what ``begin`` has sent; send it again while there is none.

        The time between ``begin`` and ``end`` does not count for ``publish_timeout``.
        """
        sent.retry.start(monotonic() - sent.spent)
        first = sent.receive if sent.failed is None else sent.steps.throw(sent.failed)
        return self.do_all(sent.channel, sent.steps, first)

    def publish_until_answered(
        self, channel: PublisherChannel, began: float, declare: Declare | None = None
    ) -> Any:
        """Run a channel's script until it has answered; raise when no further try is to be made.

        The first try is a straight line if nothing has to be asked before or after it.
        """
        connection, timeout = channel.connection, self.timeout()
        failed: Exception | None = None
        connection.patience = timeout / 2 if timeout < TWO_ANSWERS else ANSWER_TIMEOUT
        connection.due = began + timeout
        if self.first_contact.protocol_checked and not channel.confirm:
            try:
                connection.ready()
                connection.transmit(pack(channel.command(self.root)), 1)
                reply = connection.read(raising=False)
                if not isinstance(reply, Exception):
                    return reply
                failed = reply
            except FAILURES as error:
                failed = error
            finally:
                connection.until = inf
        retry = PublishRetry(timeout, self.first_contact, now=began)
        steps = PublishSteps(channel, retry, self.keys, declare=declare).run(failed)
        return self.do_all(channel, steps, next(steps))

    def do_all(self, channel: PublisherChannel, steps: Steps, step: Step | Receive) -> Any:
        """Do this step of a publish and all that follow; return the script's answer."""
        try:
            while True:
                try:
                    replies = self.do(channel.connection, step)
                except FAILURES as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(replies)
        except StopIteration as answered:
            return answered.value
        finally:
            channel.connection.until = inf

    def do(self, connection: Connection, step: Step | Receive) -> Any:
        """Do one step; return the replies to what it sends, errors in their places."""
        match step:
            case Send(timeout=timeout):
                self.transmit(connection, step)
                return self.replies(connection, timeout)
            case Receive(timeout=timeout):
                connection.refuse_inherited()
                if not connection.unread:
                    raise lost("the connection broke before the answer came")
                connection.due = connection.until = monotonic() + timeout
                return self.replies(connection, timeout)
            case Sleep(seconds=seconds):
                sleep(seconds)
            case Reconnect():
                connection.drop()
            case CallFunction(act=act):
                return act()

    def transmit(self, connection: Connection, step: Send) -> None:
        """Send the commands of a step; all that waits on the connection ends by its timeout."""
        connection.due = connection.until = monotonic() + step.timeout
        connection.send(step.commands)

    def replies(self, connection: Connection, timeout: float) -> list[Any]:
        """Read the replies to all that was sent; error replies are returned."""
        return [connection.read(timeout, raising=False) for _ in range(connection.unread)]

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
