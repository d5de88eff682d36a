"""Runs tests, and those that failed for want of time once more, alone.

    python -m tests.second_chance -n 4 tests/system

takes what pytest takes.  Tests with real processes, and those marked ``timing``, may fail on a
machine that was busy for a moment.  They are run again by themselves when the others have ended:
what passes then is told under ``flaky:`` with the words of its failure, and does not count.  What
fails twice has failed.  A broken invariant has no second chance: a test marked ``invariant``, one
outside the folders of real processes, and any that says that something was lost, ran twice or
leaked.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

#: Where tests start real processes.
FOLDERS = ("tests/promises/", "tests/system/")
#: How an assertion begins that shows a broken promise and not a slow machine.
TRUTH = re.compile(r"^E\s+AssertionError: (lost|twice|leaked)\b", re.M)
#: More failures than this have one cause, and it is not chance.
MOST = 12
#: Where the plugin writes down what failed.
PLACE = "STREAMQ_TEST_FAILURES"
#: pytest's exit code if tests have failed, and nothing else has gone wrong.
FAILED = 1


class Failures:
    """A plugin of pytest that writes down each failure, in the process that hears of all."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Write down a failure: which test, whether it may be run again, and what it said."""
        if report.failed:
            failure = {
                "test": report.nodeid,
                "chance": has_chance(report.nodeid, set(report.keywords), report.longreprtext),
                "said": report.longreprtext,
            }
            with self.path.open("a") as file:
                file.write(json.dumps(failure) + "\n")


def has_chance(test: str, marks: set[str], said: str) -> bool:
    """Whether a failure may be for want of time: by its place, its marks, and what it says."""
    if "invariant" in marks or TRUTH.search(said):
        return False
    return test.startswith(FOLDERS) or "timing" in marks


def pytest_configure(config: pytest.Config) -> None:
    """Listen where no other process tells us: not in the workers of a distributed run."""
    if (path := os.environ.get(PLACE)) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Failures(Path(path)))


def run(words: list[str], place: Path) -> tuple[int, list[dict[str, Any]]]:
    """Run pytest; its exit code, and the failures."""
    place.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-p", "tests.second_chance", *words]
    code = subprocess.run(command, env={**os.environ, PLACE: str(place)}).returncode
    lines = place.read_text().splitlines() if place.exists() else []
    return code, [json.loads(line) for line in lines]


def main(words: list[str]) -> int:
    """Run tests as this command line says; the exit code."""
    with tempfile.TemporaryDirectory(prefix="streamq-chance-") as folder:
        place = Path(folder) / "failures"
        code, failures = run(words, place)
        if code != FAILED or not failures:
            return code
        firm = [failure["test"] for failure in failures if not failure["chance"]]
        if firm or len(failures) > MOST:
            print(f"no second chance: {', '.join(firm) or f'{len(failures)} tests have failed'}")
            return code
        flaky = []
        for failure in failures:
            again, still = run(["-p", "no:xdist", failure["test"]], place)
            if again:
                print(f"failed twice: {failure['test']}")
                return again
            assert not still
            flaky.append(failure)
    print(f"\nflaky: {len(flaky)} failed once and passed alone")
    for failure in flaky:
        print(f"flaky: {failure['test']}\n{failure['said']}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
