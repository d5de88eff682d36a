"""Controls of `tests/system/test_revoked.py`: what its tests must see is broken on purpose."""

import time

import pytest

from tests.system.faults import letters
from tests.system.test_revoked import TASKS, old_and_new_side_by_side, roll_out


def test_the_check_finds_expiry_that_nobody_asks_for(site):
    site.changed_package(
        "check_start.lua", "elseif expires and expires <= now then", "elseif false then"
    )
    site.write(TASKS)
    site.app.declare([])
    site.worker("-c", 1, "-Q", "elsewhere")
    result = site.send("quick", 1, expires=0.1, queue="default")
    time.sleep(0.2)
    site.worker("-c", 1)

    assert result.get(timeout=5) == 1


def test_the_check_finds_a_termination_that_nobody_carries_out(site):
    stop = "self.stop(*runs[run], name, self.ids[run][1])"
    site.changed_module("streamq/worker/services/revocations.py", stop, "pass")
    site.write(TASKS)
    site.worker("-c", 1)
    result = site.send("hold", 1)
    site.until(lambda: result.state == "STARTED")

    result.revoke(terminate=True)

    with pytest.raises(AssertionError):
        site.until(result.ready, seconds=3)


def test_the_check_finds_letters_of_tasks_that_a_living_worker_has(site):
    site.changed_package("follow.lua", "if about[2] and", "if false and")

    _, results = old_and_new_side_by_side(site)

    site.drained()
    assert len(letters(site)) == sum(each.state == "FAILURE" for each in results) > 0


def test_the_check_finds_unknown_tasks_that_are_dead_lettered_at_once(site):
    _, result = roll_out(site, patience="0s")

    assert (result.state, letters(site)) == ("FAILURE", [result.id])
