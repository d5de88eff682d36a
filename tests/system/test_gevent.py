"""The gevent pool: many tasks at a time in few processes, on few connections."""

import time
from collections import Counter

import pytest

TASKS = """
import gc

import gevent

running = most = 0

@app.task
def nap(number, seconds=0.1):
    global running, most
    running += 1
    most = max(most, running)
    time.sleep(seconds)
    running -= 1
    return [os.getpid(), most]

@app.task
def blink(number):
    time.sleep(0.02)
    return number

@app.task
def where():
    return app.__class__.__name__

@app.task
def hold(number):
    note(f"begin {number} {os.getpid()}")
    while not (HERE / "go").exists():
        time.sleep(0.01)
    return number

@app.task
def spin(seconds):
    time.sleep(0.2)  # by now the reader waits for another message
    note("begin")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
    return "spun"

@app.task
def kill(duty):
    for each in gc.get_objects():
        if isinstance(each, gevent.Greenlet) and f".{duty} of" in repr(each):
            each.kill(RuntimeError("killed by a task"), block=False)

@app.task
def linger(requeue):
    hold(0)
    note(f"end 0 {os.getpid()}")
    if requeue:
        raise streamq.Reject(requeue=True)
"""


def start(site, processes, greenlets):
    return site.worker("-P", "gevent", "--processes", processes, "-c", greenlets)


def connections(site):
    """How many connections each process of the worker has, by the names of the clients."""
    names = [client["name"] for client in site.redis.client_list()]
    return Counter(name for name in names if name.startswith(("streamq:runner", "streamq:reader")))


def overlap(site, count, processes, greenlets, **options):
    """Run naps; return for each process how many it had at a time, and for how long all took."""
    site.write(TASKS)
    worker = start(site, processes, greenlets)
    began = time.monotonic()
    results = site.send_many("nap", count, **options)
    most_connections = 0
    while site.held():
        ours = [c for c in site.redis.client_list() if c["name"].endswith(worker_node(site))]
        most_connections = max(most_connections, len(ours))
        time.sleep(0.05)
    took = time.monotonic() - began
    most = {}
    for pid, at_once in (each.get(timeout=20) for each in results):
        most[pid] = max(at_once, most.get(pid, 0))
    assert set(most) <= set(worker.runners())
    assert most_connections <= 3 * processes
    return most, took


def worker_node(site):
    (node,) = site.redis.zrange("{streamq}:workers", 0, -1)
    return node


@pytest.mark.parametrize("acks_late", [True, False], ids=["late", "early"])
def test_copies_of_one_message_run_side_by_side(site, acks_late):
    site.write(
        """
        news = Exchange("news", type="fanout")
        app.queues = [Queue(name, news) for name in ("a", "b", "c")]

        @app.task(bind=True)
        def say(self, number):
            time.sleep(0.05)
            return f"{self.request.queue}{number}"
        """
    )
    worker = start(site, 1, 9)
    results = [
        site.send("say", number, exchange="news", acks_late=acks_late) for number in range(60)
    ]

    for number, result in enumerate(results):
        assert result.get(timeout=10) == {queue: f"{queue}{number}" for queue in "abc"}
    assert "Traceback" not in worker.said
    site.at_rest()
    assert worker.stop() == 0


def test_no_greenlet_is_idle_beside_a_backlog(site):
    """Room is gathered before a backlog is read; what is gathered in vain is used all the same."""
    site.write(TASKS)
    start(site, 1, 100)
    held = site.send_many("hold", 95)
    site.until(lambda: len(site.notes()) == 95)

    quick = site.send_many("blink", 10)

    assert [each.get(timeout=5) for each in quick] == list(range(10))
    (site.folder / "go").touch()
    assert [each.get(timeout=10) for each in held] == list(range(95))
    site.at_rest()


def test_what_was_read_ahead_goes_to_an_idle_runner(site):
    """Quick tasks teach a process to read ahead; then slow ones keep what it has read."""
    site.write(TASKS)
    start(site, 1, 50)
    for each in site.send_many("blink", 5000):
        each.get(timeout=20)
    held = site.send_many("hold", 70)
    site.until(lambda: len(site.notes()) == 50)

    other = site.worker("-P", "gevent", "-c", 50, "-n", "other")

    site.until(lambda: len(site.notes()) == 70, "the other worker runs what the first cannot")
    at = Counter(int(line.split()[2]) for line in site.notes())
    assert at[other.runners()[0]] == 20
    (site.folder / "go").touch()
    assert [each.get(timeout=10) for each in held] == list(range(70))
    site.at_rest()


