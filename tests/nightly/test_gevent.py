"""Tens of thousands of greenlets."""

import pytest

from tests.system.test_gevent import overlap


@pytest.mark.timing
@pytest.mark.timeout(300)
def test_50_000_naps_run_500_at_a_time_in_each_of_two_processes(site):
    most, took = overlap(site, 50_000, 2, 500)

    assert all(450 <= number <= 500 for number in most.values())
    assert took < 50_000 / 1000 * 0.1 * 3
    site.at_rest()
