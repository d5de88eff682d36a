"""A test that failed for want of time is run again alone; a broken invariant is not."""

import json
import os
import subprocess
import sys

import pytest

from tests.edits import CHECKOUT
from tests.second_chance import PLACE, Records, has_chance

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
COMMAND = (sys.executable, "-m", "tests.second_chance", "-p", "no:cacheprovider")
ALWAYS = "def test_it():\n    assert 3.2 < 3\n"


@pytest.fixture
def chance(tmp_path):
    """Run tests through the second chance; the exit code, and what was printed."""

    def run(*texts, words=()):
        folder = tmp_path / "tests" / "system"
        folder.mkdir(parents=True)
        for name, text in zip(("one", "two"), texts, strict=False):
            (folder / f"test_{name}.py").write_text(text)
        (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = invariant: never again\n")
        env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        env.pop(PLACE, None)
        env["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        done = subprocess.run(
            [*COMMAND, *words, "tests/system"],
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
    ("then", "code"),
    [
        ("pytest.skip('not here')", 1),
        ("pytest.xfail('as ever')", 1),
        ("__import__('os')._exit(0)", 3),
    ],
)
def test_what_does_not_pass_the_second_time_has_failed(chance, then, code):
    text = ONCE.format(marks="", said="too slow")

    ended, told = chance(f"{text}    {then}\n")

    assert ended == code
    assert "failed twice: tests/system/test_one.py::test_it" in told


@pytest.mark.parametrize("end", ["os._exit(0)", "os._exit(1)", "pytest.exit('', returncode=0)"])
def test_a_run_that_ends_before_its_tests_has_failed(chance, end):
    late = f"import os, pytest\ndef test_end():\n    {end}\n" + ALWAYS

    code, told = chance(ONCE.format(marks="", said="too slow"), late)

    assert code != 0
    assert "the run ended before all its tests did" in told
    assert "flaky" not in told


def test_what_cannot_be_collected_has_failed_whatever_is_flaky(chance):
    flaky = ONCE.format(marks="", said="too slow")

    code, told = chance(flaky, "import nothing", words=["--continue-on-collection-errors"])

    assert code == 1
    assert "no second chance: tests/system/test_two.py" in told


def test_a_test_that_ends_its_process_has_failed(tmp_path):
    """What the plugin for several processes tells of it."""
    place = tmp_path / "failures"
    test = "tests/system/test_one.py::test_it"

    Records(place).pytest_runtest_logreport(
        pytest.TestReport(test, ("one", None, "one"), {}, "failed", "worker gw0 crashed", "???")
    )

    assert json.loads(place.read_text())["chance"] is False


@pytest.mark.parametrize(
    ("folder", "marks", "said", "has"),
    [
        ("tests/system", "", "assert 3.2 < 3", True),
        ("tests/promises", "", "AssertionError: still not so after 20 s", True),
        ("tests/unit", "timing", "assert 3.2 < 3", True),
        ("tests/unit", "", "assert 3.2 < 3", False),
        ("tests/model", "", "assert 3.2 < 3", False),
        ("tests/controls", "", "it is not missed", True),
        ("tests/guards", "", "Failed: its test does not fail: AssertionError: lost: [7]", True),
        ("tests/system", "invariant", "assert 3.2 < 3", False),
        ("tests/system", "", "AssertionError: lost: [7]", False),
        ("tests/system", "", "AssertionError: twice: [7]", False),
        ("tests/promises", "", "AssertionError: leaked: ['a']", False),
        ("tests/system", "", "AssertionError: task 7 ran twice", False),
        ("tests/system", "", "AssertionError: Lost: [7]", False),
        ("tests/system", "", "Failed: 3 messages are lost", False),
        ("tests/system", "", "RuntimeError: lost: [7]", False),
        ("tests/system", "", "| AssertionError: lost: [7]", False),
        (
            "tests/system",
            "",
            "AssertionError: still not so after 20 s: what was lost is back",
            True,
        ),
        ("tests/system", "", "streamq.errors.ResultTimeout: no result within 20 s", True),
    ],
)
def test_time_has_a_second_chance_and_truth_has_none(folder, marks, said, has):
    test = f"{folder}/test_one.py::test_it"

    assert has_chance(test, set(marks.split()), f">   assert x\nE   {said}") is has


@pytest.mark.parametrize(
    ("line", "said", "has"),
    [
        ("assert lost == []", "assert [7] == []", False),
        ("assert max(story.runs.values()) == 1", "AssertionError: assert 2 == 1", False),
        ("assert len(begun(site)) == 1", "assert 2 == 1", False),
        ("assert time.monotonic() - began < 3", "assert 3.2 < 3", True),
        (
            'assert site.send("twice", 2).get() == 4',
            "streamq.errors.ResultTimeout: no result",
            True,
        ),
        ("until(lambda: not lost)", "AssertionError: still not so after 20 s: all are back", True),
    ],
)
def test_an_assertion_about_what_is_lost_or_ran_has_none(line, said, has):
    assert has_chance("tests/system/test_one.py::test_it", set(), f">   {line}\nE   {said}") is has
