"""Where a task stands, and a message that was copied to several queues."""

import itertools

import pytest

from streamq.states import FINAL, State, combined


def test_three_states_are_final():
    assert {"SUCCESS", "FAILURE", "REVOKED"} == FINAL


@pytest.mark.parametrize(
    ("states", "together"),
    [
        (["SUCCESS", "SUCCESS"], "SUCCESS"),
        (["SUCCESS", "FAILURE"], "FAILURE"),
        (["QUEUED", "FAILURE"], "FAILURE"),
        (["SUCCESS", "STARTED"], "STARTED"),
        (["STARTED", "QUEUED"], "QUEUED"),
        (["QUEUED", "SCHEDULED"], "SCHEDULED"),
        (["RETRY", "STARTED"], "RETRY"),
        (["PROGRESS", "STARTED"], "STARTED"),
        (["SUCCESS", "PROGRESS"], "PROGRESS"),
        (["REVOKED", "SUCCESS"], "REVOKED"),
        (["REVOKED", "REVOKED"], "REVOKED"),
        (["UNKNOWN", "QUEUED"], "UNKNOWN"),
    ],
)
def test_copies_together_are_as_far_as_the_least_advanced(states, together):
    assert combined(states) == together
    assert combined(states[::-1]) == together


def test_one_copy_stands_where_it_stands():
    for state in State:
        assert combined([state]) == state


def test_no_mixture_is_a_success_unless_all_are():
    for states in itertools.product(State, repeat=3):
        assert (combined(list(states)) == "SUCCESS") == (set(states) == {"SUCCESS"})
