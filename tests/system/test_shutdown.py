"""Ending a worker: once politely, twice at once, and when it has no say in it."""

import signal
import time

import pytest

from streamq.errors import WorkerLost
from tests.system.faults import ask_to_end

TASKS = """
@app.task(bind=True)
def hold(self, number, until="go"):
    note(f"begin {number}")
    while not (HERE / until).exists():
        time.sleep(0.01)
    note(f"end {number}")
    return self.request.deliveries
"""

POOLS = {
    "prefork": ("-c", 2),
    "gevent": ("-P", "gevent", "--processes", 1, "-c", 2),
}


@pytest.fixture(params=POOLS)
def flags(request, site):
    site.write(TASKS)
    return POOLS[request.param]


def busy_with_two_of_five(site, flags, **options):
    """A worker that runs two tasks while three wait."""
    worker = site.worker(*flags)
    results = site.send_many("hold", 5, **options)
    site.until(lambda: len(site.notes()) == 2)
    return worker, results


def test_the_first_signal_lets_running_tasks_finish(site, flags):
    worker, results = busy_with_two_of_five(site, flags)
    children = worker.runners()

    ask_to_end(worker)
    time.sleep(0.5)
    assert worker.process.poll() is None
    assert len(site.notes()) == 2
    (site.folder / "go").touch()

    assert worker.wait(10) == 0
    assert sorted(site.notes()) == ["begin 0", "begin 1", "end 0", "end 1"]
    assert [each.state for each in results] == ["SUCCESS"] * 2 + ["QUEUED"] * 3
    assert (site.held(), site.pending(), site.consumers()) == (3, 0, set())
    assert not any(site.alive(child) for child in children)

    site.worker(*flags)
    assert [each.get(timeout=10) for each in results] == [1] * 5
    site.at_rest()


def test_the_second_signal_puts_late_tasks_back(site, flags):
    worker, results = busy_with_two_of_five(site, flags)

    ask_to_end(worker)
    worker.signal(signal.SIGINT)

    assert worker.wait(10) == 1
    assert [each.state for each in results] == ["QUEUED"] * 5
    assert (site.held(), site.pending(), site.consumers()) == (5, 0, set())
    (site.folder / "go").touch()
    site.worker(*flags)
    assert [each.get(timeout=10) for each in results] == [1] * 5
    site.at_rest()


def test_the_second_signal_fails_early_tasks_that_ran(site, flags):
    worker, results = busy_with_two_of_five(site, flags, acks_late=False)

    ask_to_end(worker)
    worker.signal()

    assert worker.wait(10) == 1
    for result in results[:2]:
        with pytest.raises(WorkerLost, match="stopped"):
            result.get(timeout=5)
    assert [each.state for each in results[2:]] == ["QUEUED"] * 3
    (site.folder / "go").touch()
    site.worker(*flags)
    assert [each.get(timeout=10) for each in results[2:]] == [1] * 3
    assert site.notes().count("begin 0") == 1
    site.at_rest()


def test_tasks_that_take_too_long_to_finish_are_put_back(site, flags):
    site.env["STREAMQ_SHUTDOWN_TIMEOUT"] = "500ms"
    worker, results = busy_with_two_of_five(site, flags)

    worker.signal()

    assert worker.wait(10) == 1
    assert [each.state for each in results] == ["QUEUED"] * 5


def test_an_idle_worker_ends_at_once(site, flags):
    worker = site.worker(*flags)
    time.sleep(0.3)

    began = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - began < 3.0, "reads that wait, for 5 s, do not wait on"
    site.at_rest()


def test_runners_die_with_their_supervisor(site, flags):
    worker, _ = busy_with_two_of_five(site, flags)
    children = worker.runners()
    assert children

    worker.signal(signal.SIGKILL)

    site.until(lambda: not any(site.alive(child) for child in children), seconds=5)


def test_threads_of_a_module_keep_no_worker_from_ending(site):
    site.write(TASKS + "import threading\nthreading.Thread(target=time.sleep, args=(600,)).start()")
    worker = site.worker("-c", 1)

    worker.signal()

    assert worker.wait(10) == 0
    assert "leaving without the threads" in worker.said


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(("-c", 1), id="prefork"),
        pytest.param(("-P", "gevent", "-c", 2), id="gevent"),
    ],
)
def test_signals_that_a_worker_was_started_without_reach_it(site, flags):
    site.write(TASKS)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        worker = site.worker(*flags)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    runners = worker.runners()

    worker.signal()

    assert worker.wait(10) == 0
    assert "stopping the running tasks" not in worker.said, "the runners heard it too"
    assert not any(map(site.alive, runners))
