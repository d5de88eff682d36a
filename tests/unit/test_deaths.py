"""Deaths of runners that cannot be dealt with at once."""

import logging

import pytest

from streamq.broker.recovery import Case, Recovered
from streamq.core.delivery import Delivery
from streamq.errors import BrokerUnavailable
from streamq.transport.replies import Refused
from streamq.worker.services.crash_recovery import Deaths, Open
from streamq.worker.services.hard_limits import OVERDUE, Verdict


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

    def deliveries(self, places):
        return [None] * len(places)


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


class Knowing:
    """Recovers everybody, and can read what they had in hand."""

    def __init__(self, recovered, *, refusing=False):
        self.recovered = recovered
        self.refusing = refusing

    def deliveries(self, places):
        if self.refusing:
            raise Refused("WRONGTYPE it is not ours")
        return [
            Delivery(stream, entry, {b"id": entry, b"task": b"t"}) for _, (stream, entry) in places
        ]

    def recover(self, case):
        return self.recovered


def said_of(recovery, caplog, *, running, charge):
    caplog.set_level(logging.INFO)
    dead = Deaths(recovery, None)
    places = [("mail", b"%d-1" % number) for number in range(running)]
    dead.open = [Open(Case(consumer="a", reason="it died", charge=charge, running=places), [])]
    dead.recover()
    (line,) = caplog.messages
    return line


def test_a_death_is_told_with_the_tasks_that_it_has_met(caplog):
    line = said_of(Knowing(Recovered(moved=2)), caplog, running=2, charge="suspects")

    assert line.startswith("it died; in hand: t[0-1], t[1-1]; 2 handed back, ")


def test_a_task_that_is_lost_when_its_worker_is_stopped_is_named(caplog):
    line = said_of(Knowing(Recovered(moved=1, lost=1)), caplog, running=1, charge="none")

    assert line == (
        "1 message handed back, 1 failed as WorkerLost, 0 dead-lettered; in hand: t[0-1]"
    )


def test_a_task_without_a_result_that_is_lost_when_its_worker_is_stopped_is_warned_of(caplog):
    line = said_of(Knowing(Recovered(buried=1)), caplog, running=1, charge="none")

    assert "0 failed as WorkerLost, 1 dead-lettered; in hand: t[0-1]" in line
    assert caplog.records[0].levelname == "WARNING"


def test_a_death_that_cost_nothing_counts_nothing(caplog):
    assert said_of(Knowing(Recovered()), caplog, running=0, charge="suspects") == "it died"


def test_of_many_tasks_some_are_named(caplog):
    line = said_of(Knowing(Recovered(moved=100)), caplog, running=100, charge="suspects")

    assert "t[19-1] and 80 more; 100 handed back" in line
    assert "t[20-1]" not in line


def test_names_that_cannot_be_read_delay_no_recovery(caplog):
    recovery = Knowing(Recovered(moved=1), refusing=True)

    line = said_of(recovery, caplog, running=1, charge="alone")

    assert line.startswith("it died; 1 handed back, ")
