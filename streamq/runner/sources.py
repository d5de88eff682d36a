"""The read order of a runner: which streams it reads, in which order, and how many messages."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

logger = logging.getLogger("streamq.worker")

#: Seconds of work that a runner prefetches.  Messages behind a slow task wait that long.
SHARE = 0.005
#: Messages prefetched at most: the size of one settlement.
MOST = 100


class AdaptivePrefetch:
    """The number of messages to read: as many as are likely done within ``SHARE``.

    ``count`` is 1 as soon as tasks are slow; from one batch to the next it grows fourfold at most.
    """

    def __init__(self) -> None:
        self.count = 1
        self.task_seconds = SHARE

    def learn(self, number: int, seconds: float) -> None:
        """Adapt to a batch of ``number`` tasks: to slower tasks at once, to faster ones slowly."""
        each = seconds / number
        self.task_seconds = max(each, (self.task_seconds + each) / 2)
        likely = int(SHARE / self.task_seconds) if self.task_seconds > 0 else MOST
        self.count = max(1, min(likely, self.count * 4, MOST))


@dataclass(frozen=True, slots=True)
class QueueStreams:
    """One queue: its streams in the order in which they are served.

    ``quarantine``: only the queue's quarantine stream, whose messages run as sole tasks.
    """

    queue: str
    levels: int = 0
    quarantine: bool = False

    @property
    def streams(self) -> tuple[str, ...]:
        """The stream of returned messages, then the priority levels, then the queue itself."""
        if self.quarantine:
            return (f"{self.queue}:quarantine",)
        levels = [f"{self.queue}:p{level}" for level in range(self.levels, 0, -1)]
        return (f"{self.queue}:returned", *levels, self.queue)


class ReadOrder:
    """The order in which a runner reads its queues.

    Round-robin over the queues that have messages: each read begins behind the queue that gave
    some last.  A busy queue does not starve the others, and an empty one passes no extra turn to
    the queue behind it.
    """

    def __init__(self, sources: Sequence[QueueStreams]) -> None:
        self.sources = list(sources)
        self.streams = [stream for source in sources for stream in source.streams]
        #: The number of each stream, by which slots in the shared memory name it.
        self.numbers = {stream: number for number, stream in enumerate(self.streams)}
        #: Whether these are quarantine streams, which exist only while they hold messages.
        self.quarantine = any(source.quarantine for source in sources)
        #: Index of the queue with which the next read begins.
        self.first = 0
        #: For each stream, the index of the queue behind its own.
        self.next_first = {
            stream: index for index, source in enumerate(sources, 1) for stream in source.streams
        }
        #: Queues that are not read, as one of their keys is of the wrong type.
        self.skipped: set[str] = set()

    def skip(self, wrong_type: Sequence[str], key_of: Callable[[str], str]) -> None:
        """Skip the queues of these streams from now on, and read all others; log each change."""
        found = {stream.partition(":")[0]: stream for stream in wrong_type}
        for queue in found.keys() - self.skipped:
            key = key_of(found[queue])
            logger.error("%s is no stream: queue %s is not read until that is gone", key, queue)
        for queue in self.skipped - found.keys():
            logger.warning("queue %s is read again", queue)
        self.skipped = set(found)

    @property
    def readable(self) -> list[str]:
        """The streams to read: all but those of skipped queues."""
        if not self.skipped:
            return self.streams
        return [stream for source in self.wanted for stream in source.streams]

    @property
    def wanted(self) -> list[QueueStreams]:
        """The queues to read: all but the skipped ones."""
        return [source for source in self.sources if source.queue not in self.skipped]

    def groups(self, count: int) -> list[tuple[str, ...]]:
        """Groups of streams, each to be read by one command, until ``count`` messages are found.

        COUNT holds for each stream of a command, so that a command with two streams may bring
        twice as many.  That is harmless for many quick tasks, but not for a single slow one; and
        where levels are strict, each is read by itself.
        """
        groups: list[tuple[str, ...]] = []
        for source in self.sources[self.first :] + self.sources[: self.first]:
            if source.queue in self.skipped:
                continue
            if count > 1 and not source.levels:
                groups.append(source.streams)
            else:
                groups += [(stream,) for stream in source.streams]
        return groups

    def advance(self, stream: str) -> None:
        """Begin the next read behind the queue of this stream, which has given messages."""
        self.first = self.next_first[stream]
