"""The controls of chaos: with a guard missing, the checker must find a broken rule.

Which task a fault hits depends on the machine: where one seed hits none, another one is tried.
"""

import pytest

from tests.chaos.controls import CONTROLS
from tests.chaos.test_chaos import chaos

SEEDS = (5, 6, 7, 8)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", CONTROLS)
def test_a_missing_guard_is_detected(name):
    seen = False
    for seed in SEEDS:
        verdict, good = chaos("--control", name, "--seed", seed, "--profile", "smoke", seconds=140)
        seen = any(verdict[rule] for rule in CONTROLS[name].seen_by)
        if seen:
            break

    assert seen
    assert not verdict["ok"]
    assert good  # as a control: the program says so too
