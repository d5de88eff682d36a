"""A hundred thousand tasks for later."""

import pytest

from tests.system.faults import LEASE, MARGIN
from tests.system.test_schedule import (
    all_due_together,
    one_of_two_dies,
    two,  # noqa: F401 - a fixture
)


@pytest.mark.timing
@pytest.mark.timeout(300)
def test_100_000_tasks_over_a_minute_run_on_time_although_a_worker_dies(two):
    late, runs = one_of_two_dies(two, 100_000, seconds=62.0, pool=("-c", 2))

    assert set(runs) == set(range(100_000))
    extra = sum(runs.values()) - 100_000
    assert extra <= 4, "what the dead worker was running runs again, and nothing else"
    late.sort()
    assert late[int(0.99 * len(late))] <= 0.25
    assert late[-1] <= LEASE + MARGIN
    two.at_rest()


@pytest.mark.timing
@pytest.mark.timeout(300)
def test_what_falls_due_together_keeps_nobody_waiting_for_long(two):
    all_due_together(two, 100_000)
