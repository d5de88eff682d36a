"""Whose turn it is to block on Redis: one idle runner of a worker at a time.

Each client that blocks on a stream costs the server time for every message.  The turn is a
lock on a file: the kernel passes it on in order, and frees it when its holder dies.
"""

import fcntl
import os
from pathlib import Path


class Interrupted(BaseException):
    """Raised by a signal handler to end the wait for the turn."""


class Turns:
    """The turn of one runner.  Each process opens the file itself: a lock is per opening."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self.waiting = False
        self.mine = False

    def take(self) -> bool:
        """Wait for the turn and keep it until ``pass_on``; False if a signal ended the wait."""
        if self.mine:
            return True
        try:
            self.waiting = True
            fcntl.flock(self.descriptor, fcntl.LOCK_EX)
            self.waiting = False
        except Interrupted:
            self.waiting = False
            fcntl.flock(self.descriptor, fcntl.LOCK_UN)
            return False
        self.mine = True
        return True

    def pass_on(self) -> None:
        """Let the next runner have the turn, if this one has it."""
        if self.mine:
            self.mine = False
            fcntl.flock(self.descriptor, fcntl.LOCK_UN)

    def interrupt(self) -> None:
        """End the wait, if there is one.  For signal handlers."""
        if self.waiting:
            self.waiting = False
            raise Interrupted
