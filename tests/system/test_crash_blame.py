"""Runners that die under a task: told apart, charged to the task that did it, and to no other."""

import os
import re
import signal
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from streamq.errors import WorkerLost
from tests.system.faults import TASKS as WAITING
from tests.system.faults import begun, frozen, letter, letters

TASKS = """
import ctypes, resource

@app.task
def segfault():
    ctypes.string_at(0)

@app.task
def kill_me():
    os.kill(os.getpid(), signal.SIGKILL)

@app.task
def abort():
    os.abort()

@app.task
def leave(code):
    os._exit(code)

@app.task
def swallow(megabytes):
    return len(b"x" * (megabytes << 20))

@app.task
def out_of_bounds():
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, -1))
    try:
        return len(bytearray(4 << 30))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (-1, -1))

@app.task(bind=True)
def innocent(self, number, seconds=0.0):
    note(f"innocent {number}")
    time.sleep(seconds)
    return self.request.deliveries

@app.task(bind=True)
def poison(self, whom="runner"):
    note(f"poison {os.getpid()}")
    time.sleep(0.1)
    if whom == "worker":
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(5)
    os.kill(os.getpid(), signal.SIGKILL)
"""

DEATHS = {
    "segfault": ((), r"was killed by SIGSEGV \(11\)"),
    "kill_me": ((), r"was killed by SIGKILL \(9\)"),
    "abort": ((), r"was killed by SIGABRT \(6\)"),
    "leave": ((0,), r"exited with code 0 "),
}


@pytest.mark.parametrize("name", DEATHS)
def test_the_reason_tells_how_a_runner_died_and_its_largest_memory(site, name):
    site.write(TASKS)
    worker = site.worker("-c", 1)
    args, says = DEATHS[name]

    result = site.send(name, *args, max_deliveries=1)
    with pytest.raises(WorkerLost) as raised:
        result.get(timeout=20)

    for text in (str(raised.value), letter(site, result)["dead_error"]):
        assert re.search(says, text)
        assert int(re.search(r"memory had reached (\d+) MiB", text)[1]) >= 10
    assert letter(site, result)["dead_reason"] == "crashed once"
    told = f"; running: tasks.{name}[{result.id}]; 0 handed back"
    site.until(lambda: told in worker.said, told)
    assert site.send("innocent", 1).get(timeout=10) == 1
    site.at_rest()


def test_a_task_that_is_refused_memory_fails_and_its_runner_lives(site):
    site.write(TASKS)
    worker = site.worker("-c", 1)
    (runner,) = worker.runners()

    with pytest.raises(MemoryError):
        site.send("out_of_bounds").get(timeout=10)

    assert site.send("innocent", 1).get(timeout=10) == 1
    assert worker.runners() == [runner]
    assert letters(site) == []


@contextmanager
def cgroup(megabytes):
    """A memory cgroup, if we may make one."""
    folder = Path("/sys/fs/cgroup/memory") / f"streamq-test-{os.getpid()}"
    try:
        folder.mkdir()
        (folder / "memory.limit_in_bytes").write_text(str(megabytes << 20))
    except OSError:
        pytest.skip("no memory cgroup can be made here")
    try:
        yield folder
    finally:
        deadline = time.monotonic() + 10
        while folder.exists() and time.monotonic() < deadline:
            try:
                folder.rmdir()
            except OSError:
                time.sleep(0.05)


def test_a_runner_that_the_system_kills_for_its_memory_is_told_as_such(site):
    """The supervisor lives: the limit is the runner's own."""
    site.write(TASKS)
    with cgroup(120) as folder:
        worker = site.worker("-c", 1)
        (folder / "cgroup.procs").write_text(str(worker.runners()[0]))
        result = site.send("swallow", 400, max_deliveries=1)

        with pytest.raises(WorkerLost, match=r"SIGKILL \(9\).*\(out of memory\?\)") as raised:
            result.get(timeout=30)

        reached = int(re.search(r"reached (\d+) MiB", str(raised.value))[1])
        assert 60 < reached < 400
        assert site.send("innocent", 1).get(timeout=10) == 1
        site.at_rest()
        worker.stop()


def test_runners_that_die_before_they_finish_anything_come_back_ever_more_slowly(site):
    site.write(TASKS)
    site.worker("-c", 1)
    began = time.monotonic()

    with pytest.raises(WorkerLost):
        site.send("leave", 1, max_deliveries=4).get(timeout=30)

    assert time.monotonic() - began > 0.9, "the third start had to wait a second"


def poison_beside_greenlets(site):
    """Poison beside 50 tasks in one process; the results of those."""
    site.write(TASKS)
    site.env["STREAMQ_LEASE"] = "2s"
    site.worker("-P", "gevent", "--processes", 1, "-c", 60)
    site.worker("-P", "gevent", "--processes", 1, "-c", 60, "-n", "other")
    innocents = [site.send("innocent", number, 0.3) for number in range(50)]
    poison = site.send("poison")
    with pytest.raises(WorkerLost):
        poison.get(timeout=40)
    site.drained()
    return poison, innocents


