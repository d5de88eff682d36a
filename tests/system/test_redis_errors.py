"""Errors of Redis under real workers: survived while they work, said clearly where they start."""

import signal
import time

import pytest

from streamq.errors import BrokerFull
from tests.faults import EVERY, LOADING, MISCONF, NOAUTH, READONLY, code_of
from tests.proxy import calls_of, sent_by

TASKS = """
@app.task
def work(number):
    note(number)
    return number

@app.task
def refuse(number):
    note(number)
    raise streamq.Reject("not this one")
"""


def each_error():
    return [pytest.param(error, id=code_of(error)) for error in EVERY]


@pytest.fixture
def behind(site, proxy):
    """A site whose workers are behind the proxy, and whose producer is not."""
    site.write(TASKS)
    site.env["STREAMQ_URL"] = proxy.url
    site.env["STREAMQ_LEASE"] = "1500ms"
    return site


@pytest.mark.parametrize("error", each_error())
def test_a_supervisor_survives_and_its_runners_keep_their_leases(behind, proxy, error):
    site = behind
    worker = site.worker("-c", 2)
    runners = worker.runners()
    rule = proxy.answer(error, sent_by("streamq:supervisor", calls_of("renew")), times=None)
    rule.wait()
    lines, hits, began = worker.said.count("\n"), rule.hits, time.monotonic()
    time.sleep(1.2)
    tries = int((time.monotonic() - began) / 0.5)  # each a third of a lease after the one before

    calls = 2 * tries + 1 if "NOSCRIPT" in error else tries  # the script is sent, and called again
    assert rule.hits - hits <= calls, "no hot loop"
    assert worker.said.count("\n") - lines <= 2
    proxy.heal()

    assert site.send("work", 1).get(timeout=10) == 1
    assert worker.runners() == runners
    leases = site.redis.zrange("{streamq}:leases", 0, -1, withscores=True)
    site.until(
        lambda: all(
            now > then
            for (_, now), (_, then) in zip(
                site.redis.zrange("{streamq}:leases", 0, -1, withscores=True), leases, strict=True
            )
        ),
        "the leases are renewed",
    )
    assert "Traceback" not in worker.said


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(("-c", 2), id="prefork"),
        pytest.param(("-P", "gevent", "-c", 20), id="gevent"),
    ],
)
@pytest.mark.parametrize("error", [LOADING, MISCONF, READONLY, NOAUTH], ids=code_of)
def test_a_worker_that_hears_nothing_else_survives(behind, proxy, flags, error):
    site = behind
    worker = site.worker(*flags)
    assert site.send("work", 0).get(timeout=10) == 0
    runners = worker.runners()
    rule = proxy.answer(error, times=None)
    results = site.send_many("work", 20)
    rule.wait(3)
    before = proxy.seen.total()
    time.sleep(1.0)
    assert proxy.seen.total() - before < 100, "no hot loop"
    proxy.heal()

    assert [result.get(timeout=10) for result in results] == list(range(20))
    assert worker.runners() == runners
    assert "Traceback" not in worker.said
    assert worker.stop() == 0
    site.at_rest()


def test_a_full_redis_is_drained(behind, server):
    site = behind
    results = site.send_many("work", 300)
    server.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(BrokerFull):
            site.send("work", 300)
        site.worker("-c", 2)
        assert [result.get(timeout=20) for result in results] == list(range(300))
    finally:
        server.client.config_set("maxmemory", 0)

    assert site.send("work", 300).get(timeout=10) == 300
    site.at_rest()


# Credentials, where a worker starts


def ends_with_78(site, *, match):
    worker = site.worker(ready=False)
    assert worker.wait(20) == 78, worker.said
    assert match in worker.said
    assert "  → " in worker.said
    assert "Traceback" not in worker.said
    assert "secret" not in worker.said


def test_a_worker_without_the_password_says_so(site, server):
    site.write(TASKS)
    server.client.config_set("requirepass", "right")
    server.client.auth("right")

    ends_with_78(site, match="Authentication required")


def test_a_worker_with_a_wrong_password_says_so(site, server):
    site.write(TASKS)
    site.env["STREAMQ_URL"] = server.url.replace("unix://", "unix://:secret@")
    server.client.config_set("requirepass", "right")
    server.client.auth("right")

    ends_with_78(site, match="refused the connection")


def test_a_worker_that_may_not_do_what_it_must_says_so(site, server):
    site.write(TASKS)
    server.client.acl_setuser("shop", enabled=True, passwords=["+secret"], commands=["+ping"])
    site.env["STREAMQ_URL"] = server.url.replace("unix://", "unix://shop:secret@")

    ends_with_78(site, match="no permissions")


def test_a_burst_without_a_redis_has_another_exit_code(site, server):
    """The control: 78 is about credentials, not about any failure."""
    site.write(TASKS)
    server.stop(signal.SIGKILL)

    assert site.worker("--burst", ready=False).wait(20) == 69


def test_a_worker_that_starts_before_its_redis_waits_for_it(site, server):
    site.write(TASKS)
    server.stop(signal.SIGKILL)
    worker = site.worker(ready=False)
    site.until(lambda: "cannot reach Redis" in worker.said)
    time.sleep(1.0)

    server.start()

    site.until(lambda: site.redis.zcard("{streamq}:leases"), "it works")
    assert worker.said.count("cannot reach Redis") == 1
    assert worker.stop() == 0