def test_a_failing_task_takes_no_greenlet_with_it(site):
    site.write(
        """
        import gevent

        @app.task
        def fail(kind):
            if kind == 0:
                raise ValueError(kind)
            if kind == 1:
                sys.exit(1)
            if kind == 2:
                raise streamq.Reject("no")
            return kind
        """
    )
    start(site, 1, 4)

    results = site.app.enqueue_many(site.app.signature("tasks.fail", (n % 4,)) for n in range(100))
    site.drained()

    states = Counter(state for state, _ in site.states(results))
    assert states == {"FAILURE": 75, "SUCCESS": 25}
    site.at_rest()


@pytest.mark.parametrize("duty", ["settle_loop", "mark_started_loop", "watch_loop"])
def test_a_process_one_of_whose_own_greenlets_is_killed_ends_and_is_replaced(site, duty):
    """As by a task that means to kill all greenlets of its own, and finds them by their class."""
    site.write(TASKS)
    worker = start(site, 1, 5)
    (first,) = worker.runners()
    site.send("kill", duty)

    site.until(lambda: f"runner {first} exited with code 1" in worker.said, "it ends")
    assert "killed by a task" in worker.said
    site.until(lambda: worker.runners() not in ([], [first]), "another one works", seconds=60)


def test_a_greenlet_pool_runs_a_burst_to_its_end(site):
    site.write(TASKS)
    site.app.declare([])
    results = site.send_many("nap", 100)

    worker = site.worker("-P", "gevent", "--processes", 2, "-c", 20, "--burst", ready=False)

    assert worker.wait(20) == 0
    assert Counter(site.states(results)) == {("SUCCESS", None): 100}
    site.at_rest()


def test_a_task_that_keeps_its_process_busy_is_not_interrupted_by_a_warm_stop(site, proxy):
    """Each signal closes the connection of the reader, which cannot notice while the task runs."""
    site.write(TASKS)
    site.env["STREAMQ_URL"] = proxy.url
    worker = start(site, 1, 2)
    result = site.send("spin", 2)
    site.until(lambda: site.notes() == ["begin"])

    assert worker.stop() == 0

    assert result.get(timeout=5) == "spun"


def test_connections_that_broke_once_cost_a_process_no_lease(site):
    """Whichever greenlet reaches Redis again, the supervisor must hear of it."""
    site.write(TASKS)
    site.env["STREAMQ_LEASE"] = "1s"
    worker = start(site, 1, 20)
    results = site.send_many("blink", 1000)
    for client in site.redis.client_list():
        if client["name"].startswith("streamq:runner"):  # the one that settles, not the reader
            site.redis.client_kill_filter(_id=client["id"])
    site.drained()
    assert Counter(site.states(results)) == {("SUCCESS", None): 1000}
    seconds, micros = site.redis.time()
    three_leases_on = (seconds + 3) * 1000 + micros // 1000

    def deadlines():
        return [score for _, score in site.redis.zrange("{streamq}:leases", 0, -1, withscores=True)]

    site.until(lambda: "Redis is back" in worker.said, "it says so")
    site.until(lambda: max(deadlines()) > three_leases_on, "the lease is renewed", seconds=8)
    assert "was fenced meanwhile" not in worker.said


@pytest.mark.parametrize("requeue", [False, True], ids=["returned", "rejected"])
def test_what_runs_in_a_process_that_was_declared_dead_may_end(site, requeue):
    """It has read ahead: what it holds and others have now must not end it."""
    site.write(TASKS)
    worker = start(site, 1, 10)
    (runner,) = worker.runners()
    site.send("linger", requeue)
    site.until(lambda: site.notes() == [f"begin 0 {runner}"])
    blinks = site.send_many("blink", 5000)
    site.until(lambda: blinks[1000].ready())

    site.redis.delete("{streamq}:leases")
    time.sleep(0.5)
    (site.folder / "go").touch()

    site.until(lambda: f"end 0 {runner}" in site.notes())
    site.until(lambda: f"runner {runner} was fenced meanwhile; another" in worker.said)
    assert "Traceback" not in worker.said
