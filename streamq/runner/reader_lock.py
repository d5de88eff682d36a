"""Whose turn it is to block on Redis: one idle runner of a worker at a time.

Each client that blocks on a stream costs the server time for every message.  The turn is a
lock on a file that belongs to one process: the kernel frees it when its holder dies, even
if processes that a task has forked live on.

A task that lets nothing else run in its process keeps the turn from being passed on.  So the
file holds a number, the lock is on the byte of that number, and the supervisor who counts
one on makes a turn that nobody has.
"""

import contextlib
import fcntl
import mmap
import os
from pathlib import Path

#: Bytes of the number of the turn.
NUMBER = 4


class Interrupted(BaseException):
    """Raised by a signal handler to end the wait for the turn."""


class Turns:
    """The turn of one runner.  A process opens the file once: closing it frees the lock.

    So does forgetting this object, which closes the descriptor that the mapping has.
    """

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(self.descriptor, NUMBER)
        #: The number, to be read without asking the kernel.
        self.memory = mmap.mmap(self.descriptor, NUMBER, prot=mmap.PROT_READ)
        self.waiting = False
        self.mine = False
        self.number = 0

    def take_at_once(self) -> bool:
        """Take the turn if nobody has it, or keep it."""
        if self.mine and self.number != int.from_bytes(self.memory):
            self.pass_on()
        if not self.mine:
            with contextlib.suppress(BlockingIOError):
                self.lock(fcntl.LOCK_EX | fcntl.LOCK_NB)
                self.mine = True
        return self.mine

    def take(self) -> bool:
        """Wait for the turn and keep it until ``pass_on``; False if a signal ended the wait."""
        try:
            self.waiting = True
            self.lock(fcntl.LOCK_EX)
            self.waiting = False
        except Interrupted:
            self.waiting = False
            self.unlock()
            return False
        self.mine = True
        return True

    def pass_on(self) -> None:
        """Let the next runner have the turn, if this one has it."""
        if self.mine:
            self.mine = False
            with contextlib.suppress(OSError):  # who closes the file frees the lock
                self.unlock()

    def interrupt(self) -> None:
        """End the wait, if there is one.  For signal handlers."""
        if self.waiting:
            self.waiting = False
            raise Interrupted

    def lock(self, how: int) -> None:
        self.number = int.from_bytes(self.memory)
        fcntl.lockf(self.descriptor, how, 1, self.number)

    def unlock(self) -> None:
        """Free whatever we have: it may be a turn of before."""
        fcntl.lockf(self.descriptor, fcntl.LOCK_UN)


def make_anew(path: Path) -> None:
    """Make a turn that nobody has; who waits for the one before is to be told.

    For a process that never has the turn.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.pwrite(descriptor, (number_in(descriptor) + 1).to_bytes(NUMBER), 0)
    finally:
        os.close(descriptor)


def number_in(descriptor: int) -> int:
    """The number of the turn; 0 for a file that nobody has written to."""
    return int.from_bytes(os.pread(descriptor, NUMBER, 0))
