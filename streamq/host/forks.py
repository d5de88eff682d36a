"""Noticing that this process has been forked, by whatever means, without asking the kernel."""

import mmap
import os
from typing import Protocol

#: Tells the kernel to give every child of a fork this memory as zeroes (Linux, since 4.14);
#: Python has no name for it.
WIPE_ON_FORK = 18


class Mark(Protocol):
    """One number that a child of a fork reads as 0 until it writes its own."""

    def __getitem__(self, at: int, /) -> int:
        """The number."""

    def __setitem__(self, at: int, number: int, /) -> None:
        """Write this process's own."""


class MarkByPid:
    """A mark for systems that wipe no memory: five times the cost.

    A child in a PID namespace of its own that has its parent's number is not noticed.
    """

    def __init__(self) -> None:
        self.written = (0, 0)

    def __getitem__(self, _: int) -> int:
        pid, number = self.written
        return number if pid == os.getpid() else 0

    def __setitem__(self, _: int, number: int) -> None:
        self.written = (os.getpid(), number)


def new_mark() -> Mark:
    """A mark in a page that the kernel wipes in each child, where it knows how to."""
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE)
        page.madvise(WIPE_ON_FORK)
    except (OSError, ValueError, AttributeError):
        return MarkByPid()
    return memoryview(page).cast("Q")


class Forks:
    """How many forks lie between this process and the one that imported this.

    Python's hooks do not hear of a fork in C, such as that of uWSGI or a library, and a process
    number may be the same in a child that has a PID namespace of its own.  The kernel wipes
    our page whoever forks; to look there costs half of ``os.getpid``, and a fifth where the mark
    itself is compared: 0 is nobody's number.  The copy of a whole
    machine is not noticed: in it connections die, and what must not be there twice is theirs.
    """

    def __init__(self, mark: Mark) -> None:
        self.mark = mark
        self.last = 0
        self.another()

    @property
    def count(self) -> int:
        """The number; it differs from that of every process before us."""
        return self.mark[0] or self.another()

    def another(self) -> int:
        """Count one more: this is a child.  Several threads may find that at once."""
        last = self.last  # what is written second is read first: so it is of the parent, or…
        if not self.mark[0]:  # …another thread has written both
            self.mark[0] = last + 1
        self.last = self.mark[0]
        return self.last


FORKS = Forks(new_mark())
