"""Connections for commands that do not block, shared by the threads of a process.

For commands that may be repeated: reads, declarations, and scripts that are idempotent.
Publishing and settling have connections of their own.
"""

from collections.abc import Callable
from copy import copy
from math import inf
from typing import Any, TypeVar

from streamq.transport.connection import ANSWER_TIMEOUT, Connection
from streamq.transport.pool import ResourcePool
from streamq.transport.replies import Disconnected, Refused, named, raised
from streamq.transport.scripts import Script

T = TypeVar("T")

#: How many connections the threads or greenlets of one process share at most.
MOST = 4


class Client:
    """A client: a few connections, each lent to one caller at a time."""

    def __init__(
        self, url: str, *, name: str, most: int = MOST, patience: float = ANSWER_TIMEOUT
    ) -> None:
        self.url = url
        #: When to stop waiting for an answer (monotonic seconds).
        self.until = inf
        self.connections = ResourcePool(lambda: Connection(url, name=name, patience=patience), most)

    def limited(self, until: float) -> "Client":
        """A client on the same connections that waits until then (monotonic seconds)."""
        other = copy(self)
        other.until = until
        return other

    def run(self, act: Callable[[Connection], T]) -> T:
        """Call ``act`` with a connection; again with a new one if an idle one was dead."""
        try:
            connection = self.connections.borrow(self.until)
        except TimeoutError as error:
            raise Disconnected(f"no connection to Redis: {error}") from None
        was_open = connection.socket is not None
        connection.until = self.until
        try:
            return act(connection)
        except Disconnected as error:
            if error.timed_out:
                self.close()  # the idle ones may be dead too
            if error.timed_out or not was_open:
                raise
            return act(connection)
        finally:
            connection.until = inf
            self.connections.give_back(connection)

    def ask(self, *command: Any) -> Any:
        """Send one command and return its raw reply."""
        return self.ask_all([command])[0]

    def ask_all(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Send commands in one round trip and return their replies."""
        return list(map(raised, self.try_all(commands)))

    def try_all(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Send commands in one round trip; an error reply is returned in its place."""

        def act(connection: Connection) -> list[Any]:
            connection.send(commands)
            return [named(connection.read(raising=False), command) for command in commands]

        return self.run(act) if commands else []

    def call(self, script: Script, root: str, *argv: Any) -> Any:
        """Run a script on the server."""
        return raised(self.call_all([(script, argv)], root)[0])

    def call_all(self, calls: list[tuple[Script, tuple[Any, ...]]], root: str) -> list[Any]:
        """Run scripts in one round trip; an error reply is returned in its place."""
        replies = self.run(lambda connection: connection.call_all(calls, root))
        for at, reply in enumerate(replies):
            if isinstance(reply, Refused):
                replies[at] = named(reply)
        return replies

    def moment(self, seconds: float) -> int:
        """The moment ``seconds`` from now, in milliseconds of the server's clock.

        For signed messages: the signature covers the moment, so the script cannot compute it.
        The server's time is read at each call: the clocks may drift apart.
        """
        return later(self.ask("TIME"), seconds)

    def close(self) -> None:
        """Close the idle connections."""
        for connection in self.connections.clear():
            connection.drop()


def later(time: Any, seconds: float) -> int:
    """A moment after Redis's answer to TIME, in milliseconds."""
    return round((int(time[0]) + int(time[1]) / 1e6 + seconds) * 1000)
