"""Tasks for later: kept in Redis, moved by whoever lives, once each."""

import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from tests.system.faults import LEASE, MARGIN, kill_host

TASKS = """
@app.task(ignore_result=True)
def on_time(number, due):
    now = time.time()
    note(f"{number} {now - due:.4f}")
    return now

@app.task(bind=True)
def when(self):
    return time.time()
"""


@pytest.fixture
def two(site):
    """Two workers, with a short lease."""
    site.env["STREAMQ_LEASE"] = f"{LEASE:g}s"
    site.write(TASKS)
    return site


def later(site, count, *, first, last, **options):
    """Tasks that are due evenly between two moments from now, in seconds."""
    now = time.time()
    moments = [now + first + (last - first) * number / count for number in range(count)]
    signature = site.app.signature
    return site.app.enqueue_many(
        signature(
            "tasks.on_time",
            (number, moment),
            eta=datetime.fromtimestamp(moment, UTC),
            ignore_result=True,
            **options,
        )
        for number, moment in enumerate(moments)
    )


def lateness(site):
    """How late each task was, by its number; and how often each has run."""
    lines = [line.split() for line in site.notes()]
    return [float(late) for _, late in lines], Counter(int(number) for number, _ in lines)


def test_what_is_far_off_is_in_nobodys_hands(two):
    worker = two.worker("-c", 2)
    result = two.send("when", countdown=3600)
    time.sleep(2.5 * LEASE)

    assert (result.state, two.pending(), two.redis.zcard("{streamq}:scheduled")) == (
        "SCHEDULED",
        0,
        1,
    )
    kill_host(worker)
    assert two.redis.zcard("{streamq}:scheduled") == 1
    result.revoke()
    assert (result.state, two.redis.zcard("{streamq}:scheduled")) == ("REVOKED", 0)


def one_of_two_dies(site, count, *, seconds, pool):
    """Schedule tasks, and kill one of two workers half-way."""
    doomed = site.worker(*pool, "-n", "doomed")
    site.worker(*pool, "-n", "other")
    time.sleep(1.6 * LEASE)
    began = time.time()
    later(site, count, first=3.0 if count > 1000 else 0.3, last=seconds)
    time.sleep(max(0.0, began + seconds / 2 - time.time()))
    kill_host(doomed)
    site.until(
        lambda: len(site.notes()) >= count, "all have run", seconds=seconds + LEASE + MARGIN + 10
    )
    site.drained()
    return lateness(site)


def test_each_scheduled_task_runs_although_a_worker_dies_half_way(two):
    late, runs = one_of_two_dies(two, 500, seconds=3.0, pool=("-c", 2))

    assert set(runs) == set(range(500))
    assert sum(runs.values()) <= 500 + 4, "what the dead worker was running runs again"
    assert min(late) >= -0.01
    assert sorted(late)[int(0.95 * len(late))] < 0.5
    assert max(late) <= LEASE + MARGIN
    two.at_rest()


def test_what_falls_due_together_keeps_nobody_waiting_for_long(two):
    """It is moved in bounded steps, between which others are served."""
    all_due_together(two, 5_000)


def all_due_together(two, count):
    signature = two.app.signature
    two.app.declare([])
    due = datetime.now(UTC) + timedelta(seconds=1)
    two.app.enqueue_many(
        signature("tasks.on_time", (number, due.timestamp()), eta=due, ignore_result=True)
        for number in range(count)
    )
    time.sleep(max(0.0, due.timestamp() - time.time()))
    two.worker("-c", 1)
    two.worker("-c", 1, "-Q", "elsewhere", "-n", "other")

    waited = []
    while two.redis.zcard("{streamq}:scheduled"):
        began = time.monotonic()
        two.send("when", queue="elsewhere").get(timeout=10)
        waited.append(time.monotonic() - began)

    two.until(lambda: len(two.notes()) >= count, seconds=90)
    _, runs = lateness(two)
    assert runs == Counter(range(count))
    assert max(waited, default=0.0) < 1.0
    two.drained()
    two.at_rest()
