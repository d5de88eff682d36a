"""Repair of a queue that is out of ids: it gets fresh streams, which hold the same messages."""

from dataclasses import dataclass
from time import sleep

from streamq.errors import StreamqError
from streamq.host import clock
from streamq.transport.client import Client
from streamq.transport.keys import Keys
from streamq.transport.replies import Refused
from streamq.transport.scripts import load

REPAIR = load("repair")

#: Messages that one call moves; Redis serves no other client during a script.
AT_ONCE = 500
#: Seconds between two checks whether a worker still holds a message.
PAUSE = 0.1


class StillHeld(StreamqError):
    """A queue cannot be repaired yet, because a message with one of the last ids is running."""


@dataclass(slots=True)
class Repaired:
    """The outcome of a repair: which streams are fresh, and how many messages they hold."""

    streams: list[str]
    kept: int = 0
    #: How many of the oldest messages were moved to another stream of the queue.
    moved: int = 0


class Repair:
    """A repair of the streams of one queue."""

    def __init__(self, client: Client, keys: Keys, queue: str) -> None:
        self.client = client
        self.keys = keys
        self.queue = queue
        self.done = Repaired([])

    def run(self, patience: float) -> Repaired:
        """Replace each stream that is out of ids by a fresh one.

        Begins with the stream that takes the oldest messages of the others.  Raises StillHeld
        if a worker holds a message for longer than ``patience`` seconds, and StreamqError for a
        message that cannot be moved.  Messages that were moved until then are in their queue.
        """
        until = clock.monotonic() + patience
        front = f"{self.queue}:returned"
        prefix = len(self.keys.queue(""))
        streams = [key[prefix:] for key in self.keys.streams(self.queue)]
        for stream in sorted(streams, key=lambda stream: stream != front):
            other = self.queue if stream == front else front
            self.repair_stream(stream, "" if stream.endswith(":quarantine") else other, until)
        return self.done

    def repair_stream(self, stream: str, other: str, until: float) -> None:
        """Repair one stream, ``AT_ONCE`` messages a call; ``other`` takes its oldest messages."""
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
        """Wait ``PAUSE`` seconds for a message to be settled.  Raises StillHeld after ``until``."""
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
