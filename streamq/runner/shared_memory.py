"""Shared memory in which each runner notes which tasks it runs, for its supervisor to read.

When a runner has died, the supervisor reads which messages were running; before that, what the
worker is busy with.  Neither Redis nor a pipe is involved, so that a note costs a runner less than
a microsecond and survives any death of the runner.
"""

import math
import mmap
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from streamq.host import clock

#: A slot: start of the task (monotonic ns, 0 for none), its hard limit (seconds, 0 for none), the
#: number of its stream, its entry id.
SLOT = struct.Struct("<QdH38s")
SIZE = 64
#: The same with padding up to ``SIZE``, to unpack many slots at once.
EVERY = struct.Struct(f"{SLOT.format}{SIZE - SLOT.size}x")
#: Slots that a greenlet pool has beyond its concurrency.  Slots are taken in turn, so that a task
#: that has ended is visible until so many others have started: it may not be settled yet.
SPARE = 512
#: Offset in each slot of the stop request: the start of the task that is to be stopped.
STOP = 56
#: Per runner, before its slots: how it exited, how many tasks it ran, the taken mark (its unstarted
#: messages were handed back by another thread or process), since when it waits for a message in a
#: blocking read, since when it cannot reach Redis, whether it is ready, and the last heartbeat of
#: the hub of a greenlet pool (moments in monotonic ns, 0 for none).
HEAD = struct.Struct("<QQQQQQQ")
#: The start of the task, first in a slot.
SINCE = struct.Struct("<Q")
#: Offsets of the third and following of these.
TAKEN, READING, UNREACHABLE, READY, ALIVE = 16, 24, 32, 40, 48
#: How a runner exited by itself.  An exit code is no proof: tasks exit too.
CLEAN, FENCED = 1, 2


@dataclass(frozen=True, slots=True)
class RunningTask:
    """A task in a slot: its message, and for how long it has been running.

    ``stream`` is the number of its stream; ``since`` and ``limit`` are in seconds, ``started`` is a
    moment (monotonic ns).
    """

    stream: int
    entry: bytes
    since: float
    limit: float = 0.0
    slot: int = 0
    started: int = 0

    @property
    def overdue(self) -> float:
        """Seconds since its hard limit passed; negative before."""
        return overdue(self.since, self.limit)


def overdue(seconds: float, limit: float) -> float:
    """Seconds by which a task that has run for ``seconds`` is past its limit (0: no limit)."""
    return seconds - limit if limit else -math.inf


