"""Tasks that must not run any more: expired, revoked, terminated."""

import time

import pytest

from streamq.errors import Revoked, WorkerLost
from tests.system.faults import begun, kill_host, letters

TASKS = """
app.queues = [Queue("default"), Queue("brief", message_ttl="300ms")]

@app.task(bind=True)
def hold(self, number, until="go"):
    note(f"begin {number} {os.getpid()} {time.time():.3f}")
    while not (HERE / until).exists():
        time.sleep(0.01)
    return number

@app.task
def stubborn(number):
    note(f"begin {number} {os.getpid()} {time.time():.3f}")
    while True:
        try:
            time.sleep(0.05)
        except Exception:
            note("caught")

@app.task
def quick(number=0):
    note(f"begin {number} {os.getpid()} {time.time():.3f}")
    return number

@app.task(bind=True, default_retry_delay=0.8)
def retrying(self):
    note(f"begin {self.request.retries} {os.getpid()} {time.time():.3f}")
    self.retry()
"""

DEAF = """
@app.task
def deaf():
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    time.sleep(1.0)
    return "deaf"

@app.task
def fatal():
    note(f"begin 0 {os.getpid()} {time.time():.3f}")
    os.kill(os.getpid(), signal.SIGSEGV)
"""

POOLS = {
    "prefork": ("-c", 2),
    "gevent": ("-P", "gevent", "--processes", 1, "-c", 2),
}


@pytest.fixture(params=["prefork", "gevent"])
def flags(request, site):
    site.write(TASKS)
    return POOLS[request.param]


def counted(site, name):
    """What the only worker counts."""
    (node,) = site.redis.zrange("{streamq}:workers", 0, -1)
    return int(site.redis.hget(f"{{streamq}}:worker:{node}", name))


def is_revoked(site, result, reason):
    with pytest.raises(Revoked):
        result.get(timeout=10)
    assert result.record()["reason"].decode() == reason
    assert result.state == "REVOKED"


def test_what_expired_before_it_started_is_not_run(site, flags):
    site.app.declare([])
    site.send("quick")  # declares nothing else
    result = site.send("quick", 1, expires=0.2)
    scheduled = site.send("quick", 2, expires=0.2, countdown=0.6)
    fresh = site.send("quick", 3, expires=60)
    time.sleep(0.3)

    site.worker(*flags)

    is_revoked(site, result, "expired")
    is_revoked(site, scheduled, "expired")
    assert fresh.get(timeout=5) == 3
    assert not begun(site, 1)
    assert not begun(site, 2)
    site.drained()
    site.at_rest()


def test_what_waited_too_long_in_its_queue_is_not_run(site, flags):
    first = site.worker(*flags, "-Q", "brief,default")
    held = [site.send("hold", number, queue="default") for number in range(2)]
    site.until(lambda: len(begun(site)) == 2)
    result = site.send("quick", 9, queue="brief")
    time.sleep(0.5)
    (site.folder / "go").touch()

    is_revoked(site, result, "expired")
    assert [each.get(timeout=5) for each in held] == [0, 1]
    assert site.send("quick", 7, queue="brief").get(timeout=5) == 7
    assert not begun(site, 9)
    assert first.process.poll() is None
    site.at_rest()


def test_what_waits_is_revoked_at_once_also_for_workers_that_are_away(site, flags):
    away = site.worker(*flags)
    assert site.send("quick", 0).get(timeout=5) == 0
    kill_host(away)
    results = [site.send("quick", number) for number in range(1, 6)]
    scheduled = site.send("quick", 6, countdown=0.5)

    for result in [*results[:4], scheduled]:
        result.revoke()

    assert [each.state for each in [*results, scheduled]] == [
        *["REVOKED"] * 4,
        "QUEUED",
        "REVOKED",
    ]
    site.worker(*flags, ready=False)
    assert results[4].get(timeout=10) == 5
    site.drained()
    assert {number for number, *_ in begun(site)} == {0, 5}
    site.at_rest()


def test_a_task_that_runs_goes_on_but_is_not_tried_again(site, flags):
    site.worker(*flags)
    held = site.send("hold", 1)
    retrying = site.send("retrying")
    site.until(lambda: (held.state, retrying.state) == ("STARTED", "RETRY"))

    held.revoke()
    retrying.revoke()
    (site.folder / "go").touch()

    assert held.get(timeout=5) == 1
    is_revoked(site, retrying, "revoked")
    time.sleep(1.0)
    assert len(begun(site)) == 2
    site.at_rest()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL", "SIGUSR1", "SIGINT", "SIGQUIT", "SIGHUP"])
