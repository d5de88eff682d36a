"""When a task is tried again, and after how long."""

import pytest

from streamq.core.options import checked
from streamq.core.retry import RetryPolicy, class_names
from streamq.errors import Ignore, Reject, Retry


class Late(TimeoutError):
    pass


def pauses(policy, count, chance=0.999999):
    return [policy.pause(retries, chance) for retries in range(count)]


def test_without_backoff_every_pause_is_the_same():
    assert pauses(RetryPolicy(delay=180), 3) == [180, 180, 180]


@pytest.mark.parametrize(
    ("backoff", "expected"),
    [
        (1.0, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]),
        (5.0, [5, 10, 20, 40, 80, 160, 320, 600, 600, 600, 600, 600]),
        (0.5, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]),
    ],
)
def test_pauses_double_up_to_their_ceiling(backoff, expected):
    assert pauses(RetryPolicy(backoff=backoff, jitter=False), 12) == expected


def test_a_pause_stays_at_its_ceiling_however_often_it_was_tried():
    assert RetryPolicy(backoff=1, jitter=False).pause(10**9, 0.5) == 600


def test_jitter_is_a_whole_number_from_none_to_the_pause():
    policy = RetryPolicy(backoff=5)

    found = {policy.pause(1, step / 1000) for step in range(1000)}
    assert found == set(map(float, range(11)))


@pytest.mark.parametrize(
    ("most", "allowed"), [(0, 0), (3, 3), (None, 50)], ids=["never", "three times", "for ever"]
)
def test_a_task_is_tried_again_as_often_as_it_may_be(most, allowed):
    policy = RetryPolicy(max_retries=most)

    assert sum(policy.allows(retries) for retries in range(50)) == allowed


def test_only_what_was_named_is_tried_again_and_its_subclasses():
    policy = RetryPolicy(autoretry_for=class_names([OSError]))

    assert policy.wants(TimeoutError())
    assert policy.wants(Late())
    assert not policy.wants(ValueError())
    assert not RetryPolicy().wants(OSError())


def test_an_exception_to_the_rule_wins():
    policy = RetryPolicy(
        autoretry_for=class_names([Exception]), dont_autoretry_for=class_names([TimeoutError])
    )

    assert policy.wants(OSError())
    assert not policy.wants(Late())


@pytest.mark.parametrize("directive", [Retry(), Reject(), Ignore()])
def test_what_a_task_says_itself_is_not_tried_again(directive):
    assert not RetryPolicy(autoretry_for=class_names([Exception])).wants(directive)


def test_options_of_a_task_change_the_policy():
    options = checked(
        {
            **{"max_retries": None, "default_retry_delay": "2s", "autoretry_for": KeyError},
            **{"retry_backoff": True, "retry_backoff_max": 5, "retry_jitter": False},
        }
    )

    policy = RetryPolicy().changed(options)

    assert (policy.max_retries, policy.delay) == (None, 2.0)
    assert policy.wants(KeyError())
    assert pauses(policy, 4) == [1, 2, 4, 5]
