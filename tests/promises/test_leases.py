"""P5 and P6: who is dead is recovered, and settles nothing afterwards."""

from tests.system.test_cut_off import (
    late_settlement,
    short,  # noqa: F401 - a fixture
)
from tests.system.test_hosts import restart_on_the_same_host
from tests.system.traffic import comes_to_rest


def test_a_worker_that_starts_on_the_same_host_takes_over_at_once(site):
    """The lease is 15 seconds: it is not waited for."""
    restart_on_the_same_host(site, seconds=10)


def test_of_two_that_race_for_a_result_only_the_owner_has_it(short, server, proxy):
    loser, winner, value = late_settlement(short, server, proxy)

    assert loser != winner
    assert value == winner
    comes_to_rest(short)
