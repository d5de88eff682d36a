"""A whole worker dies beside a long backlog."""

import time

import pytest

from tests.system.faults import (
    LEASE,
    MARGIN,
    begun,
    kill_host,
)
from tests.system.test_hosts import (
    LONG_ONE,
    held_again,
    short,  # noqa: F401 - a fixture
    watched_for_long_enough,
)


@pytest.mark.timeout(300)
def test_tasks_of_a_killed_host_run_again_before_a_backlog_of_100_000(short):
    doomed = short.worker("-P", "gevent", "-c", 200, "-n", "doomed")
    results = short.send_many("hold", 200)
    short.until(lambda: len(begun(short)) == 200)
    backlog = short.app.enqueue_many(
        short.app.signature("tasks.last", (1000 + number, 0.004)) for number in range(100_000)
    )
    watched_for_long_enough(short.worker("-c", 2, "-n", "other"))
    short.worker("-c", 1, "-Q", "elsewhere", "-n", "third")
    long_one = short.send("last", LONG_ONE, 3 * LEASE, queue="elsewhere")
    short.until(lambda: begun(short, LONG_ONE))
    assert not [each for each in results if each.ready()], "all of them run"

    died = time.time()
    kill_host(doomed)
    (short.folder / "go").touch()
    short.until(lambda: len(held_again(short, died)) == 200, seconds=LEASE + MARGIN + 1)

    assert max(held_again(short, died).values()) - died < LEASE + MARGIN
    assert [each.get(timeout=5) for each in results] == [[number, 2] for number in range(200)]
    assert len([run for run in begun(short) if run[0] < 200]) == 400, "each twice, and no more"
    assert backlog[-1].state == "QUEUED", "there still is a backlog"
    assert long_one.get(timeout=20)[0] == LONG_ONE
    assert time.time() - died > LEASE, "it ran beside all this"
    (began,) = begun(short, LONG_ONE)
    assert began[2] < died
