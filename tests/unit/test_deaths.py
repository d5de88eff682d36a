"""Deaths of runners that cannot be dealt with at once."""

import pytest

from streamq.errors import BrokerUnavailable
from streamq.store.recovery import Case, Recovered
from streamq.store.replies import Refused
from streamq.worker.deaths import Deaths, Open
from streamq.worker.verdicts import OVERDUE, Verdict


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


class Asked:
    """Recovers whatever it is asked for, and refuses verdicts."""

    def __init__(self):
        self.cases, self.refusal = [], Refused("WRONGTYPE the timetable is not ours")

    def settle(self, consumer, verdicts):
        if self.refusal:
            raise self.refusal

    def recover(self, case):
        self.cases.append((case.charge, case.running))
        return Recovered()


def test_a_verdict_that_is_refused_holds_none_of_its_neighbours():
    redis = Asked()
    overdue, beside = ("mail", b"1-1"), ("mail", b"2-1")
    case = Case(consumer="a", reason="it was ended", charge="none", running=[overdue, beside])
    dead = Deaths(redis, redis)
    dead.open = [Open(case, [Verdict(*overdue, OVERDUE)])]

    dead.recover()

    assert redis.cases == [("kept", [overdue])]
    assert dead.held() == ["a"], "its lease is renewed"

    dead.open[0].again, redis.refusal = 0.0, None
    dead.recover()

    assert redis.cases == [("kept", [overdue]), ("none", [overdue, beside])]
    assert dead.held() == []
