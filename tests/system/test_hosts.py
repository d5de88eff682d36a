"""A whole worker dies or freezes, supervisor and runners: another one takes over, once."""

import time

import pytest

from tests.system.faults import (
    LEASE,
    MARGIN,
    TASKS,
    begun,
    family,
    frozen,
    kill_host,
)


@pytest.fixture
def short(site):
    """A site with a short lease and tasks that wait."""
    site.env["STREAMQ_LEASE"] = f"{LEASE:g}s"
    site.write(TASKS)
    return site


def watched_for_long_enough(worker):
    """Another worker may take over after it has seen Redis for 1.5 leases without a break."""
    time.sleep(1.6 * LEASE)
    return worker


def host_dies_beside_another(site, count, *, pool=("-P", "gevent", "-c", 200)):
    """Kill a worker with ``count`` tasks running beside another that has watched for long.

    Returns the results, and how long it took until each of the tasks had begun again.
    """
    doomed = site.worker(*pool, "-n", "doomed")
    results = site.send_many("hold", count)
    site.until(lambda: len(begun(site)) == count, "all run on the one that is to die")
    watched_for_long_enough(site.worker(*pool, "-n", "other"))
    died = time.time()
    kill_host(doomed)
    again = site.until(
        lambda: (found := begun(site)[count:]) and len(found) >= count and found,
        "all run again",
        seconds=LEASE + MARGIN + 1,
    )
    return results, max(moment for *_, moment in again) - died


@pytest.mark.parametrize(
    ("count", "pool"),
    [(2, ("-c", 2)), (200, ("-P", "gevent", "-c", 200))],
    ids=["prefork", "gevent"],
)
def test_what_ran_on_a_killed_host_runs_again_within_a_lease_and_two_seconds(short, count, pool):
    results, took = host_dies_beside_another(short, count, pool=pool)

    assert took < LEASE + MARGIN
    (short.folder / "go").touch()
    values = [each.get(timeout=20) for each in results]
    assert values == [[number, 2] for number in range(count)]
    assert len(begun(short)) == 2 * count
    short.at_rest()


def test_who_has_a_long_lease_takes_over_from_shorter_ones_in_their_time(short):
    doomed = short.worker("-c", 1, "-n", "doomed")
    result = short.send("hold", 1)
    short.until(lambda: begun(short, 1))
    short.env["STREAMQ_LEASE"] = "60s"
    watched_for_long_enough(short.worker("-c", 1, "-n", "patient"))

    kill_host(doomed)
    died = time.time()
    short.until(lambda: len(begun(short, 1)) == 2, "it runs again", seconds=LEASE + MARGIN + 1)

    assert begun(short, 1)[1][2] - died < LEASE + MARGIN
    (short.folder / "go").touch()
    assert result.get(timeout=10) == [1, 2]
    short.at_rest()


def test_a_schedule_of_wrong_type_prevents_no_takeover(short):
    doomed = short.worker("-c", 1, "-n", "doomed")
    result = short.send("hold", 1)
    short.until(lambda: begun(short, 1))
    other = short.worker("-c", 1, "-n", "other")
    short.redis.set("{streamq}:scheduled", "not ours")
    short.until(lambda: "WRONGTYPE" in other.said, "it has met the foreign key")
    watched_for_long_enough(other)

    kill_host(doomed)
    died = time.time()
    short.until(lambda: len(begun(short, 1)) == 2, "it runs again", seconds=LEASE + MARGIN + 1)

    assert begun(short, 1)[1][2] - died < LEASE + MARGIN
    assert other.said.count("WRONGTYPE") == 1
    (short.folder / "go").touch()
    assert result.get(timeout=10) == [1, 2]


#: The number of the task that runs elsewhere for three leases.
LONG_ONE = 999


def held_again(site, died):
    """When each of the tasks that a host held has begun again."""
    return {number: at for number, _, at in begun(site) if number < 200 and at > died}


def long_task_beside_a_dying_host(site, *, change=None):
    """A host dies while a task of three leases' length runs on another; how often that began.

    Not how often in the end: that it began twice is enough.  The worker with the long task, and no
    other, runs the package with a ``change``: who watches can be relied on.
    """
    doomed = site.worker("-c", 1, "-n", "doomed")
    site.send("hold", 1)
    site.until(lambda: begun(site, 1))
    other = site.worker("-c", 2, "-n", "other")
    for number in (2, 3):
        site.send("hold", number, "spare")
    site.until(lambda: begun(site, 2) and begun(site, 3), "the long one is not for those who watch")
    watched_for_long_enough(other)
    if change:
        site.changed_package(*change)
    site.worker("-c", 1, "-n", "owner")
    long_one = site.send("last", 7, 3 * LEASE)
    site.until(lambda: begun(site, 7))
    kill_host(doomed)
    (site.folder / "spare").touch()
    site.until(lambda: long_one.ready() or len(begun(site, 7)) > 1)
    return long_one, len(begun(site, 7))


