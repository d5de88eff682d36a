"""P11: a task ends at its limit."""

from streamq.errors import SoftTimeLimitExceeded
from tests.system.test_limits import (
    over,
    worker,  # noqa: F401 - a fixture
)


def test_a_soft_limit_is_raised_inside_the_task_and_may_be_caught(site, worker):
    runners = worker.runners()

    caught = site.send("caught")
    assert caught.get(timeout=5) == "tidied up"
    over(site.send("soft"), SoftTimeLimitExceeded, within=5)

    assert site.send("plain", 0).get(timeout=5)[0] == 1
    assert worker.runners() == runners
    site.at_rest()
