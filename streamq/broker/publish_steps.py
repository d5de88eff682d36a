"""The steps of a publish: a call is sent until Redis has answered, and accepted once.  No I/O.

``PublishSteps.run`` is a generator: it yields what is to be done, and is given the replies.  The
blocking and the asyncio publisher are small drivers, which do the steps.

    protocol? ──► probe? ──► load? ──► publish ──► confirm? ──► answered
        ▲                                 │ lost, or refused
        └── pause, another name, ◄────────┘            └──► raised
            declare again

The first three are sent only where they are needed: the protocol once in a process, the probe
once on a connection that is to confirm a write to disk, the script where the server lacks it.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from streamq.broker.confirmation import (
    POLICY,
    PROBE,
    Confirmation,
    check_policy,
    lacks_waitaof,
    needs_probe,
)
from streamq.broker.protocol import check_protocol, protocol_question
from streamq.broker.publish_retry import Published, PublishRetry, Refusal, refusal_of
from streamq.broker.publisher_channel import Channel, Make
from streamq.errors import BrokerUnavailable, ConfigError, NotConfirmed
from streamq.host.clock import monotonic
from streamq.transport.connection import BLOCK_MARGIN, lost
from streamq.transport.keys import Keys
from streamq.transport.replies import Denied, Disconnected, Refused, after_loading, raised

#: Seconds that Redis may take longer than the time limit of a confirmation.
ANSWER_MARGIN = 0.5

#: The errors of a step, from which a publish may recover.
FAILURES = (BrokerUnavailable, Refused, ConfigError)

#: A command, as the words that go to Redis.
Command = tuple[Any, ...]


@dataclass(slots=True)
class Send:
    """Send these commands in one packet, and give back their replies, errors in their places.

    ``commands`` are read when the connection is open.  Give up after ``timeout`` seconds.
    """

    commands: Iterable[Command]
    timeout: float
    #: Whether it sends the call that publishes; then a caller may do other things meanwhile.
    publishes: bool = False


@dataclass(slots=True)
class Sleep:
    """Wait so many seconds."""

    seconds: float


@dataclass(slots=True)
class Reconnect:
    """Drop the connection: the next commands go to a new one."""


@dataclass(slots=True)
class CallFunction:
    """Call a function that blocks, and give back what it returns."""

    act: Callable[[], Any]


#: What a driver does.
Step = Send | Sleep | Reconnect | CallFunction
Steps = Generator[Step, Any, Any]
#: Declares what a refused call may have missed, and returns whether to publish it again.
Declare = Callable[[Refusal], bool]


class PublishSteps:
    """The steps of one publish, on a channel that a driver has borrowed for it."""

    def __init__(
        self,
        channel: Channel[Any],
        retry: PublishRetry,
        keys: Keys,
        *,
        make: Make | None = None,
        declare: Declare | None = None,
    ) -> None:
        self.channel = channel
        self.retry = retry
        self.keys = keys
        #: Makes what is to be published when the session of the connection is known.
        self.make = make
        #: What is called once if the call leads nowhere.
        self.declare = declare
        #: Whether the server lacks the script: it is loaded before each further try.
        self.load_script = False

    def run(self, failed: Exception | None = None) -> Steps:
        """Yield the steps until the script has answered, and return its answer.

        ``failed`` is the error of a first try that the driver has made by itself.  The driver
        throws in the errors of a step that are FAILURES.
        """
        while True:
            if failed is None:
                try:
                    return (yield from self.attempt())
                except NotConfirmed:
                    raise
                except FAILURES as error:
                    failed = error
            found = yield from self.recover(failed)
            if found:
                return found
            failed = None

    def attempt(self) -> Steps:
        """Publish once; return the script's answer when all confirmations have come."""
        channel, contact = self.channel, self.retry.first_contact
        if not contact.protocol_checked:
            check_protocol((yield from self.ask(protocol_question(self.keys))), self.keys)
            contact.protocol_checked = contact.made = True
        if needs_probe(channel.confirm) and not channel.is_probed:
            yield from self.probe()
        if self.load_script:
            raised((yield from self.ask(("SCRIPT", "LOAD", channel.script.text))))
        (reply,) = yield Send(self.numbered(), self.patience(), publishes=True)
        answer = raised(reply)
        contact.made = True
        if answer:  # '' asks for another script, and nothing was published
            link = channel.connection.link
            for each in channel.confirm:
                yield from self.confirm(each, link, answer)
        return answer

    def recover(self, error: Exception) -> Steps:
        """Prepare another try, or raise; return the answer if the records show one."""
        if isinstance(error, Refused) and error.code == "NOSCRIPT":
            if not self.load_script:
                self.load_script = True
                return None
            error = after_loading(error)
        if isinstance(error, BrokerUnavailable):
            yield Sleep(self.retry.pause(error, monotonic()))
            return None
        refusal = refusal_of(error)
        if (yield from self.declares(refusal)):
            self.channel.argv, self.retry.sent = None, False  # it was not published
            return None
        if not self.retry.needs_new_name(refusal):
            self.retry.give_up(refusal)
        if self.retry.sent and self.channel.confirm:
            self.retry.give_up(refusal)  # it cannot be confirmed on another connection
        if self.retry.sent and (found := (yield from self.find_published(refusal))):
            return found
        yield Reconnect()
        self.channel.argv = None
        return None

    def declares(self, refusal: Exception) -> Steps:
        """Declare the topology again, once, if the call led nowhere; whether that may help."""
        declare = self.declare
        if declare is None or not (isinstance(refusal, Refusal) and refusal.is_unroutable):
            return False
        self.declare = None
        return (yield CallFunction(partial(declare, refusal)))

    def numbered(self) -> Iterator[Command]:
        """The call that publishes; made when the connection is open, as that numbers it."""
        channel = self.channel
        if self.make is not None and channel.argv is None:
            channel.script, channel.load = self.make(channel.connection.session)
        yield channel.command(self.keys.root)

    def find_published(self, refusal: Exception) -> Steps:
        """The answer to a call that was published after all, if its records exist; else None.

        Gives up if its messages keep no records.
        """
        published = Published.of(self.channel.script.name, self.channel.argv or ())
        questions = published.questions(self.keys)
        if not questions:
            self.retry.give_up(refusal)
        try:
            replies = yield Send(questions, self.patience())
            return published.answer(list(map(raised, replies)))
        except (BrokerUnavailable, Refused) as error:
            self.retry.give_up(error)

    def probe(self) -> Steps:
        """Find out whether and how the server of this connection confirms a write to disk."""
        channel = self.channel
        channel.by_policy = lacks_waitaof((yield from self.ask(PROBE)))
        if channel.by_policy:
            check_policy((yield from self.ask(POLICY)))
        channel.probed = channel.connection.link

    def confirm(self, confirmation: Confirmation, link: Any, answer: Any) -> Steps:
        """Wait for one confirmation on the link that has published.  Raises NotConfirmed."""
        left = self.retry.deadline - monotonic()
        confirmation = confirmation.within(left)
        question = confirmation.question(by_policy=self.channel.by_policy)
        timeout = min(confirmation.timeout + BLOCK_MARGIN, left + ANSWER_MARGIN)
        (reply,) = yield Send(self.only_on(link, question), timeout)
        if isinstance(reply, BrokerUnavailable) and not isinstance(reply, Denied):
            raise lost(str(reply)) from reply
        confirmation.judge(reply, answer)

    def only_on(self, link: Any, command: Command) -> Iterator[Command]:
        """A command for this link only: a new connection would confirm anything."""
        if self.channel.connection.link is not link:
            raise lost("the connection broke before the message was confirmed")
        yield command

    def ask(self, command: Command) -> Steps:
        """The reply to a command that publishes nothing; refused ones are returned."""
        try:
            (reply,) = yield Send([command], self.patience())
        except Disconnected as error:
            self.retry.first_contact.made |= error.sent
            error.sent = False  # nothing that publishes was sent
            raise
        return reply if isinstance(reply, Refused | Denied) else raised(reply)

    def patience(self) -> float:
        """Seconds to wait for an answer now."""
        return max(0.001, min(self.retry.patience, self.retry.deadline - monotonic()))


def answer_steps(command: Command, retry: PublishRetry) -> Steps:
    """The steps of an idempotent command until it is answered."""
    while True:
        try:
            left = retry.deadline - monotonic()
            (reply,) = yield Send([command], max(0.001, min(retry.patience, left)))
            answer = raised(reply)
            retry.first_contact.made = True
            return answer
        except BrokerUnavailable as error:
            yield Sleep(retry.pause(error, monotonic()))
