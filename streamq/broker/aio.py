"""Publishing and waiting from asyncio, on redis's asyncio client.

The steps of a publish and the decisions are those of ``publish_steps`` and ``waiter``; only the
waiting for Redis differs.
Each event loop has a broker of its own, for a program may run several, in threads; the broker
of a closed loop is dropped.  An event loop serves one process: a child that goes on with its
parent's gets connections of its own, but shares what the loop waits for.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeVar

from streamq.broker.confirmation import Confirmation
from streamq.broker.publish_retry import FirstContact, IdempotentRetry, PublishRetry
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
    answer_steps,
)
from streamq.broker.publisher import CHANNELS
from streamq.broker.publisher_channel import Channel, answers_of, full
from streamq.broker.readers import (
    Readers,
    first_commands,
    next_commands,
    nodes_up,
    readers_in,
)
from streamq.broker.waiter import LONGEST_BLOCK, RECHECK, Record, as_record, entries_in, is_answer
from streamq.core.message import Publication
from streamq.errors import BrokerUnavailable
from streamq.host import clock
from streamq.host.forks import FORKS
from streamq.transport.aio_connection import AsyncClient, AsyncConnection
from streamq.transport.client import later
from streamq.transport.connection import ANSWER_TIMEOUT, BLOCK_MARGIN
from streamq.transport.keys import Keys
from streamq.transport.loops import pause, within
from streamq.transport.replies import Refused, raised
from streamq.transport.scripts import load

AWAIT_RESULT = load("await_result")

T = TypeVar("T")

#: Connections of one event loop to publish and ask with; one more reads its replies.
CONNECTIONS = CHANNELS + 1

#: Seconds before Redis is asked again after it was lost.
PAUSE = 0.2
#: Earlier than any monotonic time.
NEVER = float("-inf")


async def in_thread(act: Callable[[], T]) -> T:
    """Call this in a thread of the running event loop's, and return what it returns."""
    return await asyncio.to_thread(act)


def in_event_loop() -> bool:
    """Whether an event loop runs in this thread, and would stand still if the caller waited.

    In a notebook one always does, which has nothing else to run meanwhile.
    """
    return asyncio._get_running_loop() is not None and "ipykernel" not in sys.modules


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
        self.channels = {link: Channel(link) for link in self.client.connections}
        self.listener = AsyncConnection(self.url)
        #: The reply stream, named after the listener's session; '' while it has none.
        self.reply = ""
        self.last: bytes | str = "0"
        self.checked = NEVER
        #: The futures that wait for a task, and since when; NEVER if its record was seen.
        self.waiting: dict[str, dict[asyncio.Future[Record], float]] = {}
        self.reader: asyncio.Task[None] | None = None
        self.closing = self.closed_at_end([*self.client.connections, self.listener])
        with contextlib.suppress(StopIteration):  # it runs to its yield, without waiting
            self.closing.asend(None).send(None)

    async def closed_at_end(self, connections: list[AsyncConnection]) -> AsyncGenerator[None]:
        """Close these connections when this generator is closed.

        The event loop knows the generators that began in it: ``asyncio.run`` closes them at its
        end, while connections can still be closed.
        """
        try:
            yield
        finally:
            for connection in connections:
                await connection.drop()
            await asyncio.sleep(0)  # their transports close in the next step of the loop

    async def aclose(self) -> None:
        """Close the connections of the running loop; the next use opens new ones."""
        if self.loop is not asyncio.get_running_loop():
            return
        self.loop = None
        if self.reader is not None and not self.waiting:
            self.reader.cancel()
            await asyncio.wait([self.reader])
        await self.closing.aclose()

    async def publish(
        self,
        publications: list[Publication],
        confirm: tuple[Confirmation, ...] = (),
        *,
        began: float | None = None,
        declare: Declare | None = None,
    ) -> list[str]:
        """Publish all or none, as ``Publisher.publish`` does."""
        self.attach()
        began = clock.monotonic() if began is None else began
        retry = PublishRetry(self.timeout(), self.first_contact, now=began)
        async with self.client.lent(retry.deadline) as connection:
            channel = self.channels[connection]
            channel.script, channel.load = full(publications)
            channel.confirm, channel.argv = confirm, None
            steps = PublishSteps(channel, retry, self.keys, declare=declare).run()
            return answers_of(await self.do_all(connection, steps))

    async def moment(self, seconds: float, began: float) -> int:
        """The moment ``seconds`` from now, in ms of the server's clock, for this publish."""
        self.attach()
        retry = IdempotentRetry(self.timeout(), self.first_contact, now=began)
        async with self.client.lent(retry.deadline) as connection:
            time = await self.do_all(connection, answer_steps(("TIME",), retry))
        return later(time, seconds)

    async def do_all(self, connection: AsyncConnection, steps: Steps) -> Any:
        """Do the steps of a publish on this connection; return the script's answer."""
        try:
            step = next(steps)
            while True:
                try:
                    replies = await self.do(connection, step)
                except FAILURES as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(replies)
        except StopIteration as answered:
            return answered.value

    async def do(self, connection: AsyncConnection, step: Step) -> Any:
        """Do one step; return the replies to what it sends, errors in their places."""
        match step:
            case Send():
                return await self.client.on(connection, step.commands, step.timeout)
            case Sleep():
                await pause(step.seconds)
            case Reconnect():
                await connection.drop()
            case CallFunction():
                return await asyncio.to_thread(step.act)

    async def record(self, id: str) -> Record:
        """The record of a task as it is now."""
        self.attach()
        return as_record(await self.client.ask("HGETALL", self.keys.task(id)))

    async def readers(self) -> Readers | None:
        """The workers that are up, with the queues they read; None if that cannot be learnt."""
        self.attach()
        try:
            async with self.client.lent(clock.monotonic() + ANSWER_TIMEOUT) as connection:
                first = first_commands(self.keys)
                nodes = nodes_up(await self.client.on(connection, first, ANSWER_TIMEOUT))
                if not nodes:
                    return None if nodes is None else {}
                then = next_commands(self.keys, nodes)
                return readers_in(nodes, await self.client.on(connection, then, ANSWER_TIMEOUT))
        except BrokerUnavailable:
            return None

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
        self.deliver(raised(reply))

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
