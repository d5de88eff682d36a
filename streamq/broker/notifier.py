"""The bell: what supervisors hear at once, instead of asking every few milliseconds.

A channel, so nothing is kept: who did not listen hears the same when it renews its leases.
"""

import contextlib
import select

from streamq.errors import StreamqError
from streamq.host import clock
from streamq.transport.connection import Connection

#: Seconds between two questions whether the connection still lives.
EVERY = 15.0
#: What the server answers to a PING of ours, and to a subscription.
QUIET = (b"pong", b"subscribe")


class Bell:
    """One connection that listens to the channel of the namespace."""

    def __init__(self, url: str, channel: str, *, name: str, patience: float) -> None:
        self.connection = Connection(url, name=name, patience=patience)
        self.channel = channel
        self.asked = False
        self.next = 0.0

    def listen(self) -> None:
        """Make sure that we listen; a connection that answers no more is opened anew.

        To be called now and then.  Raises BrokerUnavailable.
        """
        if clock.monotonic() < self.next and self.connection.socket is not None:
            return
        if self.asked:
            self.connection.drop()  # it has not answered since the last time
        if self.connection.socket is None:
            try:
                self.connection.ask("SUBSCRIBE", self.channel)
            except StreamqError:
                self.connection.drop()  # it would pass for one that listens
                raise
        self.connection.send([("PING",)])
        # What comes from here on comes unasked.
        self.connection.unread = 0
        self.asked, self.next = True, clock.monotonic() + EVERY

    def fileno(self) -> int:
        """The descriptor to wait for; -1 while nothing is open."""
        return self.connection.fileno()

    def heard(self) -> list[list[str]]:
        """What was said since the last time, each as its words.  Does not wait."""
        found = []
        while self.connection.has_reply or self.readable():
            reply = self.connection.read()
            self.connection.unread = 0
            kind, *rest = reply
            self.asked = self.asked and kind != b"pong"
            if kind not in QUIET:
                found.append(rest[-1].decode(errors="replace").split(" "))
        return found

    def readable(self) -> bool:
        """Whether reading would not wait."""
        with contextlib.suppress(ValueError, OSError):
            return self.fileno() >= 0 and bool(select.select([self], [], [], 0)[0])
        return False
