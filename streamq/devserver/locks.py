"""Locks on files, which the kernel gives up for whoever dies holding them."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streamq.host import clock

#: Seconds between two looks at a lock that somebody else holds for a moment.
PAUSE = 0.01


def opened(path: Path) -> int:
    """A descriptor to lock with; programs started from here do not inherit it."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def lock_alone(descriptor: int) -> bool:
    """Take the lock for this holder only, if nobody has it."""
    return _lock(descriptor, fcntl.LOCK_EX)


def lock_shared(descriptor: int) -> bool:
    """Take the lock together with others, if nobody has it alone."""
    return _lock(descriptor, fcntl.LOCK_SH)


def unlock(descriptor: int) -> None:
    """Give the lock up, also on behalf of a child that was forked meanwhile."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)


def is_held(path: Path) -> bool:
    """Whether a living process has the lock for itself alone."""
    if not path.exists():
        return False
    descriptor = opened(path)
    try:
        if not lock_shared(descriptor):
            return True
        unlock(descriptor)
        return False
    finally:
        os.close(descriptor)


@contextmanager
def attempt(path: Path) -> Iterator[bool]:
    """Hold the lock alone inside the block if it is free; says whether it was."""
    descriptor = opened(path)
    try:
        taken = lock_alone(descriptor)
        try:
            yield taken
        finally:
            if taken:
                unlock(descriptor)
    finally:
        os.close(descriptor)


def wait_until_free(*paths: Path, timeout: float) -> bool:
    """Wait until nobody holds any of these locks alone; False if that takes too long."""
    deadline = clock.monotonic() + timeout
    while any(is_held(path) for path in paths):
        if clock.monotonic() > deadline:
            return False
        time.sleep(PAUSE)
    return True


def is_same_file(descriptor: int, path: Path) -> bool:
    """Whether the descriptor still is the file at this path, not a deleted one."""
    try:
        there, here = os.stat(path), os.fstat(descriptor)
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
