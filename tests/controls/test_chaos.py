"""The controls of chaos: with a guard missing, the run is found out."""

import pytest

from tests.chaos.controls import CONTROLS
from tests.chaos.test_chaos import chaos


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", CONTROLS)
def test_a_guard_that_is_missing_is_found_out(name):
    verdict, good = chaos("--control", name, "--seed", 5, "--profile", "smoke", seconds=280)

    assert any(verdict[rule] for rule in CONTROLS[name].seen_by)
    assert not verdict["ok"]
    assert good  # as a control: the program says so too
