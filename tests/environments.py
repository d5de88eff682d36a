"""Virtual environments for tests, with libraries that streamq's own does not have."""

import configparser
import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.edits import CHECKOUT

#: Kept from run to run, and left out by git.
CACHE = CHECKOUT / ".cache" / "environments"


def requirements_of(file: Path) -> list[str]:
    """The requirements in a requirements.txt."""
    lines = (line.partition("#")[0].strip() for line in file.read_text().splitlines())
    return [line for line in lines if line]


def our_requirements() -> list[str]:
    """What streamq itself needs, and the bundled server."""
    setup = configparser.ConfigParser()
    setup.read(CHECKOUT / "setup.cfg")
    needed = setup["options"]["install_requires"] + "\n" + setup["options.extras_require"]["server"]
    return [line.strip() for line in needed.splitlines() if line.strip()]


def environment(name: str, requirements: Iterable[str]) -> Path:
    """The Python of an environment with these requirements; made if it is not there yet.

    Skips the test, with the last words of pip, where they cannot be installed.
    """
    wanted = sorted(requirements)
    digest = hashlib.sha256("\n".join([sys.version, *wanted]).encode()).hexdigest()[:12]
    folder = CACHE / f"{name}-{digest}"
    python = folder / "bin" / "python"
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / ".ready").exists():
            make(folder, python, wanted)
    return python


def make(folder: Path, python: Path, wanted: list[str]) -> None:
    """Make an environment.  Skips the test where that is not possible."""
    for old in CACHE.glob(f"{folder.name.rpartition('-')[0]}-*"):
        shutil.rmtree(old)
    install = [python, "-m", "pip", "install", "--quiet", *wanted]
    for command in ([CHECKOUT / "scripts" / "make_venv", sys.executable, folder], install):
        ended = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, timeout=600, check=False
        )
        if ended.returncode:
            said = (ended.stderr or ended.stdout).strip().splitlines() or ["no word on why"]
            pytest.skip(f"{folder.name} cannot be installed here: {said[-1]}")
    (folder / ".ready").touch()
