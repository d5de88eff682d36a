"""The folder of the files that the processes of one worker share.

Whoever tidies up a folder for temporary files removes what looks old or nobody's: the clock
of a machine that runs for weeks, a worker in another container with the same ``/tmp``.  So the
supervisor keeps the files open, and puts back what is gone.
"""

import logging
import os
import shutil
import tempfile
from pathlib import Path

logger = logging.getLogger("streamq.worker")

#: How the folders of workers are named, before the pid.
NAMED = "streamq-worker-"


class Workplace:
    """A folder, and its files: the slots of all runners, and the turn to read."""

    def __init__(self) -> None:
        remove_abandoned()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{NAMED}{os.getpid()}-"))
        self.slots, self.turn = self.folder / "slots", self.folder / "turn"
        self.opened = {
            path: os.open(path, os.O_RDWR | os.O_CREAT, 0o600) for path in (self.slots, self.turn)
        }

    def mend(self) -> None:
        """Put back what somebody has removed, for those who look for it next.

        What is put back leads to the files that the runners have: another file of that name
        would be one that nobody else looks at.
        """
        for path, descriptor in self.opened.items():
            if not is_same(path, descriptor):
                self.make_folder()
                path.unlink(missing_ok=True)
                path.symlink_to(f"/proc/{os.getpid()}/fd/{descriptor}")
                logger.warning("somebody has removed %s; it is put back", path)

    def make_folder(self) -> None:
        """Make the folder again, if it is gone; not in the place of somebody else's."""
        try:
            self.folder.mkdir(mode=0o700)
        except FileExistsError:
            if self.folder.lstat().st_uid != os.geteuid():
                raise

    def remove(self) -> None:
        """Remove it all; what cannot be removed stays."""
        shutil.rmtree(self.folder, ignore_errors=True)


def is_same(path: Path, descriptor: int) -> bool:
    """Whether this is the name of the file that we have open."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except OSError:
        return False


def remove_abandoned() -> None:
    """Remove the folders of workers that were killed: a folder's name holds its owner's pid."""
    for folder in Path(tempfile.gettempdir()).glob(f"{NAMED}*-*"):
        owner = folder.name.removeprefix(NAMED).partition("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists() and Path("/proc/self").exists():
            shutil.rmtree(folder, ignore_errors=True)
