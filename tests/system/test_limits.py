"""Time limits: soft ones are raised inside the task, hard ones end what runs it."""

import os
import re
import signal
import time

import pytest

import streamq
from streamq.errors import SoftTimeLimitExceeded, TimeLimitExceeded
from tests.proxy import calls_of
from tests.system.faults import begun, letters

TASKS = """
@app.task(soft_time_limit=0.3)
def soft():
    note(f"begin 0 {os.getpid()} {time.time():.3f}")
    time.sleep(10)

@app.task(soft_time_limit=0.3)
def caught():
    try:
        time.sleep(10)
    except streamq.SoftTimeLimitExceeded:
        return "tidied up"

@app.task(bind=True)
def warned_at(self):
    try:
        time.sleep(10)
    except streamq.SoftTimeLimitExceeded:
        note(f"warned at {time.monotonic()}")

@app.task
def outer():
    inner.apply((10,))
    note("went on")

@app.task
def inner(seconds):
    note(f"begin 0 {os.getpid()} {time.time():.3f}")
    time.sleep(seconds)

@app.task(soft_time_limit=0.2, time_limit=1.0)
def stubborn():
    note(f"begin 0 {os.getpid()} {time.time():.3f}")
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            time.sleep(10)
        except streamq.SoftTimeLimitExceeded:
            note("warned")

@app.task(time_limit=0.5)
def hard(number=0):
    note(f"begin {number} {os.getpid()} {time.time():.3f}")
    time.sleep(10)

@app.task(
    time_limit=0.5,
    autoretry_for=(streamq.errors.TimeLimitExceeded,),
    max_retries=1,
    default_retry_delay=0.01,
)
def hard_again(number=0):
    hard(number)

@app.task(time_limit=0.5, acks_late=False)
def hard_early(number=0):
    note(f"begin {number} {os.getpid()} {time.time():.3f}")
    time.sleep(10)

@app.task(time_limit=0.5)
def busy(number=0):
    note(f"begin {number} {os.getpid()} {time.time():.3f}")
    while True:
        pass

@app.task(bind=True)
def plain(self, seconds):
    note(f"begin 1 {os.getpid()} {time.time():.3f}")
    time.sleep(seconds)
    return [self.request.deliveries, self.request.timelimit]

@app.task(time_limit=0.5)
def regular_expression():
    import re
    note(f"begin 0 {os.getpid()} {time.time():.3f}")
    re.match("(a+)+$", "a" * 60 + "b")
"""

POOLS = {
    "prefork": ("-c", 2),
    "solo": ("-P", "solo"),
    "gevent": ("-P", "gevent", "--processes", 1, "-c", 10),
}


@pytest.fixture(params=["prefork", "gevent", "solo"])
def worker(request, site):
    site.write(TASKS)
    return site.worker(*POOLS[request.param])


def over(result, error, *, within):
    """Wait until a limit has ended a task, which would go on for 10 s."""
    began = time.monotonic()
    with pytest.raises(error):
        result.get(timeout=within + 5)
    assert time.monotonic() - began < within


def test_a_task_that_ignores_the_soft_limit_meets_the_hard_one(site, worker):
    over(site.send("stubborn"), TimeLimitExceeded, within=4)

    assert site.notes().count("warned") == 1
    assert len(begun(site)) == 1
    assert site.send("plain", 0).get(timeout=10)[0] == 1
    site.at_rest()


def test_a_soft_limit_is_not_kept_by_a_task_that_was_called_inside(site, worker):
    over(site.send("outer", soft_time_limit=0.4), SoftTimeLimitExceeded, within=5)

    assert site.notes()[1:] == []


def test_a_task_that_called_another_inside_can_be_stopped(site, worker):
    runners = worker.runners()
    result = site.send("outer")
    site.until(lambda: begun(site, 0))

    result.revoke(terminate=True)

    over(result, streamq.Revoked, within=5)
    assert site.notes()[1:] == []
    assert worker.runners() == runners


@pytest.mark.parametrize("name", ["hard", "hard_early"])
def test_a_hard_limit_ends_the_task_once_and_for_all(site, worker, name):
    result = site.send(name)
    over(result, TimeLimitExceeded, within=5)

    told = rf"tasks.{name}\[{result.id}\] failed: .* limit of 0.5 s"
    site.until(lambda: re.search(told, worker.said), told)
    assert site.send("plain", 0).get(timeout=10)[0] == 1
    time.sleep(0.5)
    assert len(begun(site, 0)) == 1
    assert letters(site) == []
    site.at_rest()


