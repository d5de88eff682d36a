"""The gevent pool: many tasks at a time, recovered when their process is killed."""

import os
import signal
from collections import Counter

import pytest

from tests.system.test_gevent import TASKS, overlap, start


@pytest.mark.parametrize("acks_late", [True, False], ids=["late", "early"])
def test_as_many_tasks_run_at_a_time_as_there_are_greenlets(site, acks_late):
    most, took = overlap(site, 1500, 2, 50, acks_late=acks_late)

    assert len(most) == 2
    assert all(45 <= number <= 50 for number in most.values())
    assert took < 1500 / 100 * 0.1 * 3
    site.at_rest()


@pytest.mark.parametrize("acks_late", [True, False], ids=["late", "early"])
def test_what_a_killed_process_ran_is_recovered(site, acks_late):
    site.write(TASKS)
    worker = start(site, 2, 20)
    results = site.send_many("hold", 60, acks_late=acks_late)
    site.until(lambda: len(site.notes()) == 40)
    victim = worker.runners()[0]
    lost = {int(line.split()[1]) for line in site.notes() if line.endswith(f" {victim}")}
    assert len(lost) == 20

    os.kill(victim, signal.SIGKILL)
    (site.folder / "go").touch()
    site.drained()

    states = site.states(results)
    failed = {number for number, (state, _) in enumerate(states) if state == "FAILURE"}
    assert failed == (set() if acks_late else lost)
    begun = Counter(int(line.split()[1]) for line in site.notes())
    assert begun == Counter({n: 2 if acks_late and n in lost else 1 for n in range(60)})
    site.at_rest()
