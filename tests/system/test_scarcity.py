"""A machine that has too little: processes, descriptors, disk, somebody who reads the log."""

import os
import resource
import shutil
import signal
import subprocess
import time

import pytest

from streamq.errors import TimeLimitExceeded

TASKS = """
import threading

@app.task(bind=True)
def plain(self, number=0):
    note(f"plain {number}")
    return [number, self.request.deliveries]

@app.task
def echo(number):
    return number

@app.task
def fail(number):
    raise ValueError(number)

@app.task
def die():
    os.kill(os.getpid(), signal.SIGKILL)

HELD = []

def take_all():
    while True:
        try:
            HELD.append(open("/dev/null"))
        except OSError:
            time.sleep(0.001)

@app.task
def leak():
    threading.Thread(target=take_all, daemon=True).start()
    time.sleep(0.3)
    return len(HELD)
"""

#: Runner processes cannot be forked while the file `no-fork` exists.
NO_FORK = """
        if os.path.exists("no-fork"):
            raise BlockingIOError(11, "Resource temporarily unavailable")
        with OWN.signals_blocked():
"""


def serves(site, count=20):
    results = site.send_many("plain", count)
    assert [each.get(timeout=20) for each in results] == [[n, 1] for n in range(count)]


def without_processes(site):
    """Runners die while no process can be started; then it can again."""
    site.changed_module(
        "streamq/worker/processes.py", "        with OWN.signals_blocked():\n", NO_FORK
    )
    site.write(TASKS)
    worker = site.worker("-c", 2)
    (site.folder / "no-fork").touch()
    for _ in range(2):
        site.send("die", max_deliveries=1)
    site.until(lambda: not worker.runners())
    time.sleep(1.5)
    return worker


def test_a_worker_that_can_start_no_process_waits_until_it_can(site):
    worker = without_processes(site)
    result = site.send("plain", 1)

    assert worker.process.poll() is None
    assert 1 <= worker.said.count("cannot be started, and is tried again") <= 6
    assert "Traceback" not in worker.said
    (site.folder / "no-fork").unlink()

    assert result.get(timeout=10) == [1, 1]
    site.until(lambda: len(worker.runners()) == 2)
    serves(site)
    assert worker.stop() == 0


def few_descriptors(number=64):
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (number, number))


@pytest.mark.parametrize(
    "flags", [("-c", 3), ("-P", "gevent", "-c", 20)], ids=["prefork", "gevent"]
)
def test_64_descriptors_are_enough(site, flags):
    site.write(TASKS)
    worker = site.worker(*flags, preexec_fn=few_descriptors())

    serves(site, 200)

    assert worker.stop() == 0
    site.at_rest()


def runner_without_descriptors(site):
    """Tasks take all descriptors of their runner; then its connection is cut."""
    site.env["STREAMQ_LEASE"] = "1s"
    site.write(TASKS)
    worker = site.worker("-c", 1, preexec_fn=few_descriptors())
    (runner,) = worker.runners()
    assert 30 < site.send("leak").get(timeout=10) < 64
    assert site.send("echo", 1).get(timeout=10) == 1
    assert worker.runners() == [runner]
    for client in site.redis.client_list():
        if client["name"].startswith("streamq:runner"):
            site.redis.client_kill_filter(_id=client["id"])
    return worker, runner


def test_a_runner_that_can_open_no_connection_is_replaced(site):
    worker, runner = runner_without_descriptors(site)

    serves(site)

    assert worker.runners() != [runner]
    assert "cannot reach Redis, but we can" in worker.said
    assert worker.stop() == 0
    site.at_rest()


@pytest.fixture(params=["full", "unread", "closed"])
def log(request):
    """Standard output and error that lead nowhere."""
    if request.param == "closed":
        yield {"stdout": None, "stderr": None, "preexec_fn": lambda: (os.close(1), os.close(2))}
        return
    if request.param == "full":
        end = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, end = os.pipe()
        os.close(reader)
    yield {"stdout": end, "stderr": end}
    os.close(end)


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(("-c", 2), id="prefork"),
        pytest.param(("-P", "gevent", "-c", 5), id="gevent"),
    ],
)
def test_a_log_that_cannot_be_written_costs_no_task(site, log, flags):
    site.write(TASKS)
    worker = site.worker(*flags, **log)
    runners = worker.runners()

    for result in [site.send("fail", number) for number in range(5)]:
        site.until(result.ready)
        assert result.state == "FAILURE"
    serves(site)
    assert worker.runners() == runners
    site.send("die", max_deliveries=1)
    site.until(
        lambda: set(worker.runners()) - set(runners) and len(worker.runners()) == len(runners)
    )
    serves(site)

    assert worker.stop() == 0
    site.at_rest()


def test_a_reader_of_the_log_that_leaves_does_not_end_the_worker(site):
    """As in `streamq worker 2>&1 | head -3`."""
    site.write(TASKS)
    worker = site.worker("-c", 1, "-l", "debug", stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    worker.process.stderr.readline()
    worker.process.stderr.close()

    serves(site, 100)

    assert worker.stop() == 0
    site.at_rest()


LEAKY = """
KEPT = []

@app.task(bind=True)
def leak(self, number):
    KEPT.append(bytearray(b"x" * (2 << 20)))
    note(f"leak {number}")
    return [os.getpid(), self.request.deliveries]
"""


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(("-c", 1), id="prefork"),
        pytest.param(("-P", "gevent", "-c", 4), id="gevent"),
    ],
)
def test_a_runner_that_has_grown_is_replaced_between_two_tasks(site, flags):
    site.write(LEAKY)
    site.worker(*flags, "--max-memory-per-child", "100MB")

    values = [each.get(timeout=30) for each in site.send_many("leak", 100)]

    assert len({pid for pid, _ in values}) >= 2
    assert {deliveries for _, deliveries in values} == {1}
    assert sorted(site.notes()) == sorted(f"leak {number}" for number in range(100))
    site.at_rest()


ENDLESS = """
@app.task(time_limit=1)
def endless():
    time.sleep(60)
"""


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(("-c", 1), id="prefork"),
        pytest.param(("-P", "gevent", "-c", 4), id="gevent"),
    ],
)
def test_a_worker_whose_temporary_folder_was_tidied_up_replaces_its_runners(site, flags):
    site.write(TASKS + ENDLESS)
    site.env["TMPDIR"] = str(site.folder)
    worker = site.worker(*flags)
    for folder in site.folder.glob("streamq-worker-*"):
        shutil.rmtree(folder)

    os.kill(worker.runners()[0], signal.SIGKILL)

    serves(site)
    with pytest.raises(TimeLimitExceeded):  # the supervisor sees what its new runner runs
        site.send("endless").get(timeout=20)
    assert worker.stop() == 0
    assert not list(site.folder.glob("streamq-worker-*"))
    site.at_rest()
