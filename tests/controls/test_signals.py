"""Controls of `tests/system/test_signals.py`: what its tests must see is broken on purpose."""

import signal
import subprocess

import pytest

from tests.system.faults import (
    TASKS,
)
from tests.system.test_signals import (
    end_without_redis,
    hasty,  # noqa: F401 - a fixture
)


def test_the_check_finds_a_supervisor_that_waits_long_for_an_answer(site, server):
    site.changed_module(
        "streamq/transport/connection.py",
        '"socket_timeout": min(ANSWER_TIMEOUT, patience),',
        '"socket_timeout": ANSWER_TIMEOUT,',
    )
    site.write(TASKS)
    site.env |= {"STREAMQ_SHUTDOWN_TIMEOUT": "3s", "STREAMQ_LEASE": "1s"}
    worker = site.worker("-c", 2)

    with pytest.raises((AssertionError, subprocess.TimeoutExpired)):
        end_without_redis(site, (worker, []), server, signal.SIGTERM)


def test_the_check_finds_a_signal_that_ends_the_new_worker_before_it_listens(site):
    site.changed_module("streamq/worker/supervisor.py", "        self.stops.block_reloads()\n", "")
    site.write('note(f"loads {os.getpid()}")\ntime.sleep(1.0)\n' + TASKS)
    worker = site.worker("-c", 1)
    loads = f"loads {worker.pid}"
    before = site.notes().count(loads)
    worker.signal(signal.SIGHUP)
    site.until(lambda: site.notes().count(loads) > before, "the new worker begins")

    worker.signal(signal.SIGHUP)

    assert worker.wait(10) == -signal.SIGHUP


def test_the_check_finds_a_reload_that_does_not_wait_for_redis(hasty, server):
    hasty.changed_module(
        "streamq/worker/supervisor.py",
        "while (self.reloading or clock.monotonic() < end)",
        "while (clock.monotonic() < end)",
    )
    worker = hasty.worker("-c", 1)
    server.stop()

    worker.signal(signal.SIGHUP)

    hasty.until(lambda: "others take over what the runners held" in worker.said)
