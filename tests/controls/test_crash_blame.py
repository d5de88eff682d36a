"""Controls of `tests/system/test_crash_blame.py`: what its tests must see is broken on purpose."""

import pytest

from tests.system.faults import letters
from tests.system.test_crash_blame import (
    poison_beside_greenlets,
    poison_that_kills_workers,
    runner_dies_while_its_supervisor_is_slow,
)


def test_the_check_finds_messages_that_are_dead_lettered_without_quarantine(site):
    site.changed_package(
        "recover.lua",
        "local ran_alone = blame == 'sole_task' or place == sole_task",
        "local ran_alone = true",
    )
    _, innocents = poison_beside_greenlets(site)

    assert {"FAILURE"} & {state for state, _ in site.states(innocents)}
    assert len(letters(site)) > 1


@pytest.mark.timeout(180)
def test_the_check_finds_starts_that_are_not_noted_before_poison_kills_its_worker(site):
    """Without the note, nobody knows that it ran alone: it is suspected again and again."""
    site.changed_module(
        "streamq/runner/pools/task_threads.py",
        "                self.hand_back(partial(self.prefetch.note_sole_task, delivery))\n",
        "                pass\n",
    )
    with pytest.raises(AssertionError, match="the poison is dead_lettered"):
        poison_that_kills_workers(site, seconds=30)


def test_the_check_finds_a_worker_that_takes_over_beside_a_living_supervisor(site):
    site.changed_module(
        "streamq/worker/services/takeover.py", "if node_of(consumer) in stopped", ""
    )

    _, starting = runner_dies_while_its_supervisor_is_slow(site)

    assert "is dead, its process is gone" in starting
