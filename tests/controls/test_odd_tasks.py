"""Controls of `tests/system/test_odd_tasks.py`: what its tests must see is broken on purpose."""

import os
import signal
import time

import pytest

from tests.system.test_odd_tasks import TASKS


def test_the_check_finds_a_child_that_goes_on_as_if_it_were_the_runner(site):
    site.changed_module("streamq/runner/pools/base.py", "if forks != FORKS.mark[0]:", "if False:")
    site.changed_module(
        "streamq/runner/pools/solo.py", "if self.guard.descriptors_closed:", "if False:"
    )

    site.write(TASKS)
    (runner,) = site.worker("-c", 1).runners()
    site.send("fork_and_forget", 1).get(timeout=15)

    def child():
        pids = {int(line.split()[-1]) for line in site.notes()}
        return next(iter(pids - {runner}), None)

    pid = site.until(child, "it has forked")
    time.sleep(0.5)  # in which it should have ended

    assert site.alive(pid)
    os.kill(pid, signal.SIGKILL)


def test_the_check_finds_descriptors_that_nobody_misses(site):
    site.changed_module(
        "streamq/runner/pools/solo.py", "if self.guard.descriptors_closed:", "if False:"
    )
    site.write(TASKS)
    site.worker("-c", 1)
    site.send("close_all", 1).get(timeout=10)

    def connections():
        return site.redis.info("stats")["total_connections_received"]

    before = connections()
    site.until(lambda: connections() > before + 20, "the runner finds no rest")


def test_the_check_finds_signals_that_stay_with_the_task(site):
    heard = "signal.signal(number, handler)"
    site.changed_module("streamq/runner/signals.py", heard, "pass")
    site.env["STREAMQ_SHUTDOWN_TIMEOUT"] = "2s"
    site.write(TASKS)
    worker = site.worker("-c", 1)
    site.send("take_signals").get(timeout=10)

    assert worker.stop() == 1, "it had to be killed"


def test_the_check_finds_what_outlives_its_runner(site):
    site.changed_module(
        "streamq/worker/processes.py", "os.killpg(child.pid, signal.SIGKILL)", "pass"
    )
    site.write(TASKS)
    site.worker("-c", 1)
    runner, child = site.send("child_of_a_child", "sleep").get(timeout=10)
    os.kill(runner, signal.SIGKILL)
    try:
        with pytest.raises(AssertionError):
            site.until(lambda: not site.alive(child), seconds=1)
    finally:
        os.kill(child, signal.SIGKILL)
