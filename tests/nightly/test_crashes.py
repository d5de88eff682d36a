"""Thousands of tasks while runners are killed."""

import pytest

from tests.system.test_crashes import ran_at_least_once, ran_at_most_once, run_under_fire


@pytest.mark.timeout(900)
def test_late_ack_runs_each_of_20_000_tasks_while_runners_are_killed(site):
    results, story, killed = run_under_fire(site, 20_000, every=0.2)

    assert story.hits(killed) >= 50
    ran_at_least_once(site, results, story)


@pytest.mark.timeout(900)
def test_early_ack_runs_none_of_10_000_tasks_twice_while_runners_are_killed(site):
    results, story, killed = run_under_fire(site, 10_000, every=0.2, acks_late=False)

    assert story.hits(killed) >= 50
    ran_at_most_once(site, results, story, killed)
