"""The work directory: the folder of the files that the processes of one worker share.

Programs that tidy up folders for temporary files may remove it.  So the supervisor keeps the files
open, and restores what is gone.  It also locks its folder (``flock``), which shows to other
workers, in any container with the same ``/tmp``, that the folder is in use.
"""

import fcntl
import logging
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from streamq.errors import ConfigError
from streamq.runner.inherited import OWN

logger = logging.getLogger("streamq.worker")

#: How the names of folders begin: of workers, before the pid; and while they are not locked yet.
PREFIX, UNLOCKED_PREFIX = "streamq-worker-at-", "streamq-new-"
#: Where folders are made if nothing else can be written to: in memory, as the files are small.
MEMORY = Path("/dev/shm")


class WorkDir:
    """The work directory of one worker: the shared memory of its runners, and their reader lock."""

    def __init__(self) -> None:
        for parent in parent_folders():
            remove_abandoned(parent)
        self.folder, self.lock = new_folder()
        self.slots, self.reader_lock = self.folder / "slots", self.folder / "reader-lock"
        self.opened = {
            path: os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            for path in (self.slots, self.reader_lock)
        }
        OWN.keep(self.lock, *self.opened.values())  # a child would keep the folder locked

    def repair(self) -> None:
        """Restore files that were removed, for the runners that start next.

        Each is restored as a link to the file that the running ones have open: with a new file they
        would share nothing.
        """
        for path, descriptor in self.opened.items():
            if not is_same(path, descriptor):
                self.make_folder()
                path.unlink(missing_ok=True)
                # The pid is taken from /proc, which may show another namespace than ours.
                path.symlink_to(f"/proc/{os.readlink('/proc/self')}/fd/{descriptor}")
                logger.warning("%s was removed; it is restored", path)

    def make_folder(self) -> None:
        """Make the folder again if it is gone.  Raises FileExistsError if another user has it."""
        try:
            self.folder.mkdir(mode=0o700, parents=True)
        except FileExistsError:
            if self.folder.lstat().st_uid != os.geteuid():
                raise
        if not is_same(self.folder, self.lock):
            before, self.lock = self.lock, locked(self.folder)
            os.close(before)
            OWN.keep(self.lock)

    def remove(self) -> None:
        """Remove the folder and its files; what cannot be removed stays."""
        shutil.rmtree(self.folder, ignore_errors=True)


def is_same(path: Path, descriptor: int) -> bool:
    """Whether this path leads to the file that is open under this descriptor."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except OSError:
        return False


def parent_folders() -> list[Path]:
    """The folders in which those of workers may be, the first choice first."""
    try:
        return [Path(tempfile.gettempdir()), MEMORY]
    except FileNotFoundError:  # no usual one can be written to
        return [MEMORY]


def new_folder() -> tuple[Path, int]:
    """Make a folder for this user alone; return it, and the descriptor that has it locked.

    It gets its final name after it is locked: no worker takes it for an abandoned one in between.
    Raises ConfigError if there is no place for it.
    """
    tried: dict[str, object] = {}
    for parent in parent_folders():
        try:
            draft = Path(tempfile.mkdtemp(prefix=UNLOCKED_PREFIX, dir=parent))
            descriptor = locked(draft)
            suffix = draft.name.removeprefix(UNLOCKED_PREFIX)
            return draft.rename(parent / f"{PREFIX}{os.getpid()}-{suffix}"), descriptor
        except OSError as error:
            tried[str(parent)] = error.strerror
    raise ConfigError(
        "no folder for temporary files can be written to",
        known={"tried": f"$TMPDIR, /tmp, /var/tmp, /usr/tmp, this folder, {MEMORY}", **tried},
        advice=["set TMPDIR to a folder that this user may write to", "docker run --tmpfs /tmp"],
    )


def locked(folder: Path) -> int:
    """Lock a folder; return the descriptor to keep open for as long as the lock is to last."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:
        pass  # nothing can be locked there, so no worker takes it for an abandoned one
    return descriptor


def remove_abandoned(parent: Path) -> None:
    """Remove the folders of workers that were killed: those that are not locked.

    The pid in a name proves nothing: it may be that of a process in another container.
    """
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):  # it is locked, or another user's, or gone meanwhile
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_uid == os.geteuid():
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)
