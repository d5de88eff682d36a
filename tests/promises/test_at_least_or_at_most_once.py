"""P3, P6 and P8: what runs in a process that is killed runs again, or is told as lost."""

import pytest

from streamq.errors import WorkerLost
from tests.system.test_crashes import POISON, ran_at_least_once, ran_at_most_once, run_under_fire


def test_late_ack_runs_each_task_at_least_once_while_runners_are_killed(site):
    results, story, killed = run_under_fire(site, 1500, every=0.08)

    assert story.hits(killed) >= 8
    ran_at_least_once(site, results, story)


def test_early_ack_runs_no_task_twice_while_runners_are_killed(site):
    results, story, killed = run_under_fire(site, 1000, every=0.08, acks_late=False)

    assert story.hits(killed) >= 5
    ran_at_most_once(site, results, story, killed)


@pytest.mark.parametrize(
    ("how", "says"), [("segv", "SIGSEGV"), ("exit", "exited with code 0")], ids=["signal", "exit"]
)
def test_poison_runs_as_often_as_it_may_and_is_put_aside(site, how, says):
    site.write(POISON)
    site.worker("-c", 2)
    before = site.send_many("harmless", 40)
    poison = site.send("poison", how)
    after = site.send_many("harmless", 40)

    with pytest.raises(WorkerLost, match=says):
        poison.get(timeout=20)

    assert site.notes() == ["poison"] * 3
    letter = site.redis.hgetall(f"{{streamq}}:dead:default:{poison.id}")
    assert letter["dead_reason"] == "crashed 3 times"
    assert says in letter["dead_error"]
    assert [each.get(timeout=10) for each in [*before, *after]] == [1] * 80
    site.at_rest()
