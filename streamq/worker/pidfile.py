"""The pid file of a worker: it holds the number of its process, and is removed at its end.

It is locked for as long as the worker lives.  A number proves nothing: in a container that was
started again, it may be that of another process.
"""

import fcntl
import os
from contextlib import suppress

from streamq.errors import ConfigError
from streamq.runner.inherited import OWN


class PidFile:
    """The pid file of this process, which takes the place of one that a dead worker has left."""

    def __init__(self, path: str) -> None:
        """Write the file.  Raises ConfigError if a living worker has it, or it cannot be made."""
        self.path = os.path.abspath(path)
        try:
            self.descriptor = self.locked()
            os.ftruncate(self.descriptor, 0)
            os.pwrite(self.descriptor, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            raise ConfigError(
                f"another worker has the pid file {self.path}",
                known={"its pid": self.pid_in_file()},
                advice=["stop that one, or give this one a file of its own: --pidfile …/%n.pid"],
            ) from None
        except OSError as error:
            raise ConfigError(
                f"cannot write the pid file {self.path}: {error.strerror}",
                advice=["--pidfile FILE, in a folder that is there and that this user may write"],
            ) from None
        OWN.keep(self.descriptor)  # a child would keep the file locked

    def locked(self) -> int:
        """Open the file and lock it; return its descriptor.  Raises BlockingIOError."""
        while True:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)
                raise
            except OSError:
                return file  # nothing can be locked there
            with suppress(FileNotFoundError):
                if os.path.samestat(os.stat(self.path), os.fstat(file)):
                    return file
            os.close(file)  # the worker that had it has removed it meanwhile

    def pid_in_file(self) -> str:
        """The number in the file, as text; "unknown" if it cannot be read."""
        with suppress(OSError), open(self.path, errors="replace") as file:
            return file.read(20).strip() or "unknown"
        return "unknown"

    def remove(self) -> None:
        """Remove the file, unless another one has its name now."""
        with suppress(OSError):
            if os.path.samestat(os.stat(self.path), os.fstat(self.descriptor)):
                os.unlink(self.path)
        with suppress(OSError):
            os.close(self.descriptor)
