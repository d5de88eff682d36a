"""All connections of this process: a forked child closes its copies, and the exit closes all."""

import atexit
import os
from typing import Any, Protocol
from weakref import WeakSet


class Closable(Protocol):
    """A connection, as far as it is closed here."""

    #: The gevent hub that its waits go through; None without gevent.
    hub: Any

    def drop(self) -> None:
        """Close the connection."""

    def close_copy(self) -> None:
        """Close the inherited descriptor, in a forked child."""


CONNECTIONS: WeakSet[Closable] = WeakSet()


def close_copies() -> None:
    """Close the inherited descriptors of all connections, in a forked child."""
    for connection in list(CONNECTIONS):
        connection.close_copy()


def close_at_exit() -> None:
    """Close all connections when the process ends, because Python may warn of open sockets.

    Those of gevent stay open: closing one may need its loop, which may have ended.
    """
    for connection in list(CONNECTIONS):
        if connection.hub is None:
            connection.drop()


os.register_at_fork(after_in_child=close_copies)
atexit.register(close_at_exit)