@pytest.mark.parametrize("name", ["busy", "regular_expression"])
def test_a_task_that_never_waits_is_ended_too(site, worker, name):
    before = worker.runners()

    over(site.send(name), TimeLimitExceeded, within=5)

    site.until(lambda: len(worker.runners()) == len(before))
    assert worker.runners() != before
    assert site.send("plain", 0).get(timeout=10)[0] == 1
    assert len(begun(site, 0)) == 1
    site.at_rest()


def busy_beside_others(site):
    """A task that never waits, beside others in one process; what those return."""
    site.write(TASKS)
    site.worker(*POOLS["gevent"])
    others = [site.send("plain", 2.0) for _ in range(5)]
    site.until(lambda: len(begun(site, 1)) == 5)
    over(site.send("busy"), TimeLimitExceeded, within=5)
    return [each.get(timeout=15)[0] for each in others]


def test_the_neighbours_of_a_task_that_is_ended_are_handed_back_uncharged(site):
    assert busy_beside_others(site) == [1] * 5

    assert len(begun(site, 1)) == 10
    site.at_rest()


def test_the_call_wins_over_the_task_and_the_task_over_the_worker(site):
    site.write(TASKS)
    site.worker("-c", 2, "--time-limit", "1.5", "--soft-time-limit", "1")

    assert site.send("plain", 0).get(timeout=5)[1] == [1.5, 1.0]
    assert site.send("plain", 0, time_limit=9, soft_time_limit=8).get(timeout=5)[1] == [9.0, 8.0]
    over(site.send("plain", 5), SoftTimeLimitExceeded, within=2.5)
    over(site.send("plain", 5, soft_time_limit=0), TimeLimitExceeded, within=4)
    over(site.send("hard", 0), TimeLimitExceeded, within=2)
    over(site.send("hard", 0, time_limit=0.9), TimeLimitExceeded, within=3)
    site.at_rest()


def test_a_worker_without_a_word_about_it_has_a_limit_of_an_hour(site):
    site.write(TASKS)
    site.worker("-c", 1)

    assert site.send("plain", 0).get(timeout=5)[1] == [3600.0, None]
    assert site.send("plain", 0, time_limit=0).get(timeout=5)[1] == [None, None]


def test_a_runner_that_is_killed_beside_a_limit_is_still_charged(site):
    """Only what we end ourselves is uncharged."""
    site.write(TASKS)
    site.worker("-c", 1)
    result = site.send("plain", 1.0)
    (_, pid, _) = site.until(lambda: begun(site))[0]

    os.kill(pid, signal.SIGKILL)

    assert result.get(timeout=10)[0] == 2


def test_a_soft_limit_comes_in_time_while_redis_is_silent(site, proxy):
    """The runner has just asked Redis something about the task, and gets no answer."""
    site.write(TASKS)
    site.env["STREAMQ_URL"] = proxy.url
    site.worker("-c", 1)
    lost = proxy.drop_reply(calls_of("mark_started"), hang=True)
    sent = time.monotonic()
    site.send("warned_at", soft_time_limit=0.5)
    site.until(lambda: lost.hits)
    proxy.blackhole()

    (line,) = site.until(site.notes, seconds=5)

    assert 0.5 <= float(line.split()[-1]) - sent < 3.0
    proxy.heal()


def test_an_end_that_redis_refuses_is_settled_when_it_can_be_and_charges_nobody(site):
    """Its retry goes to a key that somebody else has written to."""
    site.env["STREAMQ_LEASE"] = "1s"
    site.write(TASKS)
    site.redis.set("{streamq}:scheduled", "not ours")
    one, other = site.worker("-c", 1, "-n", "one"), site.worker("-c", 1, "-n", "other")
    result = site.send("hard_again", max_deliveries=1)
    site.until(lambda: "recovering" in one.said + other.said, "it is refused")
    time.sleep(3)  # leases

    assert len(begun(site)) == 1
    assert " is dead" not in one.said + other.said
    site.redis.delete("{streamq}:scheduled")

    with pytest.raises(TimeLimitExceeded):
        result.get(timeout=20)
    assert len(begun(site)) == 2
    assert letters(site) == []
    site.at_rest()
