"""Controls of `tests/system/test_tick_faults.py`: its checker finds what is broken."""

import pytest

from tests.system.test_tick_faults import each_tick_is_sent_once


def test_without_the_comparison_two_send_one_moment(site, proxy):
    """Nor may the later ones wait, or look first, and the first task must have ended already.

    That is what hides it, most of the time.
    """
    site.changed_package("tick.lua", "if score ~= expected then", "if false then")
    site.changed_package("tick.lua", "generations().unended(id) --", "false --")
    scheduler = "streamq/worker/services/scheduler.py"
    site.changed_module(scheduler, "if self.position and found:", "if False:")
    site.changed_module(scheduler, "return min(self.position * STEP, LONGEST_STEP)", "return 0.0")

    with pytest.raises(AssertionError, match=r"\d twice"):
        each_tick_is_sent_once(site, proxy, 2, 5)
