"""Connections to Redis for asyncio, on redis's asyncio client; see ``connection``."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from streamq.core.text import mask_url
from streamq.errors import StreamqError
from streamq.host import clock
from streamq.host.forks import FORKS
from streamq.transport.address import Address, NoMaster, Sentinels, address_of, check_role
from streamq.transport.connection import ANSWER_TIMEOUT, CONNECT_TIMEOUT
from streamq.transport.keys import Keys
from streamq.transport.loops import within
from streamq.transport.reasons import reason
from streamq.transport.replies import (
    Disconnected,
    Failover,
    Refused,
    after_loading,
    raised,
    translated,
)
from streamq.transport.scripts import Script

#: Connections of the parent that a forked child keeps open: closing one would remove it from the
#: parent's event loop too, as both processes share the kernel's epoll set.
KEPT_OPEN: list[Any] = []


class ToMaster(redis.asyncio.Connection):
    """A connection to the server that the Sentinels name as master when it connects."""

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


class ToMasterWithTLS(ToMaster, redis.asyncio.SSLConnection):
    """The same with TLS."""


#: The asyncio class for each of redis-py's connections.
KINDS = {
    redis.Connection: redis.asyncio.Connection,
    redis.SSLConnection: redis.asyncio.SSLConnection,
    redis.UnixDomainSocketConnection: redis.asyncio.UnixDomainSocketConnection,
}


def link_to(address: Address) -> Any:
    """A connection of redis-py, not opened yet, with every default that matters set explicitly."""
    options = {
        **address.options,
        "protocol": 2,
        "decode_responses": False,
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": None,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "client_name": "streamq:asyncio",
    }
    kind: Any = KINDS[address.kind]
    if address.sentinels is not None:
        kind = ToMaster if address.sentinels.tls is None else ToMasterWithTLS
        options["sentinels"] = address.sentinels
    return kind(**options)


class AsyncConnection:
    """A connection with one user at a time."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.link: Any = None
        #: A unique name for this connect; '' before the first one.
        self.session = ""
        #: The fork count of the process that has opened it.
        self.forks = 0

    @property
    def is_open(self) -> bool:
        """Whether it can be used, as far as is known: open, and this process's."""
        link = self.link
        return (
            link is not None
            and self.forks == FORKS.count
            and link.is_connected
            and not link._reader.at_eof()
        )

    async def ready(self) -> None:
        """Open the connection unless it is open."""
        if self.is_open:
            return
        await self.drop()
        link = link_to(address_of(self.url))
        await link.connect()
        self.link, self.forks, self.session = link, FORKS.count, secrets.token_hex(8)

    async def exchange(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Send commands in one packet and return their replies, errors in their places.

        Any interruption drops the connection: a late reply would be taken for the next one.
        """
        link = self.link
        try:
            await link.send_packed_command(link.pack_commands(commands), check_health=False)
            return [await self.reply() for _ in commands]
        except BaseException:
            await self.drop()
            raise

    async def reply(self) -> Any:
        """The next raw reply; an error reply is returned, not raised."""
        try:
            return await self.link.read_response()
        except redis.ResponseError as error:
            return error

    async def drop(self) -> None:
        """Close the connection; the next use opens a new one."""
        link, self.link = self.link, None
        if link is None:
            return
        if self.forks != FORKS.count:
            KEPT_OPEN.append(link)
            return
        await link.disconnect(nowait=True)


class AsyncClient:
    """The connections of one event loop, each lent to one caller at a time."""

    def __init__(self, url: str, keys: Keys, most: int) -> None:
        self.url = url
        self.keys = keys
        self.connections = [AsyncConnection(url) for _ in range(most)]
        self.free: asyncio.LifoQueue[AsyncConnection] = asyncio.LifoQueue()
        for connection in self.connections:
            self.free.put_nowait(connection)

    @asynccontextmanager
    async def lent(self, until: float) -> AsyncIterator[AsyncConnection]:
        """Borrow a connection, if one is free before then (monotonic seconds)."""
        free = self.free
        try:
            connection = free.get_nowait()
        except asyncio.QueueEmpty:
            connection = await self.next_free(until)
        try:
            yield connection
        finally:
            free.put_nowait(connection)

    async def next_free(self, until: float) -> AsyncConnection:
        """The next connection that is given back."""
        try:
            return await within(self.free.get(), until - clock.monotonic())
        except TimeoutError:
            raise Disconnected(
                "no connection to Redis was free in time; nothing was sent",
                known={
                    "connections": f"{len(self.connections)}, all of them waiting for an answer"
                },
            ) from None

    async def on(
        self, connection: AsyncConnection, commands: Iterable[tuple[Any, ...]], timeout: float
    ) -> list[Any]:
        """Send commands and return their replies, with errors of ours in their places.

        ``commands`` may be lazy: they are read when the connection is open.
        """
        opened = False

        async def exchange() -> list[Any]:
            nonlocal opened
            await connection.ready()
            opened = True
            return await connection.exchange(list(commands))

        try:
            replies = await within(exchange(), timeout)
        except (TimeoutError, redis.RedisError, OSError) as error:
            failure = translated(error, self.url) or self.disconnected(error, sent=opened)
            await self.drop_idle_after(failure)
            raise failure from error
        found = [
            translated(reply, self.url) or reply if isinstance(reply, Exception) else reply
            for reply in replies
        ]
        for reply in found:
            if isinstance(reply, Failover):
                await connection.drop()
                await self.drop_idle_after(reply)
        return found

    async def ask(self, *command: Any, until: float | None = None) -> Any:
        """Send one command and return its raw reply; raises errors of ours."""
        until = clock.monotonic() + ANSWER_TIMEOUT if until is None else until
        async with self.lent(until) as connection:
            return await self.ask_on(connection, command, until)

    async def ask_on(
        self, connection: AsyncConnection, command: tuple[Any, ...], until: float
    ) -> Any:
        """Send one command on this connection."""
        patience = min(ANSWER_TIMEOUT, until - clock.monotonic())
        (reply,) = await self.on(connection, [command], patience)
        return raised(reply)

    async def drop_idle_after(self, error: StreamqError) -> None:
        """Drop idle connections if the server is not the master any more, or does not answer."""
        if isinstance(error, Failover) or (isinstance(error, Disconnected) and error.timed_out):
            idle = [self.free.get_nowait() for _ in range(self.free.qsize())]
            for connection in idle:
                self.free.put_nowait(connection)
                await connection.drop()

    def disconnected(self, error: Exception, *, sent: bool) -> Disconnected:
        """The error for a lost connection; ``sent``: a command may have been executed."""
        lost = Disconnected(f"cannot reach Redis at {mask_url(self.url)}: {reason(error)}")
        lost.sent = sent and not isinstance(error, NoMaster)
        lost.timed_out = isinstance(error, TimeoutError)
        return lost

    async def call(self, script: Script, *argv: Any) -> Any:
        """Run a script; load it first where the server does not know it."""
        command = script.command(self.keys.root, *argv)
        try:
            return await self.ask(*command)
        except Refused as error:
            if error.code != "NOSCRIPT":
                raise
        await self.ask("SCRIPT", "LOAD", script.text)
        try:
            return await self.ask(*command)
        except Refused as error:
            raise after_loading(error) from None
