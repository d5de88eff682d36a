"""What signals do to a worker, and within which times."""

import os
import signal
import time

import pytest

from tests.system.faults import (
    TASKS,
    begun,
    family,
    frozen,
    letters,
)


@pytest.fixture
def held(site):
    """A worker that runs two tasks while one waits; and the results."""
    site.write(TASKS)
    site.env["STREAMQ_SHUTDOWN_TIMEOUT"] = "3s"
    site.env["STREAMQ_LEASE"] = "1s"
    worker = site.worker("-c", 2, process_group=0)
    results = site.send_many("hold", 3)
    site.until(lambda: len(begun(site)) == 2)
    return worker, results


def finishes_elsewhere(site, results, deliveries=1):
    (site.folder / "go").touch()
    site.worker("-c", 2, ready=False)
    for number, result in enumerate(results):
        assert result.get(timeout=15) == [number, deliveries]
    site.drained()
    assert letters(site) == []
    site.at_rest()


def ends(worker, *, within):
    """The exit code of a worker that ends in time."""
    began = time.monotonic()
    code = worker.wait(within + 5)
    assert time.monotonic() - began < within
    return code


def test_the_third_signal_leaves_at_once_even_without_redis(site, held, server):
    worker, results = held
    children = worker.runners()
    with frozen(server.pid):
        for _ in range(3):
            worker.signal()
            time.sleep(0.3)  # else a busy machine makes one request of two
        assert ends(worker, within=3.5) == 1
        site.until(lambda: not any(map(site.alive, children)), seconds=5)

    (site.folder / "go").touch()
    site.worker("-c", 2, ready=False)
    assert [each.get(timeout=15)[0] for each in results] == [0, 1, 2]
    site.at_rest()


@pytest.mark.parametrize(
    "flags", [("-c", 1), ("-P", "gevent", "--processes", 1, "-c", 5)], ids=["prefork", "gevent"]
)
def test_a_runner_that_finishes_its_task_keeps_its_lease(site, flags):
    """Takes 3 s: a runner is judged after 1.5 leases."""
    site.write(TASKS)
    site.env["STREAMQ_LEASE"] = "1s"
    worker = site.worker(*flags)
    result = site.send("hold", 0)
    site.until(lambda: begun(site))

    worker.signal()
    time.sleep(2.5)
    (site.folder / "go").touch()

    assert worker.wait() == 0
    assert result.get(timeout=1) == [0, 1]
    assert "it is replaced" not in worker.said


def test_quit_stops_at_once_and_hands_everything_back_uncharged(site, held):
    worker, results = held

    worker.signal(signal.SIGQUIT)

    assert ends(worker, within=2) == 1
    assert [each.state for each in results] == ["QUEUED"] * 3
    assert (site.held(), site.pending()) == (3, 0)
    assert "stopping the running tasks: asked to stop now" in worker.said
    assert "finishing" not in worker.said
    finishes_elsewhere(site, results)


def test_ctrl_c_reaches_the_whole_group_and_lets_tasks_finish(site, held):
    worker, results = held

    os.killpg(worker.pid, signal.SIGINT)
    site.until(lambda: "finishing the running tasks" in worker.said, "it has heard it")
    time.sleep(0.5)  # a runner that heard it as well would have left by now
    assert worker.process.poll() is None
    (site.folder / "go").touch()

    assert ends(worker, within=2) == 0
    assert [each.state for each in results] == ["SUCCESS", "SUCCESS", "QUEUED"]
    finishes_elsewhere(site, results)


def test_ctrl_c_twice_stops_now(site, held):
    worker, results = held

    os.killpg(worker.pid, signal.SIGINT)
    site.until(lambda: "finishing the running tasks" in worker.said, "it has heard the first")
    time.sleep(0.2)
    os.killpg(worker.pid, signal.SIGINT)

    assert ends(worker, within=2) == 1
    finishes_elsewhere(site, results)


def end_without_redis(site, held, server, number):
    """Tell a worker to end while Redis does not answer: shutdown_timeout is 3 s, a lease 1 s."""
    worker, _ = held
    children = worker.runners()
    with frozen(server.pid):
        worker.signal(number)
        if number == signal.SIGTERM:
            (site.folder / "go").touch()
        ends(worker, within=3 + 2 + 2)
        site.until(lambda: not any(map(site.alive, children)), seconds=5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT], ids=["warm", "cold"])
def test_a_worker_ends_in_time_although_redis_does_not_answer(site, held, server, number):
    end_without_redis(site, held, server, number)

    (site.folder / "go").touch()
    site.worker("-c", 2, ready=False)
    assert [each.get(timeout=15)[0] for each in held[1]] == [0, 1, 2]
    site.at_rest()


@pytest.fixture
def hasty(site):
    """A site where nobody waits for more than a second: not for tasks, and not for Redis."""
    site.write(TASKS)
    site.env |= {"STREAMQ_SHUTDOWN_TIMEOUT": "1s", "STREAMQ_LEASE": "1s"}
    return site


def test_a_worker_ends_although_the_server_is_gone(hasty, server):
    hasty.env["STREAMQ_SHUTDOWN_TIMEOUT"] = "5s"  # on a busy machine a second is short
    worker = hasty.worker("-c", 2)
    server.stop(signal.SIGKILL)

    worker.signal()

    assert worker.wait(20) == 0


