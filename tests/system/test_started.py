"""Workers that are started as a user starts them, by exec: the others of the tests are forks."""

import os
import signal

import pytest

from tests.system.faults import TASKS

POOLS = {"prefork": ("-c", 2), "solo": ("-P", "solo"), "gevent": ("-P", "gevent", "-c", 5)}


@pytest.fixture(params=POOLS)
def started(request, site):
    """Start a worker of this pool by exec."""
    site.write(TASKS)
    return lambda *flags, **options: site.worker(
        *POOLS[request.param], *flags, forked=False, **options
    )


def test_it_runs_tasks_and_ends_in_good_order(started, site):
    worker = started()

    assert [each.get(timeout=20) for each in site.send_many("quick", 20)] == list(range(20))
    assert worker.stop() == 0
    assert "Traceback" not in worker.said


def test_it_begins_anew_in_the_same_process(started, site):
    worker = started()
    before = set(worker.runners())
    site.write(TASKS.replace("return number\n", "return -number\n"))
    os.utime(site.folder / "tasks.py", (0, 0))  # Python compiles what has another age

    worker.signal(signal.SIGHUP)

    site.until(lambda: worker.runners() and before.isdisjoint(worker.runners()), "new runners")
    assert site.send("quick", 7).get(timeout=20) == -7
    assert worker.stop() == 0


def test_it_ends_when_nothing_waits_any_more(started, site):
    results = site.send_many("quick", 10, queue="default")

    worker = started("--burst", ready=False)

    assert worker.wait() == 0
    assert [each.state for each in results] == ["SUCCESS"] * 10
