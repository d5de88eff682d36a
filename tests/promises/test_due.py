"""P7: time belongs to Redis."""

import time
from datetime import UTC, datetime, timedelta

from tests.system.test_schedule import two  # noqa: F401 - a fixture


def test_a_task_runs_when_it_is_due_and_not_before(two):
    two.worker("-c", 2)
    began = time.time()

    results = [
        two.send("when", countdown=0.5),
        two.send("when", eta=datetime.now(UTC) + timedelta(seconds=0.5)),
        two.send("when", countdown="500ms"),
    ]
    assert [each.state for each in results] == ["SCHEDULED"] * 3

    for result in results:
        assert 0.5 <= result.get(timeout=5) - began < 1.5
    two.at_rest()
