"""What each runner is running, in memory that its supervisor shares.

The supervisor reads it when a runner has died, to know which messages were running; and
in between, to tell what the worker is busy with.  No Redis and no pipe is involved, so that
it costs a runner less than a microsecond and survives any death of it.
"""

import math
import mmap
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from streamq.host import clock

#: When the task started (monotonic ns, 0 for none), its hard time limit (seconds, 0 for none),
#: the number of its stream, its entry id.
SLOT = struct.Struct("<QdH38s")
SIZE = 64
#: The same as wide as a slot, to look at many.
EVERY = struct.Struct(f"{SLOT.format}{SIZE - SLOT.size}x")
#: Slots that a process of many tasks has beside those in which one runs.  They are taken in turn,
#: so that what has ended is seen until as many others have started: it may not be settled yet.
SPARE = 512
#: In each slot, behind that: the start of the task that is to be stopped, if one is.
STOP = 56
#: Per runner, before its slots: whether it has left in good order, how many tasks it ran,
#: whether its supervisor has handed back what it had not started, since when it waits for a
#: message in a read that ends by itself, since when it cannot reach Redis (monotonic ns), whether
#: it has started, and when a process of greenlets last gave a sign of life (monotonic ns).
HEAD = struct.Struct("<QQQQQQQ")
#: The first part of a slot.
SINCE = struct.Struct("<Q")
TAKEN, READS, AWAY, STARTED, BEAT = 16, 24, 32, 40, 48
#: How a runner says that it ends by itself.  An exit code would not do: tasks exit too.
LEFT, FENCED = 1, 2


@dataclass(frozen=True, slots=True)
class Occupied:
    """A slot in which a task runs."""

    stream: int
    entry: bytes
    since: float
    limit: float = 0.0
    slot: int = 0
    started: int = 0

    @property
    def overdue(self) -> float:
        """Seconds since its hard limit; negative before."""
        return overdue(self.since, self.limit)


def overdue(seconds: float, limit: float) -> float:
    """How far past its limit, 0 for none, is what has been running for so many seconds."""
    return seconds - limit if limit else -math.inf


