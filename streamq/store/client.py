"""Connections for commands that do not block, shared by the threads of a process."""

import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from streamq.store.connection import Connection
from streamq.store.scripts import Script

#: How many connections the threads or greenlets of one process share at most.
MOST = 4


class Client:
    """A few connections; each is lent to one caller at a time.

    A caller waits while all are lent.  After a fork the child starts with none, because
    a reply must never reach the other process.
    """

    def __init__(self, url: str, *, name: str, most: int = MOST) -> None:
        self.url = url
        self.name = name
        self.most = most
        self.reset()

    def reset(self) -> None:
        """Start with no connection: at the beginning, and in a forked child."""
        self.pid = os.getpid()
        self.idle: deque[Connection] = deque()
        self.room = threading.BoundedSemaphore(self.most)

    @contextmanager
    def lent(self) -> Iterator[Connection]:
        """Borrow a connection."""
        if self.pid != os.getpid():
            self.reset()
        with self.room:
            try:
                connection = self.idle.pop()
                connection.drop_if_stale()
            except IndexError:
                connection = Connection(self.url, name=self.name)
            try:
                yield connection
            finally:
                self.idle.append(connection)

    def ask(self, *command: Any) -> Any:
        """Send one command and return its raw reply."""
        with self.lent() as connection:
            return connection.ask(*command)

    def ask_all(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Send commands in one round trip and return their replies."""
        if not commands:
            return []
        with self.lent() as connection:
            connection.send(commands)
            replies = [connection.read(raising=False) for _ in commands]
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    def call(self, script: Script, root: str, *argv: Any) -> Any:
        """Run a script on the server."""
        with self.lent() as connection:
            return connection.call(script, root, *argv)

    def close(self) -> None:
        """Close what is idle."""
        while self.idle:
            self.idle.pop().drop()
