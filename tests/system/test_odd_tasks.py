"""Tasks that mistreat the process that runs them: it goes on, or is replaced."""

import os
import signal
import time
from pathlib import Path

import pytest

from streamq.errors import WorkerLost
from tests.system.faults import letters

TASKS = """
import ctypes, subprocess, threading

@app.task(bind=True)
def plain(self, number=0):
    note(f"plain {number}")
    return [os.getpid(), self.request.deliveries]

@app.task
def stop(name):
    note(f"stop {name}")
    raise {"exit": SystemExit(3), "interrupt": KeyboardInterrupt(), "generator": GeneratorExit(),
           "base": BaseException("base")}[name]

@app.task
def call_exit():
    note("call_exit")
    sys.exit("enough")

@app.task
def fork(number):
    child = os.fork()
    note(f"fork {number} {'child' if child == 0 else 'parent'} {os.getpid()}")
    if child:
        os.waitpid(child, 0)
    return [number, os.getpid()]

@app.task
def fork_and_forget(number):
    os.fork()
    note(f"forget {number} {os.getpid()}")
    return [number, os.getpid()]

@app.task
def fork_past_python(number):
    ctypes.PyDLL(None).fork()  # with the GIL: a child without it may wait for ever
    note(f"past {number} {os.getpid()}")
    return [number, os.getpid()]

@app.task
def fork_and_raise():
    if os.fork() == 0:
        raise ValueError("the child")
    time.sleep(0.2)
    return "the parent"

@app.task
def close_all(number, seconds=0.0):
    note(f"close {number}")
    os.closerange(3, 256)
    time.sleep(seconds)
    return number

@app.task
def take_signals():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGURG, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    for number in range(signal.SIGRTMIN, signal.SIGRTMIN + 5):
        signal.signal(number, lambda *_: None)
    return os.getpid()

@app.task
def end_by_hangups():
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    return os.getpid()

@app.task
def leave_an_alarm():
    signal.alarm(1)
    return os.getpid()

@app.task
def move_away():
    os.chdir("/")
    os.umask(0)
    return os.getpid()

@app.task
def child_of_a_child(program):
    process = subprocess.Popen(["sleep", "60"])
    return [os.getpid(), process.pid]

@app.task
def child_status():
    return subprocess.run(["sh", "-c", "exit 7"]).returncode

@app.task
def start_threads():
    for _ in range(3):
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    return os.getpid()
"""

POOLS = {
    "prefork": ("-c", 1),
    "gevent": ("-P", "gevent", "--processes", 1, "-c", 4),
}


@pytest.fixture(params=["prefork", "gevent"])
def pool(request, site):
    site.write(TASKS)
    return site.worker(*POOLS[request.param])


def works_on(site, *, deliveries=1):
    """New tasks run, once each."""
    before = len(site.notes())
    results = [site.send("plain", number) for number in range(100, 110)]
    assert [each.get(timeout=15)[1] for each in results] == [deliveries] * 10
    assert len(site.notes()) - before == 10
    assert letters(site) == []
    site.at_rest()


@pytest.mark.parametrize("name", ["exit", "interrupt", "generator", "base"])
def test_whatever_a_task_raises_is_a_failure_of_the_task(site, pool, name):
    runners = pool.runners()

    result = site.send("stop", name)
    site.until(result.ready)

    kinds = {"exit": "SystemExit", "interrupt": "KeyboardInterrupt", "generator": "GeneratorExit"}
    assert site.states([result]) == [("FAILURE", kinds.get(name, "BaseException"))]
    assert site.notes() == [f"stop {name}"]
    works_on(site)
    assert pool.runners() == runners


def test_a_task_that_exits_has_failed(site, pool):
    result = site.send("call_exit")

    site.until(result.ready)

    assert site.states([result]) == [("FAILURE", "SystemExit")]
    works_on(site)


