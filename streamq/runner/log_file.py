"""The log file of a worker: standard output and standard error lead to it, in every process.

So it has what tasks and libraries print, too.  ``logrotate`` may move it away: each process looks
before it writes a line whether the file of that name is still the one that it has open.
"""

import contextlib
import os

from streamq.errors import ConfigError

#: The descriptors of standard output and standard error.
OUTPUTS = (1, 2)
#: Names of these; opening one fails where it is a socket, as below systemd.
NAMED_OUTPUTS = {"/dev/stdout": 1, "/dev/stderr": 2}


class LogFile:
    """The log file of this process; ``path`` is empty if it has none."""

    def __init__(self) -> None:
        self.path = ""
        #: Device and inode of the file that is open.
        self.opened = (0, 0)

    def open(self, path: str) -> None:
        """Let standard output and standard error lead to this file from now on.

        Raises ConfigError if it cannot be written to.
        """
        path = os.path.abspath(path)
        if path in NAMED_OUTPUTS:
            for number in OUTPUTS:
                os.dup2(NAMED_OUTPUTS[path], number)
            return
        try:
            self.redirect(path)
        except OSError as error:
            raise ConfigError(
                f"cannot write the log file {path}: {error.strerror}",
                advice=["--logfile FILE, in a folder that is there and that this user may write"],
            ) from None
        self.path = path

    def inherit(self, path: str) -> None:
        """Note that standard error leads to this file already, or to none if it is empty."""
        self.path = path
        self.opened = identity(os.fstat(OUTPUTS[-1])) if path else (0, 0)

    def follow(self) -> None:
        """Open the file again if another one, or none, has its name now.

        Does nothing where a task lets standard error lead elsewhere.  Raises OSError.
        """
        if not self.path or identity(os.fstat(OUTPUTS[-1])) != self.opened:
            return
        with contextlib.suppress(FileNotFoundError):
            if identity(os.stat(self.path)) == self.opened:
                return
        self.redirect(self.path)

    def redirect(self, path: str) -> None:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        for number in OUTPUTS:
            os.dup2(file, number)
        self.opened = identity(os.fstat(file))
        os.close(file)


def identity(status: os.stat_result) -> tuple[int, int]:
    """Device and inode: which file it is."""
    return status.st_dev, status.st_ino


LOG_FILE = LogFile()
