"""The controls of chaos: with a guard missing, the run is found out.

Chance decides what runs when something is broken: where one seed hits nothing, as on a slow
machine, another one does.
"""

import pytest

from tests.chaos.controls import CONTROLS
from tests.chaos.test_chaos import chaos

SEEDS = (5, 6, 7, 8)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", CONTROLS)
def test_a_guard_that_is_missing_is_found_out(name):
    seen = False
    for seed in SEEDS:
        verdict, good = chaos("--control", name, "--seed", seed, "--profile", "smoke", seconds=140)
        seen = any(verdict[rule] for rule in CONTROLS[name].seen_by)
        if seen:
            break

    assert seen
    assert not verdict["ok"]
    assert good  # as a control: the program says so too
