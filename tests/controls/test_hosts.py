"""Controls of `tests/system/test_hosts.py`: what its tests must see is broken on purpose."""

import pytest

from tests.system.faults import (
    without_fences,
)
from tests.system.test_hosts import (
    host_dies_beside_another,
    long_task_beside_a_dying_host,
    race,
    restart_on_the_same_host,
    short,  # noqa: F401 - a fixture
)


def test_the_check_finds_that_nobody_watches_over_the_others(short):
    short.changed_module(
        "streamq/worker/services/takeover.py",
        "if self.views.by_length[others[consumer].length].is_reliable(now)",
        "if False",
    )

    with pytest.raises(AssertionError, match="all run again"):
        host_dies_beside_another(short, 2, pool=("-c", 2))


def test_the_check_finds_leases_that_are_not_renewed(short):
    renewal = "redis.call('ZADD', key_of('leases'), 'XX', now + lease_ms, ARGV[i])"

    _, times = long_task_beside_a_dying_host(short, change=("renew.lua", renewal, ""))

    assert times > 1


def test_the_check_finds_a_worker_that_waits_for_the_lease_of_its_predecessor(site):
    site.changed_module("streamq/worker/services/takeover.py", "if died_here(consumer)", "if False")

    with pytest.raises(AssertionError, match="it runs again"):
        restart_on_the_same_host(site, seconds=10)


def test_the_check_finds_settlements_that_are_not_fenced(short):
    without_fences(short)

    _, states, values = race(short, ("-c", 2), 2)

    assert "SUCCESS" in states
    assert [number for number, who in values if who == "loser"]