@pytest.mark.parametrize("flags", [("-c", 1), ("-c", 1, "--burst")], ids=["stays", "burst"])
def test_a_worker_that_starts_while_redis_loads_waits_for_it(behind, proxy, flags):
    held = behind.send("work", 1)
    proxy.answer(LOADING, times=None)
    worker = behind.worker(*flags, ready=False)
    behind.until(lambda: "LOADING" in worker.said)
    time.sleep(0.5)

    proxy.heal()

    assert held.get(timeout=10) == 1
    assert worker.said.count("LOADING") == 1
    assert (worker.wait(10) if "--burst" in flags else worker.stop()) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_worker_that_waits_for_a_host_that_has_no_name_yet_can_be_stopped(site, number):
    site.write(TASKS)
    site.env["STREAMQ_URL"] = "redis://streamq-is-not-there.invalid/0"
    worker = site.worker(ready=False)
    site.until(lambda: "cannot reach Redis at redis://streamq-is-not-there" in worker.said)

    worker.signal(number)

    assert worker.wait(10) == 0
    assert "Traceback" not in worker.said


# Keys that are not ours


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(("-c", 2), id="prefork"),
        pytest.param(("-P", "gevent", "-c", 20), id="gevent"),
    ],
)
def test_a_foreign_key_stops_no_other_queue(behind, flags):
    site, key = behind, "{streamq}:queue:bad"
    worker = site.worker("-Q", "good,bad", *flags)
    assert site.send("work", 0, queue="bad").get(timeout=10) == 0
    runners = worker.runners()
    site.redis.delete(key)
    site.redis.set(key, "not a stream")

    results = [site.send("work", number, queue="good") for number in range(20)]

    assert [result.get(timeout=10) for result in results] == list(range(20))
    assert worker.said.count(f"{key} is no stream") <= len(runners)
    site.redis.delete(key)
    assert site.send("work", 21, queue="bad").get(timeout=20) == 21
    assert worker.runners() == runners
    assert worker.said.count("is no stream") >= 1
    assert "Traceback" not in worker.said


POOLS = [
    pytest.param(("-c", 1), id="prefork"),
    pytest.param(("-P", "gevent", "--processes", 1, "-c", 5), id="gevent"),
]


@pytest.fixture
def refused(site):
    """A site where nothing can be dead-lettered, and what cannot be settled is soon tried again."""
    site.write(TASKS)
    site.env["STREAMQ_LEASE"] = "1s"
    site.changed_module(
        "streamq/runner/parked_outcomes.py", "RETRY_PARKED = 30.0", "RETRY_PARKED = 0.5"
    )
    site.redis.set("{streamq}:dead:default", "not ours")
    return site


@pytest.mark.parametrize("flags", POOLS)
def test_what_cannot_be_settled_keeps_nothing_else_from_it(refused, flags):
    site = refused
    worker = site.worker(*flags)
    runners = worker.runners()

    bad = site.send("refuse", 100)
    results = [site.send("work", number) for number in range(5)]

    assert [result.get(timeout=10) for result in results] == list(range(5))
    time.sleep(2.5)  # more than the lease and a half after which who is away is replaced
    assert site.pending() == 1
    assert worker.runners() == runners
    assert worker.said.count("cannot be settled") == 1
    assert "{streamq}:dead:default is a string, not a zset" in worker.said
    site.redis.delete("{streamq}:dead:default")
    site.until(lambda: site.redis.zcard("{streamq}:dead:default") == 1, "it is settled")
    assert site.states([bad]) == [("FAILURE", "streamq.errors.Reject")]
    assert sorted(map(int, site.notes())) == [0, 1, 2, 3, 4, 100]
    assert "trying again" not in worker.said
    site.at_rest()


@pytest.mark.parametrize("flags", POOLS)
def test_what_could_not_be_settled_goes_back_uncharged_at_a_stop(refused, flags):
    site = refused
    worker = site.worker(*flags)
    site.send("refuse", 100)
    site.until(lambda: "cannot be settled" in worker.said)

    assert worker.stop() == 0

    (message,) = site.redis.xrange("{streamq}:queue:default:returned")
    assert "crashes" not in message[1]
    assert site.pending() == 0


def test_what_cannot_be_settled_keeps_no_burst_from_its_end(refused):
    refused.send("refuse", 100)
    refused.send("work", 1)

    assert refused.worker("-c", 1, "--burst", ready=False).wait() == 0

    assert refused.notes() == ["100", "1"]


@pytest.mark.parametrize("flags", POOLS)
def test_a_worker_of_which_no_queue_can_be_read_says_so_once(site, flags):
    site.write(TASKS)
    site.env["STREAMQ_LEASE"] = "1s"
    worker = site.worker(*flags)
    runners, key = worker.runners(), "{streamq}:queue:default"
    assert site.send("work", 0).get(timeout=10) == 0
    site.redis.delete(key)
    site.redis.set(key, "not a stream")
    site.until(lambda: "trying again" in worker.said)
    lines = worker.said.count("\n")

    time.sleep(3)

    assert worker.said.count("\n") - lines <= 1, worker.said
    assert worker.runners() == runners
    site.redis.delete(key)
    assert site.send("work", 1).get(timeout=10) == 1


def test_a_worker_that_cannot_start_beside_a_foreign_key_names_it(site):
    site.write(TASKS)
    site.redis.set("{streamq}:lease_ms", "not ours")

    worker = site.worker(ready=False)
    site.until(lambda: "{streamq}:lease_ms is a string, not a hash" in worker.said)

    assert "@user_script" not in worker.said
    assert "Traceback" not in worker.said