class RunnerSlots:
    """The slots of one runner, and its notes beside them."""

    def __init__(self, memory: mmap.mmap, offset: int, count: int) -> None:
        self.memory = memory
        self.offset = offset
        self.first = offset + HEAD.size
        self.count = count

    def note_start(self, slot: int, stream: int, entry: bytes, hard: float = 0.0) -> int:
        """Note that a task with this hard limit (s) starts; return the moment (monotonic ns)."""
        at, now = self.first + slot * SIZE, clock.monotonic_ns()
        SLOT.pack_into(self.memory, at, now, hard, stream, entry)
        return now

    def cancel_start(self, slot: int) -> None:
        """Erase a noted start: the task did not and will not start."""
        at = self.first + slot * SIZE
        self.memory[at : at + SLOT.size] = bytes(SLOT.size)

    def clear(self, slot: int) -> None:
        """Note that the task in this slot has ended."""
        SINCE.pack_into(self.memory, self.first + slot * SIZE, 0)

    def note_reading(self, on: bool) -> None:
        """Note that the runner is in a blocking read, or no longer."""
        now = clock.monotonic_ns() if on else 0
        struct.pack_into("<Q", self.memory, self.offset + READING, now)

    @property
    def reading(self) -> float:
        """Seconds that the runner has been in a blocking read; 0 if it is in none."""
        return self.elapsed(READING)

    def note_alive(self, on: bool) -> None:
        """Note a heartbeat of the hub; or, with False, that none is expected."""
        now = clock.monotonic_ns() if on else 0
        struct.pack_into("<Q", self.memory, self.offset + ALIVE, now)

    @property
    def silent(self) -> float:
        """Seconds since the last heartbeat of the hub; 0 if none is expected."""
        return self.elapsed(ALIVE)

    def note_unreachable(self, on: bool) -> None:
        """Note that the runner cannot reach Redis, or can again."""
        if not on or not self.unreachable:
            now = clock.monotonic_ns() if on else 0
            struct.pack_into("<Q", self.memory, self.offset + UNREACHABLE, now)

    @property
    def unreachable(self) -> float:
        """Seconds that the runner has been unable to reach Redis; 0 if it reaches it."""
        return self.elapsed(UNREACHABLE)

    def elapsed(self, at: int) -> float:
        (since,) = struct.unpack_from("<Q", self.memory, self.offset + at)
        return (clock.monotonic_ns() - since) / 1e9 if since else 0.0

    def request_stop(self, slot: int, started: int) -> None:
        """Request a stop of the task that started at this moment in this slot."""
        struct.pack_into("<Q", self.memory, self.first + slot * SIZE + STOP, started)

    def stop_requested(self, slot: int) -> bool:
        """Whether a stop was requested of the task that runs in this slot."""
        at = self.first + slot * SIZE
        return self.memory[at : at + 8] == self.memory[at + STOP : at + STOP + 8] != bytes(8)

    def note_ready(self) -> None:
        """Note that the runner is ready: all is imported, and it takes its lease next."""
        self.memory[self.offset + READY] = 1

    @property
    def ready(self) -> bool:
        """Whether the runner was ready to take its lease."""
        return self.memory[self.offset + READY] != 0

    def note_exit(self, *, fenced: bool = False) -> None:
        """Note that the runner exits by itself: cleanly, or because it was fenced."""
        struct.pack_into("<Q", self.memory, self.offset, FENCED if fenced else CLEAN)

    @property
    def exited_cleanly(self) -> bool:
        """Whether the runner exited by itself, cleanly."""
        return self.exit_kind == CLEAN

    @property
    def fenced(self) -> bool:
        """Whether the runner exited because it was fenced."""
        return self.exit_kind == FENCED

    @property
    def exit_kind(self) -> int:
        """``CLEAN`` or ``FENCED``; 0 if the runner has not exited by itself."""
        return int(HEAD.unpack_from(self.memory, self.offset)[0])

    @property
    def ran(self) -> int:
        """The number of tasks that the runner has run."""
        return int(HEAD.unpack_from(self.memory, self.offset)[1])

    @ran.setter
    def ran(self, number: int) -> None:
        struct.pack_into("<Q", self.memory, self.offset + 8, number)

    def mark_taken(self) -> None:
        """Set the taken mark: messages that the runner has not started are no longer its own."""
        self.memory[self.offset + TAKEN] = 1

    def is_taken(self) -> bool:
        """Whether the taken mark is set; the runner asks after each start that it has noted."""
        return self.memory[self.offset + TAKEN] != 0

    def clear_taken(self) -> None:
        """Clear the taken mark."""
        self.memory[self.offset + TAKEN] = 0

    def running(self, past: float = -math.inf) -> list[RunningTask]:
        """The running tasks; or those past their hard limit by ``past`` seconds (negative: before).

        Reading all slots costs much less than making a ``RunningTask`` of each.
        """
        now, found = clock.monotonic_ns(), []
        for slot, (since, limit, stream, entry) in enumerate(self.contents()):
            if since:
                seconds = (now - since) / 1e9
                if overdue(seconds, limit) >= past:
                    name = entry.rstrip(b"\0")
                    found.append(RunningTask(stream, name, seconds, limit, slot, since))
        return found

    def ended(self) -> list[RunningTask]:
        """The last task of each slot in which none runs: it may not be settled yet."""
        return [
            RunningTask(stream, name, 0.0, slot=slot)
            for slot, (since, _, stream, entry) in enumerate(self.contents())
            if not since and (name := entry.rstrip(b"\0"))
        ]

    def started_entries(self) -> set[tuple[int, bytes]]:
        """Stream number and entry of all started tasks, except those that ended long ago."""
        return {(stream, entry.rstrip(b"\0")) for _, _, stream, entry in self.contents()}

    def contents(self) -> Iterator[tuple[int, float, int, bytes]]:
        """The content of each slot: start, hard limit, stream number, entry id."""
        end = self.first + self.count * SIZE
        return EVERY.iter_unpack(self.memory[self.first : end])

    def reset(self) -> None:
        """Erase everything, for a new runner."""
        end = self.first + self.count * SIZE
        self.memory[self.offset : end] = bytes(end - self.offset)


class SharedMemory:
    """The slots of all runners of a worker: a file, which started processes can map.

    ``file`` is its path, or a descriptor of the open file, which may have been unlinked.
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

    def of(self, runner: int) -> RunnerSlots:
        """The slots of one runner, by its number."""
        return RunnerSlots(self.memory, runner * self.stride, self.slots)
