"""Controls of `tests/system/test_clocks.py`: what its tests must see is broken on purpose."""

import time

import pytest

from tests.system.test_clocks import (
    FLAGS,
    dies_as_the_clock_jumps_back,
    jump,
    on_time_and_once,
    shifted,  # noqa: F401 - a fixture
    ticks_with,
)
from tests.system.traffic import (
    LEASE,
    begun,
    runs_through,
)


def test_without_looking_at_the_clock_it_would(shifted, server):
    shifted.changed_module(
        "streamq/worker/lease_view.py",
        "abs(server - self.server - silence) > self.lease / 3",
        "False",
    )
    shifted.changed_package(
        "recover.lua", "if expected and math.abs(now - expected) > tolerance then", "if false then"
    )

    def jump_again_and_again():
        """One jump may come while an answer was slow, so that nobody may judge."""
        before = len(begun(shifted))
        for hours in range(1, 11):
            jump(shifted, hours)
            time.sleep(LEASE / 2)
            if len(begun(shifted)) > before:
                return

    with pytest.raises(AssertionError, match="twice: a"):
        runs_through(shifted, FLAGS, [server.url], jump_again_and_again)


def test_without_looking_whether_the_deadline_moves_they_would_live_for_long(shifted, server):
    shifted.changed_module(
        "streamq/worker/lease_view.py",
        "lease.end < server or now - first > JUDGE_AFTER * lease.length",
        "lease.end < server",
    )

    with pytest.raises(AssertionError, match="it runs again"):
        dies_as_the_clock_jumps_back(shifted, server)


@pytest.mark.parametrize("shift", [3600, -3600], ids=["ahead", "behind"])
def test_a_scheduler_that_believes_its_own_clock_is_found(site, shift):
    """Ahead it takes for missed what is still to come, behind it waits for an hour."""
    site.changed_module(
        "streamq/worker/services/scheduler.py",
        "return int(self.view.server_time(clock.monotonic()) * 1000)",
        "return int(clock.time() * 1000)",
    )

    with pytest.raises(AssertionError, match="ticks are sent"):
        on_time_and_once(ticks_with(site, shift))
