"""The pauses between attempts."""

from streamq.core.backoff import Backoff


def test_each_pause_is_twice_the_one_before_up_to_the_longest():
    backoff = Backoff(first=0.05, longest=1.0)

    assert [backoff.next() for _ in range(7)] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert backoff.tries == 7
    backoff.reset()
    assert backoff.next() == 0.05


def test_any_number_of_attempts_has_a_pause():
    assert Backoff(first=0.5, longest=10.0).pause(10**9) == 10.0