class Slots:
    """The slots of one runner."""

    def __init__(self, memory: mmap.mmap, offset: int, count: int) -> None:
        self.memory = memory
        self.offset = offset
        self.first = offset + HEAD.size
        self.count = count

    def start(self, slot: int, stream: int, entry: bytes, hard: float = 0.0) -> int:
        """Say that a task starts, and how many seconds it may run; return when (monotonic ns)."""
        at, now = self.first + slot * SIZE, clock.monotonic_ns()
        SLOT.pack_into(self.memory, at, now, hard, stream, entry)
        return now

    def withdraw(self, slot: int) -> None:
        """Say that what was said to start here has not, and does not."""
        at = self.first + slot * SIZE
        self.memory[at : at + SLOT.size] = bytes(SLOT.size)

    def clear(self, slot: int) -> None:
        """Say that nothing runs in this slot."""
        SINCE.pack_into(self.memory, self.first + slot * SIZE, 0)

    def reads(self, on: bool) -> None:
        """Say that the runner waits for a message, or does not any more."""
        now = clock.monotonic_ns() if on else 0
        struct.pack_into("<Q", self.memory, self.offset + READS, now)

    @property
    def reading(self) -> float:
        """Seconds that the runner has been waiting for a message; 0 if it is not."""
        return self.elapsed(READS)

    def beats(self, on: bool) -> None:
        """Give a sign of life; or say that none is to be looked for."""
        now = clock.monotonic_ns() if on else 0
        struct.pack_into("<Q", self.memory, self.offset + BEAT, now)

    @property
    def silent(self) -> float:
        """Seconds since the last sign of life; 0 if none is to be looked for."""
        return self.elapsed(BEAT)

    def away(self, on: bool) -> None:
        """Say that the runner cannot reach Redis, or can again."""
        if not on or not self.cut_off:
            now = clock.monotonic_ns() if on else 0
            struct.pack_into("<Q", self.memory, self.offset + AWAY, now)

    @property
    def cut_off(self) -> float:
        """Seconds that the runner has been unable to reach Redis; 0 if it is not."""
        return self.elapsed(AWAY)

    def elapsed(self, at: int) -> float:
        (since,) = struct.unpack_from("<Q", self.memory, self.offset + at)
        return (clock.monotonic_ns() - since) / 1e9 if since else 0.0

    def ask_to_stop(self, slot: int, started: int) -> None:
        """Leave a mark: the task that started then in this slot is to be stopped."""
        struct.pack_into("<Q", self.memory, self.first + slot * SIZE + STOP, started)

    def asked_to_stop(self, slot: int) -> bool:
        """Whether the task that runs in this slot is to be stopped."""
        at = self.first + slot * SIZE
        return self.memory[at : at + 8] == self.memory[at + STOP : at + STOP + 8] != bytes(8)

    def arrive(self) -> None:
        """Say that the runner has started: all is imported, and it asks for its lease."""
        self.memory[self.offset + STARTED] = 1

    @property
    def arrived(self) -> bool:
        """Whether the runner has started."""
        return self.memory[self.offset + STARTED] != 0

    def leave(self, *, fenced: bool = False) -> None:
        """Say that the runner ends by itself: in good order, or because it was fenced."""
        struct.pack_into("<Q", self.memory, self.offset, FENCED if fenced else LEFT)

    @property
    def left(self) -> bool:
        """Whether the runner ended in good order."""
        return self.farewell == LEFT

    @property
    def fenced(self) -> bool:
        """Whether the runner ended because it had been declared dead."""
        return self.farewell == FENCED

    @property
    def farewell(self) -> int:
        return int(HEAD.unpack_from(self.memory, self.offset)[0])

    @property
    def ran(self) -> int:
        """How many tasks the runner has run."""
        return int(HEAD.unpack_from(self.memory, self.offset)[1])

    @ran.setter
    def ran(self, number: int) -> None:
        struct.pack_into("<Q", self.memory, self.offset + 8, number)

    def take_away(self) -> None:
        """Leave a mark: what the runner has not started is not its own any more."""
        self.memory[self.offset + TAKEN] = 1

    def taken_away(self) -> bool:
        """Whether the mark is there.  It is looked for after a start has been written down."""
        return self.memory[self.offset + TAKEN] != 0

    def notice(self) -> None:
        """Remove the mark."""
        self.memory[self.offset + TAKEN] = 0

    def running(self, past: float = -math.inf) -> list[Occupied]:
        """What runs; or only what is past its hard limit by so many seconds, negative for before.

        To look at all slots costs much less than to describe what is in them.
        """
        now, found = clock.monotonic_ns(), []
        for slot, (since, limit, stream, entry) in enumerate(self.contents()):
            if since:
                seconds = (now - since) / 1e9
                if overdue(seconds, limit) >= past:
                    name = entry.rstrip(b"\0")
                    found.append(Occupied(stream, name, seconds, limit, slot, since))
        return found

    def ended(self) -> list[Occupied]:
        """What ran last in each slot where nothing runs now: it may be still to be settled."""
        return [
            Occupied(stream, name, 0.0, slot=slot)
            for slot, (since, _, stream, entry) in enumerate(self.contents())
            if not since and (name := entry.rstrip(b"\0"))
        ]

    def noted(self) -> set[tuple[int, bytes]]:
        """Stream and entry of all that was started, unless it ended long ago."""
        return {(stream, entry.rstrip(b"\0")) for _, _, stream, entry in self.contents()}

    def contents(self) -> Iterator[tuple[int, float, int, bytes]]:
        """What is in each slot: start, hard limit, stream, entry id."""
        end = self.first + self.count * SIZE
        return EVERY.iter_unpack(self.memory[self.first : end])

    def reset(self) -> None:
        """Make it fit for a new runner."""
        end = self.first + self.count * SIZE
        self.memory[self.offset : end] = bytes(end - self.offset)


class Board:
    """The slots of all runners of a worker: a file, so that started processes can map it.

    Whoever has it open already gives its descriptor: the name may be gone.
    """

    def __init__(self, file: Path | int, runners: int, slots: int) -> None:
        self.slots = slots
        self.stride = HEAD.size + slots * SIZE
        if isinstance(file, int):
            descriptor = os.dup(file)
        else:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(descriptor, max(self.stride * runners, mmap.PAGESIZE))
            self.memory = mmap.mmap(descriptor, 0)
        finally:
            os.close(descriptor)

    def of(self, runner: int) -> Slots:
        """The slots of one runner, by its number."""
        return Slots(self.memory, runner * self.stride, self.slots)
