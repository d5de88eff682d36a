"""Chaos for ten seconds, and a check that its controls fit the code.

``make chaos SECONDS=600 SEED=7`` runs it for longer.
"""

import json
import subprocess
import sys

import pytest

from tests.chaos.checker import RULES
from tests.chaos.controls import CONTROLS
from tests.chaos.deployment import SHIFTED_CLOCK
from tests.edits import CHECKOUT, copy_checkout


def chaos(*words, seconds):
    """Run chaos as a program of its own; return its verdict, and whether it exited with 0."""
    command = [sys.executable, "-m", "tests.chaos.run", *map(str, words)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=seconds)
    print(done.stdout[-30_000:], done.stderr[-5_000:])  # shown if the test fails
    assert done.stdout.startswith("seed "), done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.returncode == 0


def nothing_was_broken(verdict):
    assert {rule.__name__: verdict[rule.__name__] for rule in RULES} == {
        rule.__name__: 0 for rule in RULES
    }


def test_ten_seconds_of_chaos_break_no_promise():
    verdict, good = chaos("--seconds", 10, "--seed", 4, "--profile", "smoke", seconds=110)

    nothing_was_broken(verdict)
    assert good
    assert verdict["accepted"] > 350  # of which 300 only measured the machine
    assert verdict["faults"] >= 4


@pytest.mark.parametrize("name", CONTROLS)
def test_the_guard_that_a_control_takes_away_is_there(name, tmp_path):
    copy_checkout(tmp_path / "package", [SHIFTED_CLOCK, *CONTROLS[name].edits])
