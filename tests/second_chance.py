"""Runs tests, and those that failed for want of time once more, alone.

    python -m tests.second_chance -n 4 tests/system

takes what pytest takes.  Tests with real processes, and those marked ``timing``, may fail on a
machine that was busy for a moment.  They are run again by themselves when the others have ended:
what passes then is told under ``flaky:`` with the words of its failure, and does not count.  What
fails twice has failed.  A broken invariant has no second chance: a test marked ``invariant``, one
outside the folders of real processes, and any that says that something was lost, ran twice or
leaked.  Neither has a file that cannot be collected, nor a test that ends its process; and a run
that ended before all its tests did has failed, whatever exit code it has.
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
#: Tests that show that another test fails without a guard: one run that fails is enough for that,
#: so they may be run again whatever they said.
CONTROLS = ("tests/controls/", "tests/guards/")
#: What a message begins with that shows a broken promise and not a slow machine.
BROKEN = re.compile(r"^[E|\s]*[\w.]+: (?:lost|twice|doubled|leaked)\b", re.M | re.I)
#: An assertion that says so in its message or its line, or counts what has begun.
WORDS = r"(?:lost|twice|doubled|duplicates?|leak(?:s|ed)?)"
SAYS = re.compile(rf"^[E|\s]*(?:AssertionError|Failed): (?!still not so).*\b{WORDS}\b", re.M | re.I)
ASKS = re.compile(rf"^>\s+assert\b.*\b(?:{WORDS}|begun|runs)\b", re.M | re.I)
COMPARED = re.compile(r"^E\s+(?:AssertionError: (?!still not so)|assert )", re.M)
#: What is done with a test; anything else is told of one whose process has ended.
PHASES = ("setup", "call", "teardown")
#: More failures than this have one cause, and it is not chance.
MOST = 12
#: Where the plugin writes down what failed.
PLACE = "STREAMQ_TEST_FAILURES"
#: pytest's exit code if tests have failed, and nothing else has gone wrong.
FAILED = 1
#: Ours, if it says that all is well and has not run all.
CUT_SHORT = 3


class Records:
    """A plugin of pytest that writes down what failed and how all ended, where all is heard of."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.told: set[str] = set()
        self.passed: set[str] = set()

    def write(self, record: dict[str, Any]) -> None:
        """Add a line."""
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Write down a failure: which test, whether it may be run again, and what it said."""
        self.told.add(report.nodeid)
        if report.when == "call" and report.passed:
            self.passed.add(report.nodeid)
        if report.failed:
            said = report.longreprtext
            marks = set(report.keywords)
            chance = report.when in PHASES and has_chance(report.nodeid, marks, said)
            self.write({"test": report.nodeid, "chance": chance, "said": said})

    def pytest_collectreport(self, report: Any) -> None:
        """Write down what could not be collected."""
        if report.failed:
            self.write({"test": report.nodeid, "chance": False, "said": report.longreprtext})

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write down how many tests there were, how many have ended, and how many passed."""
        done = {"told": len(self.told), "passed": len(self.passed)}
        self.write({"tests": session.testscollected, **done})


def has_chance(test: str, marks: set[str], said: str) -> bool:
    """Whether a failure may be for want of time: by its place, its marks, and what it says."""
    if test.startswith(CONTROLS):
        return True
    if "invariant" in marks or BROKEN.search(said) or SAYS.search(said):
        return False
    if ASKS.search(said) and COMPARED.search(said):
        return False
    return test.startswith(FOLDERS) or "timing" in marks


def pytest_configure(config: pytest.Config) -> None:
    """Listen where no other process tells us: not in the workers of a distributed run."""
    if (path := os.environ.get(PLACE)) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Records(Path(path)))


def run(words: list[str], place: Path) -> tuple[int, list[dict[str, Any]], int]:
    """Run pytest; its exit code, the failures, and how many tests passed."""
    place.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-p", "tests.second_chance", *words]
    code = subprocess.run(command, env={**os.environ, PLACE: str(place)}).returncode
    lines = place.read_text().splitlines() if place.exists() else []
    records = [json.loads(line) for line in lines]
    failures = [record for record in records if "test" in record]
    ends = [record for record in records if "tests" in record]
    if code not in (0, FAILED):
        return code, failures, 0
    if not ends or ends[-1]["told"] < ends[-1]["tests"]:
        print("no second chance: the run ended before all its tests did", flush=True)
        return code or CUT_SHORT, [], 0
    return code, failures, ends[-1]["passed"]


def main(words: list[str]) -> int:
    """Run tests as this command line says; the exit code."""
    with tempfile.TemporaryDirectory(prefix="streamq-chance-") as folder:
        place = Path(folder) / "failures"
        code, failures, _ = run(words, place)
        if code != FAILED or not failures:
            return code
        firm = [failure["test"] for failure in failures if not failure["chance"]]
        if firm or len(failures) > MOST:
            print(f"no second chance: {', '.join(firm) or f'{len(failures)} tests have failed'}")
            return code
        flaky = []
        for failure in failures:
            again, _, passed = run(["-p", "no:xdist", failure["test"]], place)
            if again or not passed:  # what is skipped now has not passed
                print(f"failed twice: {failure['test']}")
                return again or FAILED
            flaky.append(failure)
    print(f"\nflaky: {len(flaky)} failed once and passed alone")
    for failure in flaky:
        print(f"flaky: {failure['test']}\n{failure['said']}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
