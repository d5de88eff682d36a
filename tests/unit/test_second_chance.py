"""A test that failed for want of time is run again alone; a broken invariant is not."""

import os
import subprocess
import sys

import pytest

from tests.edits import CHECKOUT
from tests.second_chance import PLACE, has_chance

#: Fails at its first run, and says this.
ONCE = """
import pytest
from pathlib import Path

MARK = Path(__file__).with_name("ran")
{marks}
def test_it():
    first = not MARK.exists()
    MARK.touch()
    assert not first, "{said}"
"""
ALWAYS = "def test_it():\n    assert 3.2 < 3\n"


@pytest.fixture
def chance(tmp_path):
    """Run one test through the second chance; the exit code, and what was printed."""

    def run(text):
        file = tmp_path / "tests" / "system" / "test_one.py"
        file.parent.mkdir(parents=True)
        file.write_text(text)
        (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = invariant: never again\n")
        env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        env.pop(PLACE, None)
        env["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        done = subprocess.run(
            [sys.executable, "-m", "tests.second_chance", "-p", "no:cacheprovider", "tests/system"],
            cwd=tmp_path,
            env={**env, "PYTHONPATH": str(CHECKOUT)},
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout + done.stderr

    return run


def test_what_passes_the_second_time_is_told_as_flaky(chance):
    code, said = chance(ONCE.format(marks="", said="too slow"))

    assert code == 0, said
    assert "flaky: tests/system/test_one.py::test_it" in said
    assert "too slow" in said.partition("flaky:")[2]


def test_what_fails_twice_has_failed(chance):
    code, said = chance(ALWAYS)

    assert code == 1
    assert "failed twice: tests/system/test_one.py::test_it" in said


def test_a_broken_invariant_is_not_run_again(chance):
    code, told = chance(ONCE.format(marks="@pytest.mark.invariant", said="too slow"))

    assert code == 1
    assert "no second chance: tests/system/test_one.py::test_it" in told


@pytest.mark.parametrize(
    ("folder", "marks", "said", "has"),
    [
        ("tests/system", "", "assert 3.2 < 3", True),
        ("tests/promises", "", "AssertionError: still not so after 20 s", True),
        ("tests/unit", "timing", "assert 3.2 < 3", True),
        ("tests/unit", "", "assert 3.2 < 3", False),
        ("tests/model", "", "assert 3.2 < 3", False),
        ("tests/controls", "", "it is not missed", False),
        ("tests/system", "invariant", "assert 3.2 < 3", False),
        ("tests/system", "", "AssertionError: lost: [7]", False),
        ("tests/system", "", "AssertionError: twice: [7]", False),
        ("tests/promises", "", "AssertionError: leaked: ['a']", False),
    ],
)
def test_time_has_a_second_chance_and_truth_has_none(folder, marks, said, has):
    test = f"{folder}/test_one.py::test_it"

    assert has_chance(test, set(marks.split()), f">   assert x\nE   {said}") is has
