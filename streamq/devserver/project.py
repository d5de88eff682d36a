"""The folder of a project's own server: what lies where in ``.streamq``."""

import hashlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from streamq.errors import BrokerUnavailable

#: A project is the nearest folder upwards that has one of these.
MARKS = ("pyproject.toml", "streamq.toml", ".streamq")

#: The kernel takes 107 bytes for the path of a socket on Linux and 103 on macOS.
LONGEST_SOCKET = 100

#: Bytes after which the server's log is put aside at the next start.
LONGEST_LOG = 1_000_000


class Unusable(BrokerUnavailable):
    """No server of ours can be had here, however long one waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What ``server.json`` keeps: which server this data belongs to, and who runs it now."""

    folder: str
    binary: str
    version: str
    socket: str
    pid: int | None = None
    keeper: int | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """One project's ``.streamq``."""

    folder: Path

    @classmethod
    def near(cls, start: Path) -> Self:
        """The place of the project that this folder belongs to."""
        start = start.resolve()
        for folder in (start, *start.parents):
            # a folder above may be one that we may not look into
            if any(os.path.exists(folder / mark) for mark in MARKS):
                return cls(folder / ".streamq")
        return cls(start / ".streamq")

    @property
    def users(self) -> Path:
        """Held together by all who use the server, alone by a keeper that ends it."""
        return self.folder / "users.lock"

    @property
    def starting(self) -> Path:
        """Held by the one process that starts or stops the server."""
        return self.folder / "starting.lock"

    @property
    def keeping(self) -> Path:
        """Held by the keeper for as long as it lives."""
        return self.folder / "keeper.lock"

    @property
    def serving(self) -> Path:
        """Held by the server for as long as it lives: two would ruin the data."""
        return self.folder / "server.lock"

    @property
    def pin(self) -> Path:
        """There while the server is to outlive its users."""
        return self.folder / "pinned"

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    @property
    def socket(self) -> Path:
        """Where the server listens: as recorded, else as a new one would."""
        record = self.record()
        return Path(record.socket) if record else self.new_socket()

    def new_socket(self) -> Path:
        """In the folder itself, unless that path is too long for a socket."""
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
        """Create what is missing, for this user alone and invisible to git."""
        try:
            private(self.folder)
            if (folder := self.new_socket().parent) != self.folder:
                private(folder)
            ignore = self.folder / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n")
        except OSError as error:
            raise self.unusable(error) from error

    def check_owner(self) -> None:
        """Raise BrokerUnavailable if this is another user's: nothing can be said of it then."""
        try:
            refuse_others(self.folder)
        except FileNotFoundError:
            pass  # nobody's yet
        except OSError as error:
            raise self.unusable(error) from error

    def unusable(self, error: OSError) -> Unusable:
        """Say that no server can be had here, and why."""
        return Unusable(
            f"no folder for a server of this project: {error.strerror}",
            known={"folder": error.filename or self.folder},
            advice=[
                "work in a folder that you may write to",
                "or use a server that runs already: export STREAMQ_URL=redis://host:6379",
            ],
        )

    def record(self) -> Record | None:
        """What ``server.json`` says; None if this user never started anything here.

        Of a folder that was copied or moved only the engine is of use: its socket and
        process belong to the original.
        """
        try:
            if self.folder.stat().st_uid != os.getuid():
                return None  # another user's server could make us run anything
            record = Record(**json.loads((self.folder / "server.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None
        if record.folder == str(self.folder):
            return record
        return Record(
            folder=str(self.folder),
            binary=record.binary,
            version=record.version,
            socket=str(self.new_socket()),
        )

    def write(self, record: Record) -> None:
        """Replace ``server.json`` in one act: a reader sees the old or the new."""
        draft = self.folder / f"server.json.{os.getpid()}"
        draft.write_text(json.dumps(asdict(record), indent=2) + "\n")
        draft.replace(self.folder / "server.json")

    def shorten_log(self) -> None:
        """Keep one earlier log when this one has grown."""
        if self.log.exists() and self.log.stat().st_size > LONGEST_LOG:
            self.log.replace(self.log.with_suffix(".log.old"))

    def has_data(self) -> bool:
        return (self.folder / "appendonlydir").exists()


def private(folder: Path) -> None:
    """Make the folder this user's own, or refuse one that is somebody else's."""
    folder.mkdir(mode=0o700, exist_ok=True)
    if refuse_others(folder).st_mode & 0o077:
        folder.chmod(0o700)


def refuse_others(folder: Path) -> os.stat_result:
    """What the system knows of a folder of this user's.  Raises PermissionError if it is not."""
    status = folder.lstat()
    if status.st_uid != os.getuid():
        raise PermissionError(1, "the folder belongs to another user", str(folder))
    return status
