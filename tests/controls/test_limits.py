"""Controls of `tests/system/test_limits.py`: what its tests must see is broken on purpose."""

import pytest

import streamq
from tests.system.test_limits import TASKS, busy_beside_others


def test_the_check_finds_neighbours_that_are_charged(site):
    site.changed_module(
        "streamq/worker/services/crash_recovery.py",
        "killed = stopped or child.kill_reason or forced_ends",
        "killed = stopped",
    )

    assert busy_beside_others(site) == [2] * 5


def test_the_check_finds_limits_that_nobody_looks_at(site):
    site.changed_module(
        "streamq/worker/services/hard_limits.py",
        "running(past=grace_of(child))",
        "running(past=float('inf'))",
    )
    site.write(TASKS)
    site.worker("-c", 1)
    result = site.send("hard")

    with pytest.raises(streamq.ResultTimeout):
        result.get(timeout=2)
