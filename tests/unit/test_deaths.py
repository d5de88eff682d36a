"""Deaths of runners that cannot be dealt with at once."""

import pytest

from streamq.errors import BrokerUnavailable
from streamq.store.recovery import Case
from streamq.store.replies import Refused
from streamq.worker.deaths import Deaths, Open


class Refusing:
    """Recovers nobody: what is asked of it fails in its own way."""

    def __init__(self, **errors):
        self.errors = errors
        self.asked = []

    def recover(self, case):
        self.asked.append(case.consumer)
        if error := self.errors.get(case.consumer):
            raise error


def deaths(recovery, *consumers):
    found = Deaths(recovery, None)
    found.open = [
        Open(Case(consumer=name, reason="it died", charge="none"), []) for name in consumers
    ]
    return found


def test_what_is_refused_keeps_no_other_from_being_recovered_and_is_not_asked_for_all_the_time():
    recovery = Refusing(a=Refused("WRONGTYPE it is not ours"))
    dead = deaths(recovery, "a", "b")

    dead.recover()
    dead.recover()

    assert recovery.asked == ["a", "b"]
    assert [one.case.consumer for one in dead.open] == ["a"]
    assert dead.held() == ["a"], "its lease is renewed"

    dead.open[0].again = 0.0
    recovery.errors.clear()
    dead.recover()

    assert recovery.asked == ["a", "b", "a"]
    assert dead.open == []


def test_what_was_refused_is_not_forgotten_when_redis_goes_away():
    recovery = Refusing(a=Refused("WRONGTYPE it is not ours"), b=BrokerUnavailable("away"))
    dead = deaths(recovery, "a", "b", "c")

    with pytest.raises(BrokerUnavailable):
        dead.recover()

    assert [one.case.consumer for one in dead.open] == ["a", "b", "c"]
