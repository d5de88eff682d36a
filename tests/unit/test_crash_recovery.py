"""Deaths of runners that cannot be dealt with at once."""

import logging

import pytest

from streamq.broker.recovery import RecoveryRequest, RecoveryResult
from streamq.core.delivery import Delivery
from streamq.errors import BrokerUnavailable
from streamq.transport.replies import Refused
from streamq.worker.services.crash_recovery import CrashRecovery, OpenRecovery
from streamq.worker.services.hard_limits import OVERDUE, ForcedEnd


class Refusing:
    """Recovers nobody: what is asked of it fails in its own way."""

    def __init__(self, **errors):
        self.errors = errors
        self.asked = []

    def recover(self, request):
        self.asked.append(request.consumer)
        if error := self.errors.get(request.consumer):
            raise error


def crash_recovery(recovery, *consumers):
    found = CrashRecovery(recovery, None, None)
    found.open = [
        OpenRecovery(RecoveryRequest(consumer=name, reason="it died", blame="none"), [])
        for name in consumers
    ]
    return found


def test_what_is_refused_keeps_no_other_from_being_recovered_and_is_not_asked_for_all_the_time():
    recovery = Refusing(a=Refused("WRONGTYPE it is not ours"))
    dead = crash_recovery(recovery, "a", "b")

    dead.recover()
    dead.recover()

    assert recovery.asked == ["a", "b"]
    assert [one.request.consumer for one in dead.open] == ["a"]
    assert dead.consumers() == ["a"], "its lease is renewed"

    dead.open[0].retry_at = 0.0
    recovery.errors.clear()
    dead.recover()

    assert recovery.asked == ["a", "b", "a"]
    assert dead.open == []


def test_what_was_refused_is_not_forgotten_when_redis_goes_away():
    recovery = Refusing(a=Refused("WRONGTYPE it is not ours"), b=BrokerUnavailable("away"))
    dead = crash_recovery(recovery, "a", "b", "c")

    with pytest.raises(BrokerUnavailable):
        dead.recover()

    assert [one.request.consumer for one in dead.open] == ["a", "b", "c"]


class Asked:
    """Recovers whatever it is asked for, and refuses to settle forced ends."""

    def __init__(self):
        self.requests, self.refusal = [], Refused("WRONGTYPE the schedule is not ours")

    def settle(self, consumer, forced_ends):
        if self.refusal:
            raise self.refusal

    def recover(self, request):
        self.requests.append((request.blame, request.running))
        return RecoveryResult()

    def deliveries(self, places):
        return [None] * len(places)


def test_a_refused_forced_end_blocks_none_of_its_neighbours():
    redis = Asked()
    overdue, beside = ("mail", b"1-1"), ("mail", b"2-1")
    request = RecoveryRequest(
        consumer="a", reason="it was ended", blame="none", running=[overdue, beside]
    )
    dead = CrashRecovery(redis, redis, None)
    dead.open = [OpenRecovery(request, [ForcedEnd(*overdue, OVERDUE)])]

    dead.recover()

    assert redis.requests == [("kept", [overdue])]
    assert dead.consumers() == ["a"], "its lease is renewed"

    dead.open[0].retry_at, redis.refusal = 0.0, None
    dead.recover()

    assert redis.requests == [("kept", [overdue]), ("none", [overdue, beside])]
    assert dead.consumers() == []


class Knowing:
    """Recovers everybody, and can read what they were running."""

    def __init__(self, recovered, *, refusing=False):
        self.recovered = recovered
        self.refusing = refusing

    def deliveries(self, places):
        if self.refusing:
            raise Refused("WRONGTYPE it is not ours")
        return [
            Delivery(stream, entry, {b"id": entry, b"task": b"t"}) for _, (stream, entry) in places
        ]

    def recover(self, request):
        return self.recovered


def said_of(recovery, caplog, *, running, blame):
    caplog.set_level(logging.INFO)
    dead = CrashRecovery(recovery, None, None)
    places = [("mail", b"%d-1" % number) for number in range(running)]
    dead.open = [
        OpenRecovery(
            RecoveryRequest(consumer="a", reason="it died", blame=blame, running=places), []
        )
    ]
    dead.recover()
    (line,) = caplog.messages
    return line


def test_a_death_is_told_with_the_tasks_that_it_has_met(caplog):
    line = said_of(Knowing(RecoveryResult(moved=2)), caplog, running=2, blame="suspected")

    assert line.startswith("it died; running: t[0-1], t[1-1]; 2 handed back, ")


def test_a_task_that_is_lost_when_its_worker_is_stopped_is_named(caplog):
    line = said_of(Knowing(RecoveryResult(moved=1, lost=1)), caplog, running=1, blame="none")

    assert line == (
        "1 message handed back, 1 failed as WorkerLost, 0 dead-lettered; running: t[0-1]"
    )


def test_a_task_without_a_result_that_is_lost_when_its_worker_is_stopped_is_warned_of(caplog):
    line = said_of(Knowing(RecoveryResult(dead_lettered=1)), caplog, running=1, blame="none")

    assert "0 failed as WorkerLost, 1 dead-lettered; running: t[0-1]" in line
    assert caplog.records[0].levelname == "WARNING"


def test_a_death_that_cost_nothing_counts_nothing(caplog):
    assert said_of(Knowing(RecoveryResult()), caplog, running=0, blame="suspected") == "it died"


def test_of_many_tasks_some_are_named(caplog):
    line = said_of(Knowing(RecoveryResult(moved=100)), caplog, running=100, blame="suspected")

    assert "t[19-1] and 80 more; 100 handed back" in line
    assert "t[20-1]" not in line


def test_names_that_cannot_be_read_delay_no_recovery(caplog):
    recovery = Knowing(RecoveryResult(moved=1), refusing=True)

    line = said_of(recovery, caplog, running=1, blame="sole_task")

    assert line.startswith("it died; 1 handed back, ")


class Slow:
    """Recovers a consumer in three calls."""

    def __init__(self):
        self.results = [
            RecoveryResult(moved=100, left=True),
            RecoveryResult(moved=100, quarantined=1, left=True),
            RecoveryResult(moved=5),
        ]

    def recover(self, request):
        assert request.deadline == "", "its lease is this worker's own, and stays"
        return self.results.pop(0)


def test_a_recovery_for_which_there_is_no_time_goes_on_in_the_next_round(caplog):
    caplog.set_level(logging.INFO)
    recovery, quarantined = Slow(), []
    dead = CrashRecovery(recovery, None, lambda: quarantined.append(True))
    dead.open = crash_recovery(recovery, "a").open
    dead.deadline = 0.0  # a renewal is due all the time

    for left in (2, 1):
        dead.recover()
        assert len(recovery.results) == left
        assert dead.consumers() == ["a"], "its lease is renewed"
        assert dead.due() == 0.0
    dead.recover()

    assert dead.consumers() == []
    assert quarantined == [True]
    assert caplog.messages == [
        "205 messages handed back, 0 failed as WorkerLost, 0 dead-lettered",
    ]
