"""Controls of `tests/system/test_scarcity.py`: what its tests must see is broken on purpose."""

import os

import pytest

from tests.system.test_scarcity import TASKS, runner_without_descriptors, without_processes


def test_the_check_finds_a_supervisor_that_dies_of_it(site):
    site.changed_module(
        "streamq/worker/starts.py",
        "except OSError as error:",
        "except ZeroDivisionError as error:",
    )
    worker = without_processes(site)

    assert worker.wait(5) == 1


def test_the_check_finds_a_runner_that_is_left_without_a_connection(site):
    site.changed_module(
        "streamq/worker/services/fenced_runners.py", "self.replace_cut_off(children)", "pass"
    )
    worker, runner = runner_without_descriptors(site)
    result = site.send("plain", 1)

    with pytest.raises(AssertionError):
        site.until(result.ready, seconds=6)
    assert worker.runners() == [runner]


def test_the_check_finds_a_worker_that_must_be_heard(site):
    site.changed_module(
        "streamq/runner/logging.py", "suppress(OSError, ValueError)", "nullcontext()"
    )
    site.write(TASKS)
    reader, end = os.pipe()
    os.close(reader)

    with pytest.raises(AssertionError):
        site.worker("-c", 1, stdout=end, stderr=end)
    os.close(end)
