"""A guard of the product: lines of the code, and the test that must fail without them."""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.edits import PACKAGE, Edit, copy_checkout
from tests.zygote import PYTEST, Forked

#: The parts of the checkout that a run of tests needs.
PARTS = (*PACKAGE, "tests", "examples", "setup.cfg", "pyproject.toml")


@dataclass(frozen=True, slots=True)
class Guard:
    """A guard: its rows in the fault matrix, the edits that remove it, the test that fails then."""

    name: str
    rows: tuple[str, ...]
    test: str
    #: A pattern that the failure of the test must match.
    says: str
    edits: tuple[Edit, ...]


def guard(name: str, rows: str, test: str, says: str, *edits: Edit) -> Guard:
    """A guard; ``rows`` as in "A4 B7"."""
    return Guard(name, tuple(rows.split()), test, says, edits)


@contextmanager
def changed_checkout(edits: tuple[Edit, ...]) -> Iterator[Path]:
    """A copy of the checkout with some lines changed."""
    with tempfile.TemporaryDirectory(prefix="streamq-guard-", ignore_cleanup_errors=True) as name:
        copy_checkout(Path(name), edits, parts=PARTS)
        yield Path(name)


def run(folder: Path, *tests: str, seconds: float) -> subprocess.CompletedProcess[str]:
    """Run tests of a copy in a process of its own, for at most so many seconds each."""
    words = ["-p", "no:cacheprovider", "-p", "no:xdist", "--tb=short"]
    words += [f"--basetemp={folder / 'tmp'}", f"--timeout={seconds}", *tests]
    # without the variables of the surrounding run
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    env["PYTHONPATH"] = str(folder)
    with Forked(
        *(PYTEST, "pytest", words),
        cwd=folder,
        env=env,
        text=True,
        **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE},
    ) as process:
        try:
            out, err = process.communicate(timeout=seconds + 60)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def complaint(output: str) -> str:
    """The lines of the output in which pytest describes failures."""
    return "\n".join(re.findall(r"^E   .*", output, re.M))
