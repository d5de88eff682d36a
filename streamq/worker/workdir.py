"""The folder of the files that the processes of one worker share.

Whoever tidies up a folder for temporary files removes what looks old or nobody's.  So the
supervisor locks its folder (``flock``), which tells other workers, in whatever container with
the same ``/tmp``, that it is in use; and it keeps the files open, and puts back what is gone.
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

#: How the folders of workers are named, before the pid; and before they are locked.
NAMED, UNLOCKED = "streamq-worker-at-", "streamq-new-"
#: Where folders are made if there is no other place: in memory, as the files are small.
MEMORY = Path("/dev/shm")


class Workplace:
    """A folder, and its files: the slots of all runners, and the turn to read."""

    def __init__(self) -> None:
        for place in places():
            remove_abandoned(place)
        self.folder, self.lock = new_folder()
        self.slots, self.turn = self.folder / "slots", self.folder / "turn"
        self.opened = {
            path: os.open(path, os.O_RDWR | os.O_CREAT, 0o600) for path in (self.slots, self.turn)
        }
        OWN.keep(self.lock, *self.opened.values())  # a child would keep the folder locked

    def mend(self) -> None:
        """Put back what somebody has removed, for those who look for it next.

        What is put back leads to the files that the runners have: another file of that name
        would be one that nobody else looks at.
        """
        for path, descriptor in self.opened.items():
            if not is_same(path, descriptor):
                self.make_folder()
                path.unlink(missing_ok=True)
                # Our number is the one that /proc has for us: it may be another namespace's.
                path.symlink_to(f"/proc/{os.readlink('/proc/self')}/fd/{descriptor}")
                logger.warning("somebody has removed %s; it is put back", path)

    def make_folder(self) -> None:
        """Make the folder again, if it is gone; not in the place of somebody else's."""
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
        """Remove it all; what cannot be removed stays."""
        shutil.rmtree(self.folder, ignore_errors=True)


def is_same(path: Path, descriptor: int) -> bool:
    """Whether this is the name of the file that we have open."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except OSError:
        return False


def places() -> list[Path]:
    """Where folders of workers may be, the first choice first."""
    try:
        return [Path(tempfile.gettempdir()), MEMORY]
    except FileNotFoundError:  # none of the usual ones can be written to
        return [MEMORY]


def new_folder() -> tuple[Path, int]:
    """Make a folder for this user alone; return it, and the descriptor that has it locked.

    It gets its name when it is locked: nobody takes it for an abandoned one in between.
    """
    tried: dict[str, object] = {}
    for place in places():
        try:
            draft = Path(tempfile.mkdtemp(prefix=UNLOCKED, dir=place))
            descriptor = locked(draft)
            chance = draft.name.removeprefix(UNLOCKED)
            return draft.rename(place / f"{NAMED}{os.getpid()}-{chance}"), descriptor
        except OSError as error:
            tried[str(place)] = error.strerror
    raise ConfigError(
        "no folder for temporary files can be written to",
        known={"tried": f"$TMPDIR, /tmp, /var/tmp, /usr/tmp, this folder, {MEMORY}", **tried},
        advice=["set TMPDIR to a folder that this user may write to", "docker run --tmpfs /tmp"],
    )


def locked(folder: Path) -> int:
    """Lock a folder; a descriptor to hold for as long as the lock is to last."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:
        pass  # nobody can lock anything there, so that nobody takes it for an abandoned one
    return descriptor


def remove_abandoned(place: Path) -> None:
    """Remove the folders of workers that were killed: those that nobody has locked.

    A number in a name says nothing: it may be that of a process in another container.
    """
    for folder in place.glob(f"{NAMED}*"):
        with suppress(OSError):  # it is locked, or another user's, or gone meanwhile
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_uid == os.geteuid():
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)
