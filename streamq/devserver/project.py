"""The folder ``.streamq`` of a project: the files of its bundled server."""

import hashlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from streamq.errors import BrokerUnavailable

#: The nearest folder upwards that has one of these is the project.
MARKERS = ("pyproject.toml", "streamq.toml", ".streamq")

#: The kernel takes 107 bytes for the path of a socket on Linux and 103 on macOS.
LONGEST_SOCKET = 100

#: Bytes above which the server's log is renamed at the next start.
LONGEST_LOG = 1_000_000


class NoServer(BrokerUnavailable):
    """A bundled server cannot run here; waiting does not help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRecord:
    """The contents of ``server.json``: the server that wrote the data, and its processes."""

    folder: str
    binary: str
    version: str
    socket: str
    pid: int | None = None
    keeper: int | None = None


@dataclass(frozen=True, slots=True)
class ProjectFolder:
    """The folder ``.streamq`` of one project."""

    folder: Path

    @classmethod
    def nearest(cls, start: Path) -> Self:
        """The project folder for a folder: of the nearest project upwards, else its own."""
        start = start.resolve()
        for folder in (start, *start.parents):
            # os.path.exists: a folder above may not be readable
            if any(os.path.exists(folder / mark) for mark in MARKERS):
                return cls(folder / ".streamq")
        return cls(start / ".streamq")

    @property
    def users_lock(self) -> Path:
        """The lock that all users hold shared, and a keeper that ends the server exclusively."""
        return self.folder / "users.lock"

    @property
    def starting_lock(self) -> Path:
        """The lock of the one process that starts or stops the server."""
        return self.folder / "starting.lock"

    @property
    def keeper_lock(self) -> Path:
        """The lock that the keeper holds as long as it lives."""
        return self.folder / "keeper.lock"

    @property
    def server_lock(self) -> Path:
        """The lock that the server holds as long as it lives: two would ruin the data."""
        return self.folder / "server.lock"

    @property
    def pin(self) -> Path:
        """The file that exists while the server is to run on without users."""
        return self.folder / "pinned"

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    @property
    def socket(self) -> Path:
        """The socket of the server: as recorded, else that of a new server."""
        record = self.record()
        return Path(record.socket) if record else self.new_socket()

    def new_socket(self) -> Path:
        """The socket of a new server: in this folder, unless that path is too long."""
        path = self.folder / "redis.sock"
        if len(os.fsencode(path)) <= LONGEST_SOCKET:
            return path
        name = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
        for above in (tempfile.gettempdir(), "/tmp"):
            path = Path(above, f"streamq-{os.getuid()}-{name}", "redis.sock")
            if len(os.fsencode(path)) <= LONGEST_SOCKET:
                break
        return path

    def make(self) -> None:
        """Create the folder for this user only, ignored by git.  Raises NoServer if that fails."""
        try:
            make_private(self.folder)
            if (folder := self.new_socket().parent) != self.folder:
                make_private(folder)
            ignore = self.folder / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n")
        except OSError as error:
            raise self.no_server(error) from error

    def check_owner(self) -> None:
        """Raise NoServer if the folder belongs to another user."""
        try:
            require_own(self.folder)
        except FileNotFoundError:
            pass  # not made yet
        except OSError as error:
            raise self.no_server(error) from error

    def no_server(self, error: OSError) -> NoServer:
        """The error for a folder that cannot be used."""
        return NoServer(
            f"no folder for a server of this project: {error.strerror}",
            known={"folder": error.filename or self.folder},
            advice=[
                "work in a folder that you may write to",
                "or use a server that runs already: export STREAMQ_URL=redis://host:6379",
            ],
        )

    def record(self) -> ServerRecord | None:
        """Read ``server.json``; None if this user never started a server here.

        For a folder that was copied or moved, only binary and version are kept: its socket and its
        processes belong to the original.
        """
        try:
            if self.folder.stat().st_uid != os.getuid():
                return None  # another user could name any program in it
            record = ServerRecord(**json.loads((self.folder / "server.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None
        if record.folder == str(self.folder):
            return record
        return ServerRecord(
            folder=str(self.folder),
            binary=record.binary,
            version=record.version,
            socket=str(self.new_socket()),
        )

    def write(self, record: ServerRecord) -> None:
        """Replace ``server.json`` atomically: readers see the old file or the new one."""
        draft = self.folder / f"server.json.{os.getpid()}"
        draft.write_text(json.dumps(asdict(record), indent=2) + "\n")
        draft.replace(self.folder / "server.json")

    def shorten_log(self) -> None:
        """Rename a log that is longer than ``LONGEST_LOG``; one earlier log is kept."""
        if self.log.exists() and self.log.stat().st_size > LONGEST_LOG:
            self.log.replace(self.log.with_suffix(".log.old"))

    def has_data(self) -> bool:
        return (self.folder / "appendonlydir").exists()


def make_private(folder: Path) -> None:
    """Create a folder for this user only.  Raises PermissionError if it is another user's."""
    folder.mkdir(mode=0o700, exist_ok=True)
    if require_own(folder).st_mode & 0o077:
        folder.chmod(0o700)


def require_own(folder: Path) -> os.stat_result:
    """The status of a folder of this user.  Raises PermissionError if it is another user's."""
    status = folder.lstat()
    if status.st_uid != os.getuid():
        raise PermissionError(1, "the folder belongs to another user", str(folder))
    return status
