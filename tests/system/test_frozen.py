"""A task that freezes time for its process, as tests of users do, changes nothing for a worker."""

import pytest

from streamq.errors import SoftTimeLimitExceeded, TimeLimitExceeded

TASKS = """
from freezegun import freeze_time


@app.task(soft_time_limit=1, time_limit=20)
def freeze():
    with freeze_time("2020-02-02"):
        assert time.monotonic() == time.monotonic()
        note("frozen")
        for _ in range(1000):
            time.sleep(0.01)


@app.task(time_limit=1.5)
def freeze_for_good():
    freeze_time("2020-02-02").start()
    note("frozen")
    for _ in range(1000):
        time.sleep(0.01)


@app.task
def twice(number):
    return number * 2
"""


@pytest.mark.parametrize(
    "flags", [["-c", "1"], ["-P", "gevent", "-c", "2"]], ids=["prefork", "gevent"]
)
def test_a_task_that_freezes_time_meets_its_limits_and_the_worker_goes_on(site, flags):
    """5 s: a worker as a user starts it, two limits that a slow machine meets after its notes,
    and in prefork a process that is replaced."""
    site.write(TASKS)
    worker = site.worker(*flags)
    soft = site.send("freeze")
    hard = site.send("freeze_for_good")

    with pytest.raises(SoftTimeLimitExceeded):
        soft.get(timeout=20)
    with pytest.raises(TimeLimitExceeded):
        hard.get(timeout=20)
    assert site.notes() == ["frozen", "frozen"]
    assert site.send("twice", 2).get(timeout=20) == 4
    assert worker.stop() == 0
