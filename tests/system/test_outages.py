"""Redis goes away, forgets or hangs up: producers and workers go on by themselves."""

import os
import random
import signal
import time
from collections import Counter

import pytest

from tests.system.traffic import TASKS, Traffic, begun


class Load(Traffic):
    """Traffic as fast as it goes, and the worker that serves it."""

    def __init__(self, site, flags):
        site.write(TASKS)
        self.worker = site.worker(*flags)
        super().__init__(site, pause=0.001)
        self.flows()

    def ends_well(self):
        """Every task that was accepted has run and has its result; nothing is left."""
        self.end()
        self.site.at_rest()
        assert self.worker.stop() == 0


PREFORK, GEVENT = ("-c", 2), ("-P", "gevent", "--processes", 2, "-c", 20)
POOLS = [
    pytest.param(PREFORK, id="prefork"),
    pytest.param(GEVENT, id="gevent"),
]
BOTH_POOLS = [pytest.param(PREFORK, id="prefork"), pytest.param(GEVENT, id="gevent")]


@pytest.fixture(params=POOLS)
def load(request, site):
    return Load(site, request.param)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_restart_of_the_server_loses_nothing(load, server, number):
    if number == signal.SIGKILL:
        server.write_through()
    for _ in range(2):
        server.restart(number, down=0.2)
        load.flows()

    load.ends_well()


def test_a_server_that_forgets_its_scripts_is_given_them_again(load, server):
    for _ in range(20):
        server.client.script_flush()
        time.sleep(0.02)
    load.flows()

    load.ends_well()


@pytest.mark.parametrize("flags", BOTH_POOLS)
def test_connections_killed_under_early_tasks_make_none_run_twice(site, server, flags):
    site.write(TASKS)
    site.worker(*flags)
    results = site.send_many("quick", 1500, acks_late=False)

    while site.held():
        server.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        time.sleep(0.1)

    site.drained()
    assert Counter(site.states(results)) == {("SUCCESS", None): 1500}
    assert max(Counter(number for number, _ in begun(site, "quick")).values()) == 1
    site.at_rest()


def test_a_worker_serves_a_server_that_lost_everything(load, server):
    for _ in range(3):
        server.client.flushall()
        load.flows()

    load.stop()
    assert load.site.send("quick", 1_000_000).get(timeout=20) == 1_000_000
    assert load.worker.stop() == 0


@pytest.mark.parametrize("flags", POOLS)
def test_an_idle_worker_serves_a_server_that_lost_everything(site, server, flags):
    site.write(TASKS)
    site.worker(*flags)
    assert site.send("quick", 1).get(timeout=10) == 1

    server.client.flushall()

    assert [site.send("quick", number).get(timeout=20) for number in range(20)] == list(range(20))
    site.drained()


@pytest.mark.parametrize("flags", POOLS)
def test_a_message_that_a_dead_connection_took_is_found_again(site, server, flags):
    site.write(TASKS)
    site.env["STREAMQ_LEASE"] = "1s"
    site.worker(*flags[:-1], 1)
    until_idle = site.send("quick", 0)
    assert until_idle.get(timeout=10) == 0
    consumer = server.client.zrange("{streamq}:leases", 0, 0)[0]
    stream = "{streamq}:queue:default"
    lost = 0
    while not lost:
        result = site.send("quick", 7)
        lost = len(server.client.xreadgroup("workers", consumer, {stream: ">"}, count=1) or [])

    assert result.get(timeout=25) == 7
    site.at_rest()


MIXED = """
news = Exchange("news", type="fanout")
app.queues = [Queue("left", news, max_priority=3), Queue("right", news), Queue("default")]

@app.task(bind=True)
def work(self, number):
    note(f"{self.request.queue}:{number}")
    time.sleep(0.002 * (number % 5))
    return number
"""


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("flags", "acks_late"),
    [
        pytest.param(PREFORK, False, id="prefork-early"),
        pytest.param(GEVENT, True, id="gevent-late"),
    ],
)
def test_everything_at_once_loses_nothing(site, server, flags, acks_late):
    site.write(MIXED)
    server.write_through()
    worker = site.worker(*flags)
    chance = random.Random(7)
    options = {"acks_late": acks_late, "max_deliveries": 1000}
    results, killed = [], 0
    deadline = time.monotonic() + 8
    while time.monotonic() < deadline:
        results += site.send_many("work", 50, exchange="news", **options)
        results += site.send_many("work", 50, priority=5, **options)
        match chance.randrange(6):
            case 0:
                server.restart(chance.choice([signal.SIGTERM, signal.SIGKILL]))
            case 1:
                server.client.script_flush()
            case 2:
                server.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            case _:
                if runners := worker.runners():
                    os.kill(chance.choice(runners), signal.SIGKILL)
                    killed += 1
        time.sleep(chance.uniform(0, 0.3))
    site.drained(120)

    tasks = [each for result in results for each in result.copies.values() or [result]]
    states = Counter(site.states(tasks))
    lost = states.pop(("FAILURE", "streamq.errors.WorkerLost"), 0)
    assert set(states) == {("SUCCESS", None)}
    assert lost + states[("SUCCESS", None)] == len(tasks)
    at_a_time = 1 if flags == PREFORK else 20
    assert lost <= (0 if acks_late else killed * (at_a_time + 5))
    runs = Counter(site.notes())
    if not acks_late:
        assert sum(runs.values()) <= len(tasks)
    else:
        assert sum(runs.values()) >= len(tasks)
    site.at_rest()
    assert worker.stop() == 0


def test_scripts_forgotten_between_quick_tasks_cost_no_runner(site):
    """A runner that waits for its next message settles and reads in one packet."""
    site.write(TRICKLE)
    site.worker("-c", 1)
    pids = {site.send("pid").get(timeout=10) for _ in range(30)}

    for _ in range(5):
        site.redis.script_flush()
        pids |= {site.send("pid").get(timeout=10) for _ in range(5)}

    assert len(pids) == 1
    site.at_rest()


TRICKLE = """
@app.task
def pid():
    return os.getpid()
"""
