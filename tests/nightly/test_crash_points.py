"""Every single point of a fixed scenario: the runner dies there, or its connection breaks."""

import pytest

from tests.system.test_crash_points import Scenario, all_is_in_order


@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", ["kill", "drop"])
def test_a_break_at_every_single_point_loses_and_doubles_nothing(site, how):
    scenario = Scenario(site)

    points = scenario.enumerate(how)

    assert points > 20
    all_is_in_order(site, scenario)
