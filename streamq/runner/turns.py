"""Whose turn it is to block on Redis: one idle runner of a worker at a time.

Each client that blocks on a stream costs the server time for every message.  The turn is a
lock on a file that belongs to one process: the kernel frees it when its holder dies, even
if processes that a task has forked live on.
"""

import contextlib
import fcntl
import os
from pathlib import Path


class Interrupted(BaseException):
    """Raised by a signal handler to end the wait for the turn."""


class Turns:
    """The turn of one runner.  A process opens the file once: closing it frees the lock."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self.waiting = False
        self.mine = False
        self.skipped = False

    def take_at_once(self) -> bool:
        """Take the turn if nobody has it."""
        with contextlib.suppress(BlockingIOError):
            if not self.mine:
                fcntl.lockf(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.mine = True
        return self.mine

    def take(self) -> bool:
        """Wait for the turn and keep it until ``pass_on``; False if a signal ended the wait.

        True, without the turn, after ``skip``.
        """
        try:
            self.waiting = True
            fcntl.lockf(self.descriptor, fcntl.LOCK_EX)
            self.waiting = False
        except Interrupted:
            self.waiting = False
            fcntl.lockf(self.descriptor, fcntl.LOCK_UN)
            skipped, self.skipped = self.skipped, False
            return skipped
        self.mine = True
        return True

    def pass_on(self) -> None:
        """Let the next runner have the turn, if this one has it."""
        if self.mine:
            self.mine = False
            with contextlib.suppress(OSError):  # who closes the file frees the lock
                fcntl.lockf(self.descriptor, fcntl.LOCK_UN)

    def skip(self) -> None:
        """Go on without the turn, once: its holder may be unable to pass it on."""
        if self.waiting:
            self.skipped = True
        self.interrupt()

    def interrupt(self) -> None:
        """End the wait, if there is one.  For signal handlers."""
        if self.waiting:
            self.waiting = False
            raise Interrupted
