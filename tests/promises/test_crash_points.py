"""P4: one settlement, wherever the runner dies or its connection breaks."""

import pytest

from tests.system.test_crash_points import Scenario, all_is_in_order


@pytest.mark.parametrize("how", ["kill", "drop"])
def test_a_break_at_every_fifth_point_loses_and_doubles_nothing(site, how):
    scenario = Scenario(site)

    points = scenario.enumerate(how, first=1, step=5)

    assert points > 20
    all_is_in_order(site, scenario)
