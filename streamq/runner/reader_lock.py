"""The reader lock: one idle runner of a worker at a time blocks on Redis.

Each client that blocks on a stream costs the server time for every message.  The lock is on a
file and belongs to one process: the kernel frees it when its holder dies, even if processes that
a task has forked live on.

A task that blocks its whole process also keeps the lock from being released.  So the file holds a
number, the lock is on the byte at that offset, and a supervisor that increments the number breaks
the lock: the new one is free.
"""

import contextlib
import fcntl
import mmap
import os
from pathlib import Path

#: Bytes of the lock's number.
NUMBER = 4


class ReadInterrupted(BaseException):
    """Raised by a signal handler to end the wait for the lock."""


class ReaderLock:
    """The lock as one runner sees it.  A process opens the file once: closing it frees the lock.

    So does deleting this object, which closes the descriptor of the mapping.
    """

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(self.descriptor, NUMBER)
        #: The number in the file, read without a system call.
        self.memory = mmap.mmap(self.descriptor, NUMBER, prot=mmap.PROT_READ)
        self.waiting = False
        self.held = False
        #: The number of the lock that we last locked or tried to.
        self.number = 0

    def try_acquire(self) -> bool:
        """Take the lock if it is free, or keep it; return whether we hold it.  Never waits."""
        if self.held and self.number != int.from_bytes(self.memory):
            self.release()
        if not self.held:
            with contextlib.suppress(BlockingIOError):
                self.lock(fcntl.LOCK_EX | fcntl.LOCK_NB)
                self.held = True
        return self.held

    def acquire(self) -> bool:
        """Wait for the lock and hold it until ``release``; return False if interrupted."""
        try:
            self.waiting = True
            self.lock(fcntl.LOCK_EX)
            self.waiting = False
        except ReadInterrupted:
            self.waiting = False
            self.unlock()
            return False
        self.held = True
        return True

    def release(self) -> None:
        """Release the lock, if we hold it."""
        if self.held:
            self.held = False
            with contextlib.suppress(OSError):  # a task has closed the file, which frees the lock
                self.unlock()

    def interrupt(self) -> None:
        """End the wait for the lock, if there is one.  Called by a signal handler."""
        if self.waiting:
            self.waiting = False
            raise ReadInterrupted

    def lock(self, how: int) -> None:
        """Lock the byte of the current number.  Raises BlockingIOError with LOCK_NB."""
        self.number = int.from_bytes(self.memory)
        fcntl.lockf(self.descriptor, how, 1, self.number)

    def unlock(self) -> None:
        """Free all bytes that we have locked: also that of a broken lock."""
        fcntl.lockf(self.descriptor, fcntl.LOCK_UN)


def break_lock(path: Path) -> None:
    """Replace the lock by one that is free; runners that wait for the old one must be signalled.

    Only for a process that never takes the lock: closing the file would free it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.pwrite(descriptor, (number_in(descriptor) + 1).to_bytes(NUMBER), 0)
    finally:
        os.close(descriptor)


def number_in(descriptor: int) -> int:
    """The number in a lock file; 0 for one that was never written to."""
    return int.from_bytes(os.pread(descriptor, NUMBER, 0))
