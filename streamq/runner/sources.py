"""What a runner reads, and how much of it at once."""

from collections.abc import Sequence
from dataclasses import dataclass

#: Seconds of work that a runner takes in hand at once.  Others would wait for it that long.
SHARE = 0.005
#: Messages in hand at most: the size of one settlement.
MOST = 100


class Pace:
    """How many messages to read: what is likely done within ``SHARE``.

    One as soon as tasks are slow; it grows by four at most from one batch to the next.
    """

    def __init__(self) -> None:
        self.count = 1
        self.each = SHARE

    def ran(self, number: int, seconds: float) -> None:
        """Learn from a batch.  Slowness counts at once, speed only slowly."""
        each = seconds / number
        self.each = max(each, (self.each + each) / 2)
        likely = int(SHARE / self.each) if self.each > 0 else MOST
        self.count = max(1, min(likely, self.count * 4, MOST))


@dataclass(frozen=True, slots=True)
class Source:
    """One queue: its streams in the order in which they are served.

    ``alone`` means only the suspects of the queue, which are run with nothing beside them.
    """

    queue: str
    levels: int = 0
    alone: bool = False

    @property
    def streams(self) -> tuple[str, ...]:
        """What was handed back, then the priority levels, then the queue itself."""
        if self.alone:
            return (f"{self.queue}:suspects",)
        levels = [f"{self.queue}:p{level}" for level in range(self.levels, 0, -1)]
        return (f"{self.queue}:returned", *levels, self.queue)


class Intake:
    """The order in which a runner looks through its queues.

    A look begins behind the queue that gave something last, so that turns go round those that
    have something: a busy one does not starve the others, and an empty one has no turn that
    whoever stands behind it would get.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = list(sources)
        self.streams = [stream for source in sources for stream in source.streams]
        #: Whether it is about suspects only, whose streams are there when there are some.
        self.alone = any(source.alone for source in sources)
        self.turn = 0
        #: For each stream, the turn that comes behind its queue.
        self.behind = {
            stream: turn for turn, source in enumerate(sources, 1) for stream in source.streams
        }
        #: Queues of which a key holds something that is no stream.
        self.left_out: set[str] = set()

    @property
    def readable(self) -> list[str]:
        """The streams to read: all but those of queues that are left out."""
        if not self.left_out:
            return self.streams
        return [stream for source in self.wanted for stream in source.streams]

    @property
    def wanted(self) -> list[Source]:
        """The queues to read."""
        return [source for source in self.sources if source.queue not in self.left_out]

    def groups(self, count: int) -> list[tuple[str, ...]]:
        """Groups of streams, each to be read by one command, until ``count`` are found.

        COUNT holds for each stream of a command.  One that reads two may bring twice as
        many, which is harmless for many quick tasks, not for a single slow one; and where
        levels are strict, each is read by itself.
        """
        groups: list[tuple[str, ...]] = []
        for source in self.sources[self.turn :] + self.sources[: self.turn]:
            if source.queue in self.left_out:
                continue
            if count > 1 and not source.levels:
                groups.append(source.streams)
            else:
                groups += [(stream,) for stream in source.streams]
        return groups

    def gave(self, stream: str) -> None:
        """A stream has given something: the next look begins behind its queue."""
        self.turn = self.behind[stream]
