"""P4: what follows a run is one act with its end."""

from datetime import UTC, datetime, timedelta

from tests.system.test_retries import (
    gaps,
    served,  # noqa: F401 - a fixture
    tries,
)


def test_a_task_is_tried_again_as_the_same_task(served):
    expires = datetime.now(UTC) + timedelta(hours=1)
    result = served.send("again", 2, headers={"tenant": "a", "n": 1}, expires=expires)

    served.until(lambda: result.state == "RETRY")
    assert served.states([result]) == [("RETRY", "tasks.Flaky")]

    id, retries, headers, queue, until, deliveries = result.get(timeout=10)
    assert (id, retries, headers, queue) == (result.id, 2, {"tenant": "a", "n": 1}, "default")
    assert (deliveries, until[:16]) == (1, str(expires)[:16])
    moments = tries(served, result)
    assert len(moments) == 3
    assert all(0.2 <= gap < 0.8 for gap in gaps(moments))
    served.at_rest()