def test_a_child_that_comes_back_from_the_task_settles_nothing(site, pool):
    runners = pool.runners()

    results = [site.send("fork", number) for number in range(5)]
    results += [site.send("fork_and_forget", number) for number in range(5, 10)]
    values = [each.get(timeout=15) for each in results]

    assert values == [[number, runners[0]] for number in range(10)]
    assert site.send("fork_and_raise").get(timeout=10) == "the parent"
    assert site.send("fork_past_python", 10).get(timeout=10) == [10, runners[0]]
    pids = site.until(
        lambda: len(found := {int(line.split()[-1]) for line in site.notes()}) == 12 and found,
        "each of them has forked",
    )
    site.until(lambda: not any(map(site.alive, pids - set(runners))), "the children are gone")
    assert pool.runners() == runners
    works_on(site)


@pytest.mark.parametrize("seconds", [0.0, 0.3], ids=["quick", "slow"])
def test_a_task_that_closes_every_descriptor_takes_nothing_with_it(site, seconds):
    site.write(TASKS)
    worker = site.worker("-c", 2)

    results = [site.send("close_all", number, seconds) for number in range(4)]

    assert [each.get(timeout=20) for each in results] == list(range(4))
    assert sorted(site.notes()) == [f"close {number}" for number in range(4)]
    closed = "a task has closed the descriptors of runner"
    site.until(lambda: worker.said.count(closed) == 4, "each of their runners says so")
    assert "Traceback" not in worker.said
    works_on(site)


def test_closed_descriptors_end_a_process_of_greenlets_and_dead_letter_the_task(site):
    """The loop of such a process cannot do without them: it is a crash of the task that did it."""
    site.write(TASKS)
    site.worker(*POOLS["gevent"])

    result = site.send("close_all", 1, max_deliveries=2)
    with pytest.raises(WorkerLost, match="exited with code 98"):
        result.get(timeout=20)

    assert site.notes() == ["close 1"] * 2
    assert letters(site) == [result.id]
    assert site.send("plain", 1).get(timeout=20)


def test_a_runner_takes_its_signals_back(site, pool):
    runners = pool.runners()
    assert site.send("take_signals").get(timeout=10) in runners

    assert site.send("child_status").get(timeout=10) == 7
    works_on(site)
    began = time.monotonic()
    assert pool.stop() == 0
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_that_is_meant_for_the_worker_ends_no_runner_whatever_a_task_left(site, number):
    site.write(TASKS)
    worker = site.worker("-c", 1)
    runner = site.send("end_by_hangups").get(timeout=10)
    site.send("plain").get(timeout=10)

    os.kill(runner, number)

    assert site.send("plain").get(timeout=10) == [runner, 1]
    assert worker.runners() == [runner]


def test_an_alarm_that_a_task_leaves_behind_kills_nobody(site):
    site.write(TASKS)
    worker = site.worker("-c", 1)
    (runner,) = worker.runners()

    assert site.send("leave_an_alarm").get(timeout=10) == runner
    time.sleep(1.3)

    assert worker.runners() == [runner]
    works_on(site)


def test_another_folder_and_other_rights_do_no_harm(site, pool):
    runners = pool.runners()

    assert site.send("move_away").get(timeout=10) in runners

    works_on(site)
    os.kill(runners[0], signal.SIGKILL)
    site.until(lambda: pool.runners() not in ([], runners))
    works_on(site)


def test_what_a_task_has_started_ends_with_its_runner(site, pool):
    runner, child = site.send("child_of_a_child", "sleep").get(timeout=10)
    works_on(site)
    assert site.alive(child)

    os.kill(runner, signal.SIGKILL)

    site.until(lambda: not site.alive(child), "it ends with its runner", seconds=5)
    works_on(site)


def test_what_a_task_has_started_ends_with_the_worker(site, pool):
    _, child = site.send("child_of_a_child", "sleep").get(timeout=10)

    assert pool.stop() == 0

    site.until(lambda: not site.alive(child), "it ends with the worker", seconds=5)


def test_threads_that_a_task_leaves_behind_keep_nobody_from_ending(site, pool):
    runner = site.send("start_threads").get(timeout=10)
    assert runner in pool.runners()
    works_on(site)

    began = time.monotonic()
    assert pool.stop() == 0

    assert time.monotonic() - began < 5
    assert not Path(f"/proc/{runner}").exists() or not site.alive(runner)
