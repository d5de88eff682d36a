"""Controls of `tests/system/test_schedule.py`: what its tests must see is broken on purpose."""

from tests.system.test_schedule import (
    later,
    two,  # noqa: F401 - a fixture
)


def test_the_check_finds_tasks_that_are_moved_without_being_removed(two):
    two.changed_package("promote.lua", "  drop_scheduled(name)\n", "")

    two.worker("-c", 2)
    later(two, 20, first=0.1, last=0.2)

    two.until(lambda: len(two.notes()) > 40, "they run again and again")