def test_poison_beside_50_greenlets_is_dead_lettered_alone(site):
    poison, innocents = poison_beside_greenlets(site)

    assert {state for state, _ in site.states(innocents)} == {"SUCCESS"}
    assert letters(site) == [poison.id]
    assert letter(site, poison)["dead_reason"].startswith("crashed")
    assert int(letter(site, poison)["crashes"]) >= 3
    site.until(lambda: not site.redis.exists("{streamq}:quarantine"), "the quarantine is empty")
    site.at_rest()


def test_a_quarantine_runner_leaves_when_none_is_left_though_other_queues_never_had_any(site):
    site.write(TASKS)
    site.env["STREAMQ_LEASE"] = "1s"
    worker = site.worker("-P", "gevent", "--processes", 1, "-c", 20, "-Q", "left,default,right")
    innocents = [site.send("innocent", number, 0.3) for number in range(10)]

    with pytest.raises(WorkerLost):
        site.send("poison").get(timeout=40)

    assert all(each.get(timeout=20) for each in innocents)
    site.until(lambda: len(worker.runners()) == 1, "the quarantine runner has left", seconds=10)
    assert "NOGROUP" not in worker.said
    assert "cannot reach" not in worker.said
    site.until(lambda: not site.redis.exists("{streamq}:quarantine"), "the quarantine is empty")
    site.at_rest()


class Loop:
    """What keeps workers running on a machine: each that ends is started again."""

    def __init__(self, site, names, *flags):
        self.site, self.flags = site, flags
        self.workers = {name: self.start(name) for name in names}
        self.starts = 0
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def start(self, name):
        return self.site.worker(*self.flags, "-n", name, ready=False)

    def run(self):
        while not self.stopping.wait(0.05):
            for name, worker in self.workers.items():
                if worker.process.poll() is not None:
                    self.workers[name] = self.start(name)
                    self.starts += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join()


def poison_that_kills_workers(site, seconds=60.0):
    """Poison that takes whole workers with it, beside innocents that take their time."""
    site.write(TASKS)
    site.env["STREAMQ_LEASE"] = "1s"
    with Loop(site, ("one", "two", "three"), "-P", "gevent", "--processes", 1, "-c", 6) as loop:
        site.until(lambda: site.redis.zcard("{streamq}:leases") == 3)
        innocents = [site.send("innocent", number, 1.5) for number in range(12)]
        poison = site.send("poison", "worker")
        site.until(poison.ready, "the poison is dead_lettered", seconds=seconds)
        site.drained()
    return poison, innocents, loop.starts


@pytest.mark.timeout(180)
def test_poison_that_kills_its_whole_worker_is_dead_lettered_and_no_innocent_with_it(site):
    poison, innocents, starts = poison_that_kills_workers(site)

    with pytest.raises(WorkerLost, match="died while it ran the task"):
        poison.get(timeout=1)
    assert starts >= 3
    assert {state for state, _ in site.states(innocents)} == {"SUCCESS"}
    assert letters(site) == [poison.id]
    assert sum(line.startswith("poison") for line in site.notes()) <= 3 * 3
    site.until(lambda: not site.redis.exists("{streamq}:quarantine"), "the quarantine is empty")
    site.at_rest()


def test_a_runner_that_dies_after_it_has_settled_costs_no_second_run(site):
    """Killed again and again while it is idle between tasks."""
    site.write(TASKS)
    worker = site.worker("-c", 1)
    for number in range(5):
        assert site.send("innocent", number).get(timeout=10) == 1
        (runner,) = worker.runners()
        os.kill(runner, signal.SIGKILL)
        site.until(lambda runner=runner: worker.runners() not in ([], [runner]))

    assert site.send("innocent", 5).get(timeout=10) == 1
    assert site.notes() == [f"innocent {number}" for number in range(6)]
    site.at_rest()


def runner_dies_while_its_supervisor_is_slow(site):
    """Meanwhile another worker starts on this machine; what the two say in the end."""
    site.write(WAITING)
    slow = site.worker("-c", 1, "-n", "slow")
    result = site.send("hold", 1)
    ((_, runner, _),) = site.until(lambda: begun(site, 1))
    with frozen(slow.pid):
        os.kill(runner, signal.SIGKILL)
        starting = site.worker("-c", 1, "-n", "starting", ready=False)
        names = ("{streamq}:leases", 0, -1)
        site.until(lambda: any("starting@" in each for each in site.redis.zrange(*names)))
    site.until(lambda: len(begun(site, 1)) == 2, "it runs again")
    (site.folder / "go").touch()
    assert result.get(timeout=10) == [1, 2]
    site.at_rest()
    return slow.said, starting.said


def test_a_worker_that_starts_leaves_a_dead_runner_to_its_living_supervisor(site):
    """The supervisor knows which of the runner's messages was running."""
    slow, starting = runner_dies_while_its_supervisor_is_slow(site)

    assert "killed by SIGKILL" in slow
    assert "is dead" not in starting