def reload(site, worker):
    """New code on disk, and the signal that has it loaded."""
    code = (site.folder / "tasks.py").read_text()
    (site.folder / "tasks.py").write_text(code.replace("return number\n", "return -number\n"))
    worker.signal(signal.SIGHUP)


def workdirs(site):
    """The folders that the processes of a worker share."""
    return list(site.folder.glob("streamq-worker-*"))


@pytest.mark.parametrize(
    "flags",
    [("-c", 2), ("-P", "gevent", "--processes", 1, "-c", 10)],
    ids=["prefork", "gevent"],
)
def test_a_hang_up_loads_the_new_code_and_loses_nothing(site, flags):
    site.write(TASKS)
    site.env["TMPDIR"] = str(site.folder)
    worker = site.worker(*flags)
    held = site.send("hold", 1)
    site.until(lambda: begun(site))
    old = worker.runners()
    assert site.send("quick", 5).get(timeout=10) == 5

    reload(site, worker)
    waiting = [site.send("quick", number) for number in range(1, 100)]
    time.sleep(0.3)
    assert not held.ready()
    (site.folder / "go").touch()

    values = [each.get(timeout=20) for each in waiting]
    assert held.get(timeout=10) == [1, 1]
    assert [abs(value) for value in values] == list(range(1, 100))
    assert site.send("quick", 5).get(timeout=20) == -5
    assert worker.process.poll() is None
    site.until(lambda: worker.runners() and not set(worker.runners()) & set(old))
    assert len(workdirs(site)) == 1
    site.at_rest()
    assert worker.stop() == 0
    assert workdirs(site) == []


def test_a_hang_up_while_redis_is_away_loads_the_new_code_when_it_is_back(hasty, server):
    worker = hasty.worker("-c", 1)
    assert hasty.send("quick", 5).get(timeout=10) == 5
    server.stop()

    reload(hasty, worker)
    time.sleep(4)
    assert worker.process.poll() is None, worker.said
    server.start()

    assert hasty.send("quick", 6).get(timeout=20) == -6
    assert worker.stop() == 0


def test_a_worker_that_waits_for_redis_to_begin_anew_can_be_stopped(hasty, server):
    worker = hasty.worker("-c", 1)
    server.stop()
    reload(hasty, worker)
    time.sleep(4)

    worker.signal()

    assert ends(worker, within=3) in (0, 1), "the runner may have to be killed"


#: Asks the worker to stop when it is about to become another one.
STOPPED_LATE = """
import logging

class Late(logging.Handler):
    def emit(self, record):
        if record.getMessage() == "reloading":
            os.kill(os.getpid(), signal.SIGTERM)

logging.getLogger("streamq.worker").addHandler(Late())
"""


def test_who_is_stopped_in_the_moment_of_beginning_anew_does_not_begin(site):
    site.write(TASKS + STOPPED_LATE)
    worker = site.worker("-c", 1)

    worker.signal(signal.SIGHUP)

    assert worker.wait(10) == 0
    assert worker.said.count("streamq ") == 1, "one banner"


def test_a_hang_up_again_and_again_ends_with_one_set_of_runners(site):
    site.write(TASKS)
    worker = site.worker("-c", 2)
    results = []
    for number in range(5):
        results.append(site.send("quick", number))
        worker.signal(signal.SIGHUP)
        time.sleep(0.15)

    assert [each.get(timeout=20) for each in results] == list(range(5))
    site.until(lambda: len(worker.runners()) == 2)
    assert site.send("quick", 9).get(timeout=10) == 9
    site.until(lambda: site.redis.zcard("{streamq}:leases") == 2)
    site.at_rest()
    assert worker.stop() == 0


def test_a_frozen_child_is_kept_until_its_hard_limit(site):
    """Its supervisor lives: nobody takes its task over, however short the lease."""
    site.write(TASKS)
    site.env["STREAMQ_LEASE"] = "500ms"
    worker = site.worker("-c", 2)
    result = site.send("hold", 1, time_limit=2.0)
    ((_, pid, moment),) = site.until(lambda: begun(site))

    with frozen(pid):
        site.until(result.ready)

    assert 2.0 <= time.time() - moment < 5.0
    assert site.states([result]) == [("FAILURE", "streamq.errors.TimeLimitExceeded")]
    assert len(begun(site)) == 1
    assert not site.alive(pid)
    assert site.send("quick", 1).get(timeout=5) == 1
    site.until(lambda: len(worker.runners()) == 2)
    site.at_rest()


def test_a_frozen_idle_child_that_has_the_turn_does_not_stop_the_others_for_ever(site):
    site.write(TASKS)
    worker = site.worker("-c", 3)
    for number in range(10):
        site.send("quick", number).get(timeout=10)
    time.sleep(0.5)
    runners = worker.runners()
    with frozen(*runners[:2]):
        results = [site.send("quick", number) for number in range(20)]
        assert [each.get(timeout=40) for each in results] == list(range(20))
    site.until(lambda: len(worker.runners()) == 3)
    assert site.send("quick", 1).get(timeout=5) == 1
    site.at_rest()


def test_nothing_of_a_worker_is_left_when_it_was_killed(site):
    site.write(TASKS)
    worker = site.worker("-c", 3)
    pids = family(worker)

    worker.signal(signal.SIGKILL)
    worker.wait()

    site.until(lambda: not any(map(site.alive, pids)), seconds=5)
