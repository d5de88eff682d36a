"""Publishing and waiting from asyncio, on redis's asyncio client.

The decisions are those of ``publisher`` and ``waiting``; only the waiting for Redis differs.
Each event loop has a store of its own, for a program may run several, in threads; what
belonged to a loop that was closed is left behind.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from streamq import clock
from streamq.errors import BrokerUnavailable, ConfigError, NotConfirmed, StreamqError
from streamq.message import Publication
from streamq.store.addresses import Address, NoMaster, Sentinels, address_of, check_role
from streamq.store.client import later
from streamq.store.confirm import (
    POLICY,
    PROBE,
    Confirmation,
    check_policy,
    lacks_waitaof,
    needs_probe,
)
from streamq.store.connection import (
    ANSWER_TIMEOUT,
    BLOCK_MARGIN,
    Disconnected,
    Failover,
    Refused,
)
from streamq.store.connection import reason as reason_of
from streamq.store.keys import Keys
from streamq.store.loops import pause, within
from streamq.store.publisher import LANES, PUBLISH, Attempt, Contact, answers_of, lost, refusal_of
from streamq.store.replies import Denied, after_loading, translated
from streamq.store.scripts import Script, load
from streamq.store.waiting import LONGEST_BLOCK, RECHECK, Record, as_record, is_answer, news_in
from streamq.units import mask_url

AWAIT = load("await")

#: Connections of one event loop: its lanes, the reader of its replies, and some to ask with.
CONNECTIONS = LANES + 2

#: Seconds before Redis is asked again after it was lost.
PAUSE = 0.2
#: Earlier than any monotonic time.
NEVER = float("-inf")


@dataclass(slots=True)
class Lane:
    """The name and number under which one publish at a time is sent."""

    name: str = field(default_factory=lambda: secrets.token_hex(8))
    number: int = 0


class MasterConnection(redis.asyncio.Connection):
    """A connection to whoever is the master when it is made, as Sentinels know it."""

    def __init__(self, *, sentinels: Sentinels, **options: Any) -> None:
        super().__init__(**options)
        self.sentinels = sentinels

    async def connect(self) -> None:
        """Ask for the master, connect, and check that it is one."""
        if self.is_connected:
            return
        self.host, self.port = await asyncio.to_thread(self.sentinels.master)
        await super().connect()  # type: ignore[no-untyped-call]
        try:
            await self.send_command("ROLE")
            check_role(await self.read_response())
        except BaseException:
            await self.disconnect(nowait=True)
            raise


def pool_for(address: Address) -> redis.asyncio.BlockingConnectionPool:
    """A pool that lets callers wait: any number of tasks may send and wait at once."""
    options = {
        **address.options,
        "protocol": 2,
        "decode_responses": False,
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": None,
        "socket_connect_timeout": ANSWER_TIMEOUT,
        "client_name": "streamq:asyncio",
        "max_connections": CONNECTIONS,
        "timeout": None,
    }
    kind: Any = KINDS[address.kind]
    if address.sentinels is not None:
        kind = MasterConnection
        options["sentinels"] = address.sentinels
    return redis.asyncio.BlockingConnectionPool(connection_class=kind, **options)


#: The asyncio class for each of redis-py's connections.
KINDS = {
    redis.Connection: redis.asyncio.Connection,
    redis.SSLConnection: redis.asyncio.SSLConnection,
    redis.UnixDomainSocketConnection: redis.asyncio.UnixDomainSocketConnection,
}


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

    def attach(self) -> None:
        """Open what is needed, when it is first needed and after ``aclose``."""
        loop = asyncio.get_running_loop()
        if self.loop is loop:
            return
        self.loop = loop
        self.redis = redis.asyncio.Redis.from_pool(pool_for(address_of(self.url)))
        # Replies are taken as they came: redis-py's own shapes differ by command and version.
        self.redis.response_callbacks.clear()
        self.lanes: asyncio.Queue[Lane] = asyncio.Queue()
        for _ in range(LANES):
            self.lanes.put_nowait(Lane())
        self.reply = f"a-{secrets.token_hex(6)}"
        self.last: bytes | str = "0"
        #: Who waits for a task, and since when; NEVER if its record was seen.
        self.waiting: dict[str, dict[asyncio.Future[Record], float]] = {}
        self.reader: asyncio.Task[None] | None = None
        #: Whether CONFIG GET stands in for WAITAOF; None: the server was not asked yet.
        self.by_policy: bool | None = None

    async def aclose(self) -> None:
        """Close the connections of the running loop; the next use opens new ones."""
        if self.loop is asyncio.get_running_loop():
            self.loop = None
            await self.redis.aclose()

    async def ask(self, *command: Any, timeout: float = ANSWER_TIMEOUT) -> Any:
        """Send one command and return its raw reply, with errors in our words."""
        return await self.guarded(self.redis.execute_command(*command), timeout)  # type: ignore[no-untyped-call]

    async def guarded(self, act: Awaitable[Any], timeout: float) -> Any:
        """Wait for redis-py; say what goes wrong in our words."""
        try:
            return await within(act, timeout)
        except (TimeoutError, redis.RedisError, OSError) as error:
            said = translated(error, self.url) or self.disconnected(error)
            await self.heed(said)
            raise said from error

    async def heed(self, error: StreamqError) -> None:
        """Forget what is idle of the connections to a server that is not the master, or silent."""
        if isinstance(error, Failover | Disconnected):
            self.by_policy = None
        if isinstance(error, Failover) or (isinstance(error, Disconnected) and error.timed_out):
            await self.redis.connection_pool.disconnect(inuse_connections=False)

    def disconnected(self, error: Exception) -> Disconnected:
        """Say which Redis was lost, and whether a command may have been executed."""
        lost = Disconnected(f"cannot reach Redis at {mask_url(self.url)}: {reason_of(error)}")
        before = isinstance(error, redis.ConnectionError) and "connecting" in str(error)
        lost.sent = not (before or isinstance(error, NoMaster))
        lost.timed_out = isinstance(error, TimeoutError)
        return lost

    async def call(self, script: Script, *argv: Any) -> Any:
        """Run a script; load it first where the server does not know it."""
        try:
            return await self.ask(*script.command(self.keys.root, *argv))
        except Refused as error:
            if error.code != "NOSCRIPT":
                raise
        await self.ask("SCRIPT", "LOAD", script.text)
        try:
            return await self.ask(*script.command(self.keys.root, *argv))
        except Refused as error:
            raise after_loading(error) from None

    async def publish(
        self, publications: list[Publication], confirm: tuple[Confirmation, ...] = ()
    ) -> list[str]:
        """Publish all or none, as ``Publisher.publish`` does."""
        self.attach()
        arguments = [argument for publication in publications for argument in publication]
        attempt = Attempt(self.timeout(), self.contact, now=clock.monotonic())
        lane = await self.lanes.get()
        try:
            lane.number += 1
            while True:
                try:
                    answer = await self.once((lane.name, lane.number, *arguments), confirm)
                    self.contact.made = True
                    return answers_of(answer)
                except NotConfirmed:
                    raise
                except BrokerUnavailable as error:
                    await pause(attempt.pause(error, clock.monotonic()))
                except (Refused, ConfigError) as error:
                    attempt.give_up(refusal_of(error))
        finally:
            self.lanes.put_nowait(lane)

    async def moment(self, seconds: float) -> int:
        """So many seconds from now by the server's clock; see ``Client.moment``."""
        self.attach()
        return later(await self.ask("TIME"), seconds)

    async def once(self, argv: tuple[Any, ...], confirm: tuple[Confirmation, ...]) -> Any:
        """Run the publish script once, and ask for what is to be confirmed."""
        if not confirm:
            return await self.call(PUBLISH, *argv)
        await self.prepare(confirm)
        answer, *replies = await self.together(PUBLISH, argv, confirm)
        if isinstance(answer, Refused) and answer.code == "NOSCRIPT":
            await self.ask("SCRIPT", "LOAD", PUBLISH.text)
            answer, *replies = await self.together(PUBLISH, argv, confirm)
            answer = after_loading(answer)
        if isinstance(answer, Exception):
            raise answer
        for each, reply in zip(confirm, replies, strict=True):
            if isinstance(reply, BrokerUnavailable) and not isinstance(reply, Denied):
                raise lost(str(reply)) from reply
            each.judge(reply, answer)
        return answer

    async def together(
        self, script: Script, argv: tuple[Any, ...], confirm: tuple[Confirmation, ...]
    ) -> list[Any]:
        """Run a script and what confirms it on one connection; errors stand in their places."""
        pipe = self.redis.pipeline(transaction=False)
        pipe.execute_command(*script.command(self.keys.root, *argv))
        for each in confirm:
            pipe.execute_command(*each.question(by_policy=bool(self.by_policy)))
        patience = ANSWER_TIMEOUT + sum(each.timeout + BLOCK_MARGIN for each in confirm)
        replies = await self.guarded(pipe.execute(raise_on_error=False), patience)
        said = [
            translated(reply, self.url) or reply if isinstance(reply, Exception) else reply
            for reply in replies
        ]
        for reply in said:
            if isinstance(reply, StreamqError):
                await self.heed(reply)
        return said

    async def prepare(self, confirm: tuple[Confirmation, ...]) -> None:
        """Make sure that the server can say when a message is on disk, if it is to be asked."""
        if self.by_policy is not None or not needs_probe(confirm):
            return
        by_policy = lacks_waitaof(await self.try_to_ask(PROBE))
        if by_policy:
            check_policy(await self.try_to_ask(POLICY))
        self.by_policy = by_policy

    async def try_to_ask(self, command: tuple[Any, ...]) -> Any:
        """Ask, and return an error that the server answers."""
        try:
            return await self.ask(*command)
        except (Refused, Denied) as error:
            return error

    async def record(self, id: str) -> Record:
        """The record of a task as it is now."""
        self.attach()
        return as_record(await self.ask("HGETALL", self.keys.task(id)))

    async def final(self, id: str, timeout: float) -> Record | None:
        """The record of a task that has ended, or went to several queues.

        None when that has not happened in time, an empty one when there is no record any more.
        """
        self.attach()
        future: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
        waits = self.waiting.setdefault(id, {})
        waits[future] = clock.monotonic()
        try:
            record = as_record(await self.call(AWAIT, id, self.reply))
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

    async def read_replies(self) -> None:
        """Read the reply stream while anybody waits; look at the records after a break."""
        block, checked = int(LONGEST_BLOCK * 1000), clock.monotonic()
        read = ("XREAD", "COUNT", 1000, "BLOCK", block, "STREAMS", self.keys.reply(self.reply))
        while self.waiting:
            try:
                if clock.monotonic() - checked > RECHECK:
                    await self.recheck()
                    checked = clock.monotonic()
                self.deliver(await self.ask(*read, self.last, timeout=LONGEST_BLOCK + BLOCK_MARGIN))
            except (BrokerUnavailable, Refused):
                await pause(PAUSE)
                checked = NEVER

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
            record = as_record(await self.call(AWAIT, id, self.reply))
            if is_answer(record):
                self.answer(id, record)
            elif "state" not in record and any(
                t < before for t in self.waiting.get(id, {}).values()
            ):
                self.answer(id, {})  # it vanished, or nobody wrote it for half a minute
