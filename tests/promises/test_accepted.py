"""P1: accepted means kept, once."""

from tests.system.test_lost_replies import (
    behind,  # noqa: F401 - a fixture
    killed_after_sending,
)


def test_a_producer_that_dies_and_sends_again_with_the_same_id_sends_once(behind, proxy):
    assert killed_after_sending(behind, proxy, "order-1") == 1
    behind.redis.expire("{streamq}:task:order-1", 1)
    behind.at_rest()
