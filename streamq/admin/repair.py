"""Giving a queue that is out of ids fresh streams: all that it holds stays."""

from dataclasses import dataclass
from time import sleep

from streamq.errors import StreamqError
from streamq.host import clock
from streamq.transport.client import Client
from streamq.transport.keys import Keys
from streamq.transport.replies import Refused
from streamq.transport.scripts import load

REPAIR = load("repair")

#: Messages that one call moves: a script during which Redis serves nobody else.
AT_ONCE = 500
#: Seconds between two looks whether a message has left the hands of a worker.
PAUSE = 0.1


class StillHeld(StreamqError):
    """A queue cannot be repaired yet: a message with one of the last ids is running."""


@dataclass(slots=True)
class Repaired:
    """Which streams of a queue are fresh, and how many messages these hold."""

    streams: list[str]
    kept: int = 0
    #: How many of the oldest went to another stream of the queue.
    moved: int = 0


class Repair:
    """Repairs the streams of one queue."""

    def __init__(self, client: Client, keys: Keys, queue: str) -> None:
        self.client = client
        self.keys = keys
        self.queue = queue
        self.done = Repaired([])

    def run(self, patience: float) -> Repaired:
        """Give each stream that is out of ids a fresh one.

        First the one that others move their oldest messages to.  Raises StillHeld if a worker
        does not give a message away within ``patience`` (seconds), and StreamqError for one
        that cannot be moved; what was moved until then is in its queue.
        """
        until = clock.monotonic() + patience
        front = f"{self.queue}:returned"
        prefix = len(self.keys.queue(""))
        streams = [key[prefix:] for key in self.keys.streams(self.queue)]
        for stream in sorted(streams, key=lambda stream: stream != front):
            other = self.queue if stream == front else front
            self.stream(stream, "" if stream.endswith(":suspects") else other, until)
        return self.done

    def stream(self, stream: str, other: str, until: float) -> None:
        """Repair one stream, in bounded steps."""
        while True:
            try:
                word, number = self.client.call(REPAIR, self.keys.root, stream, other, AT_ONCE)
            except Refused as error:
                self.wait(stream, error, until)
                continue
            if word == b"more":
                self.done.moved += number
                continue
            if word == b"fresh":
                self.done.streams.append(stream)
                self.done.kept += number
            return

    def wait(self, stream: str, refused: Refused, until: float) -> None:
        """Wait a moment for whoever holds a message; raise if it takes too long."""
        _, _, about = str(refused).partition(" ")
        if refused.code == "TOOLARGE":
            key = self.keys.queue(stream)
            raise StreamqError(
                f"entry {about} of {stream} has more fields than a script can add",
                advice=[f"streamq redis XDEL '{key}' {about}  drops it; then repair again"],
            ) from None
        if refused.code != "HELD":
            raise refused
        if clock.monotonic() > until:
            raise StillHeld(
                f"queue {self.queue!r} is not repaired: a message with one of the last ids runs, "
                "and would run twice",
                known={"its consumer": about},
                advice=["try again when it has ended, or stop its worker before"],
            ) from None
        sleep(PAUSE)
