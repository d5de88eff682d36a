"""Detection of forks of this process, also forks in C, without a system call."""

import mmap
import os
from typing import Protocol

#: The flag of madvise: the kernel zeroes this memory in every forked child (Linux 4.14 and later).
#: Python has no constant for it.
WIPE_ON_FORK = 18


class ForkMark(Protocol):
    """A number that a forked child reads as 0 until it writes its own."""

    def __getitem__(self, at: int, /) -> int:
        """The number."""

    def __setitem__(self, at: int, number: int, /) -> None:
        """Write the number of this process."""


class ForkMarkByPid:
    """A mark for systems without WIPE_ON_FORK: five times as slow.

    A child in its own PID namespace with the PID of its parent is not detected.
    """

    def __init__(self) -> None:
        self.written = (0, 0)

    def __getitem__(self, _: int) -> int:
        pid, number = self.written
        return number if pid == os.getpid() else 0

    def __setitem__(self, _: int, number: int) -> None:
        self.written = (os.getpid(), number)


def new_mark() -> ForkMark:
    """Make a mark in a page that the kernel wipes in each child, if it supports that."""
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE)
        page.madvise(WIPE_ON_FORK)
    except (OSError, ValueError, AttributeError):
        return ForkMarkByPid()
    return memoryview(page).cast("Q")


class Forks:
    """The number of forks between this process and the one that imported this module.

    Python's hooks do not run for a fork in C, such as that of uWSGI or a library, and a child in
    its own PID namespace may have the PID of its parent.  The kernel wipes our page on every
    fork; reading it costs half of ``os.getpid``, and comparing the mark itself a fifth: 0 is the
    number of no process.  The copy of a whole machine is not detected: its connections die, and
    everything that must be unique belongs to a connection.
    """

    def __init__(self, mark: ForkMark) -> None:
        self.mark = mark
        self.last = 0
        self.count_fork()

    @property
    def count(self) -> int:
        """The number; it differs from that of every ancestor process."""
        return self.mark[0] or self.count_fork()

    def count_fork(self) -> int:
        """Count one more fork: this is a child.  Several threads may do so at once."""
        last = self.last  # read before the mark, written after it: the parent's, or…
        if not self.mark[0]:  # …another thread has written both
            self.mark[0] = last + 1
        self.last = self.mark[0]
        return self.last


FORKS = Forks(new_mark())