def test_a_task_of_three_leases_on_a_living_host_is_not_run_twice(short):
    long_one, times = long_task_beside_a_dying_host(short)

    assert (long_one.get()[0], times) == (7, 1)
    (short.folder / "go").touch()
    short.drained()
    assert len(begun(short, 1)) == 2
    short.at_rest()


BUSY = """
@app.task
def spin():
    note(f"spin {os.getpid()}")
    while not (HERE / "go").exists():
        pass
    return os.getpid()
"""


def test_a_task_that_blocks_all_greenlets_for_three_leases_is_not_run_twice(site):
    """The lease is renewed from another process, which no task can keep from that."""
    site.env["STREAMQ_LEASE"] = f"{LEASE:g}s"
    site.write(BUSY)
    site.worker("-P", "gevent", "-c", 10, "-n", "blocked")
    result = site.send("spin")
    site.until(site.notes, "it runs")
    watched_for_long_enough(site.worker("-P", "gevent", "-c", 10, "-n", "other"))
    time.sleep(1.5 * LEASE)
    (site.folder / "go").touch()

    assert result.get(timeout=30) == int(site.notes()[0].split()[1])
    assert len(site.notes()) == 1
    site.at_rest()


def restart_on_the_same_host(site, *, seconds):
    """Kill a worker and start another here; wait until its task has begun again."""
    site.write(TASKS)
    doomed = site.worker("-c", 1)
    result = site.send("hold", 1)
    site.until(lambda: begun(site, 1))
    kill_host(doomed)
    site.worker("-c", 1, ready=False)
    site.until(lambda: len(begun(site, 1)) == 2, "it runs again", seconds=seconds)
    (site.folder / "go").touch()
    assert result.get(timeout=10) == [1, 2]
    site.at_rest()


def test_a_worker_that_starts_takes_over_what_a_lost_host_held(short):
    """Nobody has watched: at the latest 1.5 leases and two seconds after it has started."""
    doomed = short.worker("-c", 1)
    result = short.send("hold", 1)
    short.until(lambda: begun(short, 1))
    short.changed_module(
        "streamq/worker/services/takeover.py", "if died_here(consumer)", "if False"
    )
    kill_host(doomed)

    short.worker("-c", 1, ready=False)
    started = short.until(lambda: "streamq" in short.workers[-1].said and time.time())
    (*_, began) = short.until(lambda: len(found := begun(short, 1)) == 2 and found[1])

    assert began - started < 1.5 * LEASE + MARGIN
    (short.folder / "go").touch()
    assert result.get(timeout=10) == [1, 2]


FREEZE = """
@app.task
def race(number):
    first = not (HERE / f"first-{number}").exists()
    (HERE / f"first-{number}").touch()
    note(f"begin {number} {os.getpid()} {time.time():.3f}")
    while not (HERE / ("thawed" if first else "go")).exists():
        time.sleep(0.01)
    note(f"end {number} {os.getpid()} {time.time():.3f}")
    return [number, "loser" if first else "winner"]
"""


def race(site, pool, count):
    """Freeze a worker for 2.5 leases; its runs end before those of who took over."""
    site.write(FREEZE)
    cold = site.worker(*pool, "-n", "cold")
    results = site.send_many("race", count)
    site.until(lambda: len(begun(site)) == count)
    watched_for_long_enough(site.worker(*pool, "-n", "other"))
    with frozen(*family(cold)):
        site.until(lambda: len(begun(site)) == 2 * count, "others run what it held")
        time.sleep(2.5 * LEASE - LEASE)
        (site.folder / "thawed").touch()
    site.until(lambda: len([line for line in site.notes() if line[:3] == "end"]) == count)
    site.until(lambda: "was fenced meanwhile; it stops" in cold.said, "it hears of it")
    time.sleep(0.3)
    states = [each.state for each in results]
    (site.folder / "go").touch()
    return cold, states, [each.get(timeout=20) for each in results]


