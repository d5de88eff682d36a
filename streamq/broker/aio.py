"""Publishing and waiting from asyncio, on redis's asyncio client.

The decisions are those of ``publish_retry`` and ``waiter``; only the waiting for Redis differs.
Each event loop has a broker of its own, for a program may run several, in threads; the broker
of a closed loop is dropped.  An event loop serves one process: a child that goes on with its
parent's gets connections of its own, but shares what the loop waits for.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
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
    FirstContact,
    IdempotentRetry,
    Published,
    PublishRetry,
    refusal_of,
)
from streamq.broker.publisher import ANSWER_MARGIN, CHANNELS, PUBLISH, answers_of
from streamq.broker.waiter import LONGEST_BLOCK, RECHECK, Record, as_record, entries_in, is_answer
from streamq.core.message import Publication
from streamq.errors import BrokerUnavailable, ConfigError, NotConfirmed
from streamq.host import clock
from streamq.host.forks import FORKS
from streamq.transport.aio_connection import AsyncClient, AsyncConnection
from streamq.transport.client import later
from streamq.transport.connection import ANSWER_TIMEOUT, BLOCK_MARGIN, lost
from streamq.transport.keys import Keys
from streamq.transport.loops import pause, within
from streamq.transport.replies import Denied, Refused, after_loading
from streamq.transport.scripts import load

T = TypeVar("T")

AWAIT_RESULT = load("await_result")

#: Connections of one event loop to publish and ask with; one more reads its replies.
CONNECTIONS = CHANNELS + 1

#: Seconds before Redis is asked again after it was lost.
PAUSE = 0.2
#: Earlier than any monotonic time.
NEVER = float("-inf")


@dataclass(eq=False)
class PendingPublish:
    """One publish: its arguments, and the channel and number once it was sent."""

    arguments: tuple[Any, ...]
    confirm: tuple[Confirmation, ...]
    argv: tuple[Any, ...] | None = None

    def command(self, connection: AsyncConnection, root: str) -> tuple[Any, ...]:
        """The call that publishes: numbered when it is sent first, the same from then on."""
        if self.argv is None:
            connection.number += 1
            self.argv = (connection.session, connection.number, *self.arguments)
        return PUBLISH.command(root, *self.argv)


class AsyncBrokers:
    """An ``AsyncBroker`` for each event loop: no connection and no queue serves two of them."""

    def __init__(self, make: "Callable[[], AsyncBroker]") -> None:
        self.make = make
        self.of: dict[asyncio.AbstractEventLoop, AsyncBroker] = {}

    def current(self) -> "AsyncBroker":
        """The broker of the running loop; brokers of closed loops are dropped."""
        loop = asyncio.get_running_loop()
        broker = self.of.get(loop)
        if broker is None:
            for closed in [other for other in list(self.of) if other.is_closed()]:
                self.of.pop(closed, None)  # another thread may do the same
            broker = self.of[loop] = self.make()
        return broker


class AsyncBroker:
    """The publisher and waiter of one event loop."""

    def __init__(
        self, url: str, keys: Keys, first_contact: FirstContact, *, timeout: Callable[[], float]
    ) -> None:
        self.url = url
        self.keys = keys
        self.first_contact = first_contact
        self.timeout = timeout
        self.loop: asyncio.AbstractEventLoop | None = None
        self.forks = 0

    def attach(self) -> None:
        """Create the connections: on first use, after ``aclose``, and in a child."""
        loop = asyncio.get_running_loop()
        if self.loop is loop and self.forks == FORKS.count:
            return
        self.loop, self.forks = loop, FORKS.count
        self.client = AsyncClient(self.url, self.keys, CONNECTIONS)
        self.listener = AsyncConnection(self.url)
        #: The reply stream, named after the listener's session; '' while it has none.
        self.reply = ""
        self.last: bytes | str = "0"
        self.checked = NEVER
        #: The futures that wait for a task, and since when; NEVER if its record was seen.
        self.waiting: dict[str, dict[asyncio.Future[Record], float]] = {}
        self.reader: asyncio.Task[None] | None = None

    async def aclose(self) -> None:
        """Close the connections of the running loop; the next use opens new ones."""
        if self.loop is asyncio.get_running_loop():
            self.loop = None
            for connection in [*self.client.connections, self.listener]:
                await connection.drop()

    async def in_thread(self, act: Callable[..., T], *arguments: Any) -> T:
        """Call a blocking function in a thread, so that the event loop goes on."""
        return await asyncio.to_thread(act, *arguments)

    async def publish(
        self,
        publications: list[Publication],
        confirm: tuple[Confirmation, ...] = (),
        *,
        began: float | None = None,
    ) -> list[str]:
        """Publish all or none, as ``Publisher.publish`` does."""
        self.attach()
        began = clock.monotonic() if began is None else began
        retry = PublishRetry(self.timeout(), self.first_contact, now=began)
        arguments = tuple(argument for publication in publications for argument in publication)
        async with self.client.lent(retry.deadline) as connection:
            return await self.publish_until_answered(
                connection, PendingPublish(arguments, confirm), retry
            )

    async def publish_until_answered(
        self, connection: AsyncConnection, publish: PendingPublish, retry: PublishRetry
    ) -> list[str]:
        """Publish until there is an answer; raise when no further try is to be made."""
        while True:
            try:
                answer = await self.try_once(connection, publish, retry)
                self.first_contact.made = True
                return answers_of(answer)
            except NotConfirmed:
                raise
            except BrokerUnavailable as error:
                await pause(retry.pause(error, clock.monotonic()))
            except (Refused, ConfigError) as error:
                refusal = refusal_of(error)
                if not retry.needs_new_name(refusal):
                    retry.give_up(refusal)
                if retry.sent and (
                    found := await self.find_published(connection, publish, retry, refusal)
                ):
                    return answers_of(found)
                publish.argv = None
                await connection.drop()

    async def find_published(
        self,
        connection: AsyncConnection,
        publish: PendingPublish,
        retry: PublishRetry,
        refusal: Exception,
    ) -> list[str] | None:
        """The answer to a call that was published after all, as ``Publisher.find_published``."""
        published = Published.of(PUBLISH.name, publish.argv or ())
        questions = published.questions(self.keys)
        if not questions:
            retry.give_up(refusal)
        left = retry.deadline - clock.monotonic()
        try:
            replies = await self.client.on(connection, questions, left)
        except BrokerUnavailable as error:
            retry.give_up(error)
        found: list[str] | None = published.answer(replies)
        return found

    async def moment(self, seconds: float, began: float) -> int:
        """The moment ``seconds`` from now, in ms of the server's clock, for this publish."""
        self.attach()
        retry = IdempotentRetry(self.timeout(), self.first_contact, now=began)
        while True:
            try:
                return later(await self.client.ask("TIME", until=retry.deadline), seconds)
            except BrokerUnavailable as error:
                await pause(retry.pause(error, clock.monotonic()))

    async def try_once(
        self, connection: AsyncConnection, publish: PendingPublish, retry: PublishRetry
    ) -> Any:
        """Run the publish script once, and wait for its confirmation."""
        if publish.confirm:
            await self.probe_confirmation(connection, publish.confirm, retry.deadline)
        answer, *replies = await self.publish_and_confirm(connection, publish, retry)
        if isinstance(answer, Refused) and answer.code == "NOSCRIPT":
            await self.client.ask_on(connection, ("SCRIPT", "LOAD", PUBLISH.text), retry.deadline)
            answer, *replies = await self.publish_and_confirm(connection, publish, retry)
            answer = after_loading(answer)
        if isinstance(answer, Exception):
            raise answer
        for each, reply in zip(publish.confirm, replies, strict=True):
            if isinstance(reply, BrokerUnavailable) and not isinstance(reply, Denied):
                raise lost(str(reply)) from reply
            each.judge(reply, answer)
        return answer

    async def publish_and_confirm(
        self, connection: AsyncConnection, publish: PendingPublish, retry: PublishRetry
    ) -> list[Any]:
        """Publish and ask for confirmation on one connection; return the replies, errors too."""
        left = retry.deadline - clock.monotonic()
        confirm = [each.within(left) for each in publish.confirm]
        patience = retry.patience + sum(each.timeout + BLOCK_MARGIN for each in confirm)

        def commands() -> Iterable[tuple[Any, ...]]:
            yield publish.command(connection, self.keys.root)
            for each in confirm:
                yield each.question(by_policy=bool(connection.by_policy))

        margin = ANSWER_MARGIN if confirm else 0.0
        return await self.client.on(connection, commands(), min(patience, left + margin))

    async def probe_confirmation(
        self, connection: AsyncConnection, confirm: tuple[Confirmation, ...], until: float
    ) -> None:
        """Check, if needed, that the server can confirm a write to disk; once a connection."""
        if not needs_probe(confirm) or (connection.is_open and connection.by_policy is not None):
            return
        by_policy = lacks_waitaof(await self.try_to_ask(connection, PROBE, until))
        if by_policy:
            check_policy(await self.try_to_ask(connection, POLICY, until))
        connection.by_policy = by_policy

    async def try_to_ask(
        self, connection: AsyncConnection, command: tuple[Any, ...], until: float
    ) -> Any:
        """Send a command; return an error reply instead of raising it."""
        try:
            return await self.client.ask_on(connection, command, until)
        except (Refused, Denied) as error:
            return error

    async def record(self, id: str) -> Record:
        """The record of a task as it is now."""
        self.attach()
        return as_record(await self.client.ask("HGETALL", self.keys.task(id)))

    async def final(self, id: str, timeout: float) -> Record | None:
        """The record of a task that has ended, or went to several queues.

        None when that has not happened in time, an empty one when there is no record any more.
        """
        self.attach()
        future: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
        waiters = self.waiting.setdefault(id, {})
        waiters[future] = clock.monotonic()
        try:
            record = await self.check_record(id)
            if is_answer(record):
                return record
            if "state" in record:
                waiters[future] = NEVER
            if self.reader is None or self.reader.done():
                self.reader = asyncio.create_task(self.read_replies())
            return await within(future, timeout)
        except TimeoutError:
            return None
        finally:
            del waiters[future]
            if not waiters and self.waiting.get(id) is waiters:
                del self.waiting[id]

    async def check_record(self, id: str) -> Record:
        """The record of a task; registers as a waiter for it if a reply stream is read.

        When reading starts, all records are read once more.
        """
        if self.reply:
            return as_record(await self.client.call(AWAIT_RESULT, id, self.reply))
        return await self.record(id)

    async def read_replies(self) -> None:
        """Read the reply stream while there are waiters; read the records after a break."""
        while self.waiting:
            try:
                await self.listen()
            except (BrokerUnavailable, Refused):
                await pause(PAUSE)
                self.checked = NEVER

    async def listen(self) -> None:
        """Read the reply stream once.  A new connection reads a new one."""
        listener = self.listener
        if not listener.is_open:
            await self.client.on(listener, [("TIME",)], ANSWER_TIMEOUT)
            self.reply, self.last, self.checked = f"a-{listener.session}", "0", NEVER
        if clock.monotonic() - self.checked > RECHECK:
            await self.recheck()
            self.checked = clock.monotonic()
        block, stream = int(LONGEST_BLOCK * 1000), self.keys.reply(self.reply)
        read = ("XREAD", "COUNT", 1000, "BLOCK", block, "STREAMS", stream, self.last)
        (reply,) = await self.client.on(listener, [read], LONGEST_BLOCK + BLOCK_MARGIN)
        if isinstance(reply, Exception):
            raise reply
        self.deliver(reply)

    def deliver(self, reply: Any) -> None:
        """Resolve the futures that these entries are about."""
        for self.last, id, record in entries_in(reply):
            self.resolve(id, record)

    def resolve(self, id: str, record: Record) -> None:
        """Resolve the futures that wait for this task."""
        for future in list(self.waiting.get(id, ())):
            if not future.done():
                future.set_result(record)

    async def recheck(self) -> None:
        """Read the records of all open waits: an answer may have been missed."""
        before = clock.monotonic() - RECHECK
        for id in list(self.waiting):
            record = as_record(await self.client.call(AWAIT_RESULT, id, self.reply))
            if is_answer(record):
                self.resolve(id, record)
            elif "state" not in record and any(
                t < before for t in self.waiting.get(id, {}).values()
            ):
                self.resolve(id, {})  # it vanished, or did not appear for half a minute
