"""Publishing and waiting from asyncio, on redis's asyncio client.

The decisions are those of ``publisher`` and ``waiting``; only the waiting for Redis differs.
Each event loop has a store of its own, for a program may run several, in threads; what
belonged to a loop that was closed is left behind.  An event loop serves one process: a child
that goes on with its parent's gets connections of its own, but shares what the loop waits for.
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
from streamq.broker.publish_retry import Attempt, Contact, Errand, Published, refusal_of
from streamq.broker.publisher import ANSWER_MARGIN, LANES, PUBLISH, answers_of
from streamq.broker.waiter import LONGEST_BLOCK, RECHECK, Record, as_record, is_answer, news_in
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

AWAIT = load("await")

#: Connections of one event loop to publish and ask with; one more reads its replies.
CONNECTIONS = LANES + 1

#: Seconds before Redis is asked again after it was lost.
PAUSE = 0.2
#: Earlier than any monotonic time.
NEVER = float("-inf")


@dataclass(eq=False)
class Sending:
    """One publish: its arguments, and lane and number once it was sent."""

    arguments: tuple[Any, ...]
    confirm: tuple[Confirmation, ...]
    argv: tuple[Any, ...] | None = None

    def command(self, connection: AsyncConnection, root: str) -> tuple[Any, ...]:
        """The call that publishes: numbered when it is sent first, the same from then on."""
        if self.argv is None:
            connection.number += 1
            self.argv = (connection.session, connection.number, *self.arguments)
        return PUBLISH.command(root, *self.argv)


class AsyncStores:
    """An ``AsyncStore`` for each event loop: no connection and no queue serves two of them."""

    def __init__(self, make: "Callable[[], AsyncStore]") -> None:
        self.make = make
        self.of: dict[asyncio.AbstractEventLoop, AsyncStore] = {}

    def here(self) -> "AsyncStore":
        """That of the running loop; those of closed ones are forgotten."""
        loop = asyncio.get_running_loop()
        store = self.of.get(loop)
        if store is None:
            for closed in [other for other in list(self.of) if other.is_closed()]:
                self.of.pop(closed, None)  # another thread may be at it too
            store = self.of[loop] = self.make()
        return store


class AsyncStore:
    """What an app does in Redis from one event loop."""

    def __init__(
        self, url: str, keys: Keys, contact: Contact, *, timeout: Callable[[], float]
    ) -> None:
        self.url = url
        self.keys = keys
        self.contact = contact
        self.timeout = timeout
        self.loop: asyncio.AbstractEventLoop | None = None
        self.forks = 0

    def attach(self) -> None:
        """Make what is needed, when it is first needed, after ``aclose``, and in a child."""
        loop = asyncio.get_running_loop()
        if self.loop is loop and self.forks == FORKS.count:
            return
        self.loop, self.forks = loop, FORKS.count
        self.client = AsyncClient(self.url, self.keys, CONNECTIONS)
        self.listener = AsyncConnection(self.url)
        #: Our reply stream: that of the listener's session; '' while it has none.
        self.reply = ""
        self.last: bytes | str = "0"
        self.checked = NEVER
        #: Who waits for a task, and since when; NEVER if its record was seen.
        self.waiting: dict[str, dict[asyncio.Future[Record], float]] = {}
        self.reader: asyncio.Task[None] | None = None

    async def aclose(self) -> None:
        """Close the connections of the running loop; the next use opens new ones."""
        if self.loop is asyncio.get_running_loop():
            self.loop = None
            for connection in [*self.client.connections, self.listener]:
                await connection.drop()

    async def in_thread(self, act: Callable[..., T], *arguments: Any) -> T:
        """Do what blocks without holding up the event loop."""
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
        attempt = Attempt(self.timeout(), self.contact, now=began)
        arguments = tuple(argument for publication in publications for argument in publication)
        async with self.client.lent(attempt.deadline) as connection:
            return await self.insist(connection, Sending(arguments, confirm), attempt)

    async def insist(
        self, connection: AsyncConnection, sending: Sending, attempt: Attempt
    ) -> list[str]:
        """Publish until there is an answer; raise when there is to be no further try."""
        while True:
            try:
                answer = await self.once(connection, sending, attempt)
                self.contact.made = True
                return answers_of(answer)
            except NotConfirmed:
                raise
            except BrokerUnavailable as error:
                await pause(attempt.pause(error, clock.monotonic()))
            except (Refused, ConfigError) as error:
                refusal = refusal_of(error)
                if not attempt.renames(refusal):
                    attempt.give_up(refusal)
                if attempt.sent and (
                    found := await self.found(connection, sending, attempt, refusal)
                ):
                    return answers_of(found)
                sending.argv = None
                await connection.drop()

    async def found(
        self,
        connection: AsyncConnection,
        sending: Sending,
        attempt: Attempt,
        refusal: Exception,
    ) -> list[str] | None:
        """The answer to what was published after all, as ``Publisher.found`` does."""
        published = Published.of(PUBLISH.name, sending.argv or ())
        questions = published.questions(self.keys)
        if not questions:
            attempt.give_up(refusal)
        left = attempt.deadline - clock.monotonic()
        try:
            replies = await self.client.on(connection, questions, left)
        except BrokerUnavailable as error:
            attempt.give_up(error)
        found: list[str] | None = published.answer(replies)
        return found

    async def moment(self, seconds: float, began: float) -> int:
        """So many seconds from now by the server's clock, for a publish that began then."""
        self.attach()
        errand = Errand(self.timeout(), self.contact, now=began)
        while True:
            try:
                return later(await self.client.ask("TIME", until=errand.deadline), seconds)
            except BrokerUnavailable as error:
                await pause(errand.pause(error, clock.monotonic()))

    async def once(self, connection: AsyncConnection, sending: Sending, attempt: Attempt) -> Any:
        """Run the publish script once, and ask for what is to be confirmed."""
        if sending.confirm:
            await self.prepare(connection, sending.confirm, attempt.deadline)
        answer, *replies = await self.together(connection, sending, attempt)
        if isinstance(answer, Refused) and answer.code == "NOSCRIPT":
            await self.client.ask_on(connection, ("SCRIPT", "LOAD", PUBLISH.text), attempt.deadline)
            answer, *replies = await self.together(connection, sending, attempt)
            answer = after_loading(answer)
        if isinstance(answer, Exception):
            raise answer
        for each, reply in zip(sending.confirm, replies, strict=True):
            if isinstance(reply, BrokerUnavailable) and not isinstance(reply, Denied):
                raise lost(str(reply)) from reply
            each.judge(reply, answer)
        return answer

    async def together(
        self, connection: AsyncConnection, sending: Sending, attempt: Attempt
    ) -> list[Any]:
        """Publish, and ask what confirms it, on one connection; errors stand in their places."""
        left = attempt.deadline - clock.monotonic()
        confirm = [each.within(left) for each in sending.confirm]
        patience = attempt.patience + sum(each.timeout + BLOCK_MARGIN for each in confirm)

        def commands() -> Iterable[tuple[Any, ...]]:
            yield sending.command(connection, self.keys.root)
            for each in confirm:
                yield each.question(by_policy=bool(connection.by_policy))

        margin = ANSWER_MARGIN if confirm else 0.0
        return await self.client.on(connection, commands(), min(patience, left + margin))

    async def prepare(
        self, connection: AsyncConnection, confirm: tuple[Confirmation, ...], until: float
    ) -> None:
        """Make sure that the server can say when a message is on disk, if it is to be asked."""
        if not needs_probe(confirm) or (connection.is_open and connection.by_policy is not None):
            return
        by_policy = lacks_waitaof(await self.try_to_ask(connection, PROBE, until))
        if by_policy:
            check_policy(await self.try_to_ask(connection, POLICY, until))
        connection.by_policy = by_policy

    async def try_to_ask(
        self, connection: AsyncConnection, command: tuple[Any, ...], until: float
    ) -> Any:
        """Ask, and return an error that the server answers."""
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
        waits = self.waiting.setdefault(id, {})
        waits[future] = clock.monotonic()
        try:
            record = await self.look(id)
            if is_answer(record):
                return record
            if "state" in record:
                waits[future] = NEVER
            if self.reader is None or self.reader.done():
                self.reader = asyncio.create_task(self.read_replies())
            return await within(future, timeout)
        except TimeoutError:
            return None
        finally:
            del waits[future]
            if not waits and self.waiting.get(id) is waits:
                del self.waiting[id]

    async def look(self, id: str) -> Record:
        """The record as far as it matters; we are told the end, unless nobody listens yet.

        Whoever begins to listen looks at all records once more.
        """
        if self.reply:
            return as_record(await self.client.call(AWAIT, id, self.reply))
        return await self.record(id)

    async def read_replies(self) -> None:
        """Read the reply stream while anybody waits; look at the records after a break."""
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
        for self.last, id, record in news_in(reply):
            self.answer(id, record)

    def answer(self, id: str, record: Record) -> None:
        for future in list(self.waiting.get(id, ())):
            if not future.done():
                future.set_result(record)

    async def recheck(self) -> None:
        """Look at the records of all open waits: an answer may have been missed."""
        before = clock.monotonic() - RECHECK
        for id in list(self.waiting):
            record = as_record(await self.client.call(AWAIT, id, self.reply))
            if is_answer(record):
                self.answer(id, record)
            elif "state" not in record and any(
                t < before for t in self.waiting.get(id, {}).values()
            ):
                self.answer(id, {})  # it vanished, or nobody wrote it for half a minute