@pytest.mark.parametrize(
    ("pool", "count"),
    [
        pytest.param(("-c", 2), 2, id="prefork"),
        pytest.param(("-P", "gevent", "-c", 20), 20, id="gevent"),
    ],
)
def test_a_worker_that_was_frozen_settles_nothing_afterwards(short, pool, count):
    cold, states, values = race(short, pool, count)

    assert not {"SUCCESS", "FAILURE"}.intersection(states), "the loser has settled"
    assert values == [[number, "winner"] for number in range(count)]
    assert len(begun(short)) == 2 * count
    (node,) = [each for each in short.redis.zrange("{streamq}:workers", 0, -1) if "cold" in each]
    short.until(lambda: int(short.redis.hget(f"{{streamq}}:worker:{node}", "fenced")) >= 1)
    assert short.send("quick", 3, queue="default") is not None
    short.drained()
    short.at_rest()
    assert cold.stop() == 0


def test_a_fenced_runner_is_told_and_counted_once_however_long_its_task_goes_on(short):
    cold = short.worker("-c", 2, "-n", "cold@here")
    results = short.send_many("hold", 2)
    short.until(lambda: len(begun(short)) == 2)
    watched_for_long_enough(short.worker("-c", 2, "-n", "other"))
    with frozen(*family(cold)):
        short.until(lambda: len(begun(short)) == 4, "others run what it held")

    short.until(lambda: cold.said.count("it stops") == 2, "it hears of both")
    time.sleep(2 * LEASE)  # six renewals

    assert cold.said.count("it stops") == 2
    fenced = "{streamq}:worker:cold@here", "fenced"
    short.until(lambda: short.redis.hget(*fenced) == "2", "they are counted")
    (short.folder / "go").touch()
    assert sorted(each.get(timeout=10) for each in results) == [[0, 2], [1, 2]]
    short.until(lambda: len(cold.runners()) == 2)
    assert short.redis.hget(*fenced) == "2"
    short.at_rest()


def test_runners_go_on_while_only_their_supervisor_is_frozen(short):
    worker = short.worker("-c", 2)
    children = worker.runners()

    with frozen(worker.pid):
        deadline = time.monotonic() + 2.5 * LEASE
        while time.monotonic() < deadline:
            assert short.send("quick", 5).get(timeout=10) == 5

    assert short.send("quick", 6).get(timeout=5) == 6
    assert worker.runners() == children
    assert worker.stop() == 0
    short.at_rest()


def test_a_frozen_supervisor_beside_another_worker_costs_no_task_and_no_result(short):
    worker = short.worker("-c", 2, "-n", "cold")
    watched_for_long_enough(short.worker("-c", 2, "-n", "other"))
    held = short.send_many("hold", 2)
    short.until(lambda: len(begun(short)) == 2)

    with frozen(worker.pid):
        time.sleep(2.5 * LEASE)
        quick = short.send_many("quick", 50)
        (short.folder / "go").touch()
        assert [each.get(timeout=10) for each in quick] == list(range(50))
        assert [each.get(timeout=10)[0] for each in held] == [0, 1]

    short.until(lambda: len(worker.runners()) == 2, "it has its runners again")
    short.at_rest()
    assert worker.stop() == 0


def test_two_workers_of_one_name_work_side_by_side(short):
    one = short.worker("-c", 1, "-n", "twin@here")
    two = short.worker("-c", 1, "-n", "twin@here")
    names = short.redis.zrange("{streamq}:workers", 0, -1)
    results = short.send_many("hold", 2)

    pids = short.until(lambda: len(found := begun(short)) == 2 and {pid for _, pid, _ in found})
    (short.folder / "go").touch()

    assert pids == {*one.runners(), *two.runners()}
    assert sorted(names) == ["twin-2@here", "twin@here"]
    assert "another worker is named twin@here; this one is called twin-2@here" in two.said
    assert [each.get(timeout=10) for each in results] == [[0, 1], [1, 1]]
    assert one.stop() == 0
    short.until(lambda: short.redis.zrange("{streamq}:workers", 0, -1) == ["twin-2@here"])
    assert short.send("quick", 1).get(timeout=5) == 1
    short.at_rest()


def test_what_one_of_two_workers_of_one_name_held_runs_again_when_that_is_killed(short):
    one = short.worker("-c", 1, "-n", "twin@here", ready=False)
    result = short.send("hold", 1)
    short.until(lambda: begun(short))
    watched_for_long_enough(short.worker("-c", 1, "-n", "twin@here", ready=False))

    kill_host(one)

    short.until(lambda: len(begun(short)) == 2, "the other one runs it again")
    (short.folder / "go").touch()
    assert result.get(timeout=10) == [1, 2]
    short.at_rest()
