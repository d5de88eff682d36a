"""File locks (flock), which the kernel releases when the process that holds them dies."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streamq.host import clock

#: Seconds between two tries to take a lock that is held for a short time.
PAUSE = 0.01


def open_lock(path: Path) -> int:
    """Open a lock file.  Returns a descriptor, which started programs do not inherit."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def lock_alone(descriptor: int) -> bool:
    """Take the lock exclusively if it is free.  Returns whether it was."""
    return _lock(descriptor, fcntl.LOCK_EX)


def lock_shared(descriptor: int) -> bool:
    """Take the lock shared if nobody holds it exclusively.  Returns whether it was taken."""
    return _lock(descriptor, fcntl.LOCK_SH)


def unlock(descriptor: int) -> None:
    """Release the lock, also for children that were forked since it was taken."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock exclusively."""
    if not path.exists():
        return False
    descriptor = open_lock(path)
    try:
        if not lock_shared(descriptor):
            return True
        unlock(descriptor)
        return False
    finally:
        os.close(descriptor)


@contextmanager
def held_if_free(path: Path) -> Iterator[bool]:
    """Hold the lock exclusively inside the block if it is free; yields whether it was."""
    descriptor = open_lock(path)
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
    """Wait until nobody holds any of these locks exclusively; False after ``timeout`` seconds."""
    deadline = clock.monotonic() + timeout
    while any(is_held(path) for path in paths):
        if clock.monotonic() > deadline:
            return False
        time.sleep(PAUSE)
    return True


def is_same_file(descriptor: int, path: Path) -> bool:
    """Whether the descriptor is of the file at this path, and not of a deleted one."""
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
