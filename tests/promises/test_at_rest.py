"""P10: nothing leaks."""

import time

import pytest

from tests.system.test_shutdown import flags  # noqa: F401 - a fixture


@pytest.mark.parametrize("acks_late", [True, False], ids=["late", "early"])
def test_a_worker_that_is_stopped_under_load_leaves_everything_in_order(site, flags, acks_late):
    site.write(
        """
        @app.task
        def work(number):
            note(number)
            return number
        """
    )
    count = 1000
    results = site.send_many("work", count, acks_late=acks_late)
    for _ in range(2):
        worker = site.worker(*flags)
        time.sleep(0.05)
        assert worker.stop() == 0
        assert (site.pending(), site.consumers()) == (0, set())
    site.worker(*flags)

    assert [each.get(timeout=20) for each in results] == list(range(count))
    assert sorted(map(int, site.notes())) == list(range(count))
    site.at_rest()
