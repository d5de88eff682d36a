"""The notifier: supervisors get notices at once, instead of polling every few milliseconds.

Notices come over a pub/sub channel, which keeps nothing: a supervisor that missed one gets the
same news when it renews its leases.
"""

import contextlib
import select

from streamq.errors import StreamqError
from streamq.host import clock
from streamq.transport.connection import Connection

#: Seconds between two pings, which show whether the connection is alive.
PING_INTERVAL = 15.0
#: The replies to a ping and to a subscription, which are no notices.
IGNORED = (b"pong", b"subscribe")
#: Notices that are taken at once: leases are renewed between two parts.
MOST = 1000


class Notifier:
    """A connection that is subscribed to the notices of the namespace."""

    def __init__(self, url: str, channel: str, *, name: str, patience: float) -> None:
        self.connection = Connection(url, name=name, patience=patience)
        self.channel = channel
        self.asked = False
        self.next = 0.0

    def listen(self) -> None:
        """Subscribe, or ping; a connection that has not answered the last ping is opened anew.

        Called regularly.  Raises BrokerUnavailable.
        """
        if clock.monotonic() < self.next and self.connection.socket is not None:
            return
        if self.asked:
            self.connection.drop()  # it has not answered since the last time
        if self.connection.socket is None:
            try:
                self.connection.ask("SUBSCRIBE", self.channel)
            except StreamqError:
                self.connection.drop()  # it is open, and not subscribed
                raise
        self.connection.send([("PING",)])
        # Notices are no replies: they come without a command.
        self.connection.unread = 0
        self.asked, self.next = True, clock.monotonic() + PING_INTERVAL

    def fileno(self) -> int:
        """The descriptor to wait for; -1 while nothing is open."""
        return self.connection.fileno()

    def notices(self) -> list[list[str]]:
        """The first ``MOST`` notices since the last call, each as its words.  Does not wait."""
        found: list[list[str]] = []
        while len(found) < MOST and (self.connection.has_reply or self.readable()):
            reply = self.connection.read()
            self.connection.unread = 0
            kind, *rest = reply
            self.asked = self.asked and kind != b"pong"
            if kind not in IGNORED:
                found.append(rest[-1].decode(errors="replace").split(" "))
        return found

    def readable(self) -> bool:
        """Whether a read would return at once."""
        with contextlib.suppress(ValueError, OSError):
            return self.fileno() >= 0 and bool(select.select([self], [], [], 0)[0])
        return False