def test_a_running_task_is_terminated_and_its_neighbour_is_not(site, flags, name):
    worker = site.worker(*flags)
    doomed, other = site.send("hold", 1), site.send("hold", 2)
    site.until(lambda: {doomed.state, other.state} == {"STARTED"})

    began = time.monotonic()
    doomed.revoke(terminate=True, signal=name)

    is_revoked(site, doomed, "terminated")
    assert time.monotonic() - began < 2, "not for want of patience"
    assert f"tasks.hold[{doomed.id}] is terminated" in worker.said
    assert other.state in ("STARTED", "QUEUED")
    (site.folder / "go").touch()
    assert other.get(timeout=10) == 2
    assert (len(begun(site, 1)), len(begun(site, 2))) == (1, 1)
    assert site.send("quick", 3).get(timeout=10) == 3
    site.drained()
    site.at_rest()
    assert worker.stop() == 0


def test_a_task_that_catches_everything_is_terminated_all_the_same(site, flags):
    site.worker(*flags)
    result = site.send("stubborn", 1)
    site.until(lambda: result.state == "STARTED")

    result.revoke(terminate=True)

    is_revoked(site, result, "terminated")
    assert len(begun(site)) == 1
    assert site.send("quick", 3).get(timeout=10) == 3
    site.drained()
    site.at_rest()


def test_a_signal_that_a_task_survives_excuses_no_later_crash(site):
    site.write(TASKS + DEAF)
    worker = site.worker("-c", 1)
    deaf = site.send("deaf")
    site.until(lambda: deaf.state == "STARTED")
    deaf.revoke(terminate=True, signal="SIGUSR1")
    assert deaf.get(timeout=5) == "deaf"

    fatal = site.send("fatal", max_deliveries=1)

    with pytest.raises(WorkerLost, match="SIGSEGV"):
        fatal.get(timeout=10)
    assert len(begun(site)) == 1
    site.until(lambda: counted(site, "crashed") == 1)
    assert worker.stop() == 0


@pytest.mark.parametrize("pool", [("-c", 4), ("-P", "gevent", "-c", 300)])
def test_thousands_of_terminations_keep_no_lease_from_being_renewed(site, pool):
    site.env["STREAMQ_LEASE"] = "1s"
    site.write(TASKS)
    site.worker(*pool)
    held = [site.send("hold", number) for number in range(min(pool[-1], 250))]
    site.until(lambda: len(begun(site)) == len(held) and held[-1].state == "STARTED")
    requested = [f"SIGTERM nobody-{number}" for number in range(20_000)]
    until = {name: (time.time() + 60) * 1000 for name in requested}

    site.redis.zadd("{streamq}:terminating", until)
    pipeline = site.redis.pipeline(transaction=False)
    for name in requested:
        pipeline.publish("{streamq}:notices", f"terminate {name}")
    pipeline.execute()
    held[-1].revoke(terminate=True)

    is_revoked(site, held[-1], "terminated")
    end = time.monotonic() + 2.0
    while time.monotonic() < end:
        (_, deadline), *_ = site.redis.zrange("{streamq}:leases", 0, 0, withscores=True)
        assert deadline > time.time() * 1000, "it has been renewed"
        time.sleep(0.02)
    assert not [each for each in held[:-1] if each.ready()]


def roll_out(site, *, patience):
    """A new task meets an old worker; then a worker with the new code starts beside it."""
    site.env["STREAMQ_UNKNOWN_TASK_PATIENCE"] = patience
    site.write("@app.task\ndef old(): return 'old'\n")
    worker = site.worker("-c", 1)
    result = site.send("new")
    site.until(lambda: "tasks.new" in worker.said)
    site.write("@app.task\ndef old(): return 'old'\n@app.task\ndef new(): return 'new'\n")
    site.worker("-c", 1, "-n", "new")
    assert site.send("old").get(timeout=15) == "old"
    site.until(result.ready)
    return worker, result


def test_an_unknown_task_waits_for_a_worker_that_knows_it(site):
    """A new version is rolled out: old workers meet its tasks first."""
    worker, result = roll_out(site, patience="20s")

    assert result.get(timeout=1) == "new"
    assert "no such task here; offered again" in worker.said
    assert letters(site) == []
    site.at_rest()


def old_and_new_side_by_side(site):
    """One runner has the task, two of another worker do not; nobody is patient.

    Return the worker that does not have it, and the results.
    """
    site.env["STREAMQ_UNKNOWN_TASK_PATIENCE"] = "0s"
    site.write("@app.task\ndef old(): return 'old'\n")
    old = site.worker("-c", 2, "-n", "old")
    site.write("@app.task\ndef new(number): return number\n")
    site.worker("-c", 1, "-n", "new")
    return old, site.send_many("new", 8)


def test_a_task_that_a_living_worker_has_is_offered_until_that_one_meets_it(site):
    old, results = old_and_new_side_by_side(site)

    site.until(lambda: old.said.count("unless another worker has it") > 2, "it has met some")
    assert old.stop() == 0  # else luck decides for how long a message meets only the old one
    assert [each.get(timeout=60) for each in results] == list(range(8))
    assert letters(site) == []
    site.at_rest()
