"""A guard of the product: what stands in the code, and the test that must miss it."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
#: What a run of tests needs of the checkout.
PARTS = ("streamq", "scripts", "tests", "examples", "setup.cfg", "pyproject.toml")

#: A line of the product, and what stands there instead: (file, line, instead).
Edit = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Guard:
    """What is taken away, the rows of the fault matrix it is there for, and who sees it missing."""

    name: str
    rows: tuple[str, ...]
    test: str
    #: A pattern of what the test then says.
    says: str
    edits: tuple[Edit, ...]


def guard(name: str, rows: str, test: str, says: str, *edits: Edit) -> Guard:
    """A guard; ``rows`` as in "A4 B7"."""
    return Guard(name, tuple(rows.split()), test, says, edits)


@contextmanager
def changed_checkout(edits: tuple[Edit, ...]) -> Iterator[Path]:
    """A copy of the checkout in which some lines are others."""
    with tempfile.TemporaryDirectory(prefix="streamq-guard-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        for part in PARTS:
            copy = shutil.copytree if (CHECKOUT / part).is_dir() else shutil.copy2
            copy(CHECKOUT / part, folder / part)
        for file, line, instead in edits:
            path = folder / file
            path.write_text(path.read_text().replace(line, instead))
        yield folder


def run(folder: Path, test: str, *, seconds: float) -> subprocess.CompletedProcess[str]:
    """Run one test of a copy, in a process of its own."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--tb=short"]
    return subprocess.run(
        [*command, f"--basetemp={folder / 'tmp'}", f"--timeout={seconds}", test],
        cwd=folder,
        env={**dict(surroundings()), "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=seconds + 60,
    )


def surroundings(environ: Mapping[str, str] = os.environ) -> Iterator[tuple[str, str]]:
    """The environment without what the run of tests around us has put there."""
    return ((name, value) for name, value in environ.items() if not name.startswith("PYTEST"))


def complaint(output: str) -> str:
    """The lines in which pytest says what was wrong."""
    return "\n".join(re.findall(r"^E   .*", output, re.M))
