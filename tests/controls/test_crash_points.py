"""Controls of `tests/system/test_crash_points.py`: what its tests must see is broken on purpose."""

import pytest

from tests.system.test_crash_points import Scenario


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("how", "file", "line", "instead"),
    [
        (
            "kill",
            "scripts/lua/recover.lua",
            "    hand_back(stream, entry, fields)\n    moved = moved + 1\n  elseif ran_alone",
            "    ack_and_delete(stream, entry)\n    moved = moved + 1\n  elseif ran_alone",
        ),
        (
            "drop",
            "streamq/runner/prefetch.py",
            "if self.broken or monotonic",
            "if False and monotonic",
        ),
    ],
    ids=["messages of the dead are dropped", "answers that were lost are not looked for"],
)
def test_the_enumeration_finds_what_would_lose_a_task(site, how, file, line, instead):
    site.changed_module(file, line, instead)
    scenario = Scenario(site)

    def enumerate_often():
        for _ in range(10):  # which answer holds a message is chance
            scenario.enumerate(how)

    with pytest.raises(AssertionError):
        enumerate_often()
