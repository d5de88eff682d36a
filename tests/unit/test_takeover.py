"""Taking over from many dead at once; time is moved by hand."""

import logging
from types import SimpleNamespace

import pytest

from streamq.broker.leases import Lease, LeaseTable
from streamq.broker.recovery import RecoveryResult
from streamq.transport.keys import Keys
from streamq.worker.lease_view import LeaseViews
from streamq.worker.services.services import PART
from streamq.worker.services.takeover import Takeover

LEASE = 15.0


class Fleet:
    """A recovery that takes a second for each consumer; all of them are dead."""

    keys = Keys("streamq")
    client = SimpleNamespace(ask=lambda *command: [None, None, None])

    def __init__(self, size):
        self.now = 1000.0
        self.table = {f"dead{number}": Lease("1", LEASE) for number in range(size)}

    def list_leases(self, every):
        return LeaseTable(self.now, dict(self.table), [])

    def recover(self, request):
        self.now += 1.0
        del self.table[request.consumer]
        return RecoveryResult()


@pytest.fixture
def fleet(monkeypatch):
    fleet = Fleet(10)
    clock = SimpleNamespace(monotonic=lambda: fleet.now)
    monkeypatch.setattr("streamq.worker.services.takeover.clock", clock)
    monkeypatch.setattr("streamq.worker.services.service.clock", clock)
    return fleet


def takeover_of(fleet):
    """The service, as a worker makes it that has no runners."""
    return Takeover(fleet, fleet, LeaseViews(LEASE), None, None)


def rounds(takeover, fleet):
    """How many checks it takes until nobody is left; each must leave time for a renewal."""
    count = 0
    while fleet.table:
        began, count = fleet.now, count + 1
        takeover.deadline = fleet.now + LEASE * PART
        takeover.check([])
        assert 0 < fleet.now - began < LEASE / 3
        assert not fleet.table or takeover.moment <= fleet.now, "it goes on in the next round"
    return count


def test_a_large_dead_fleet_costs_us_no_lease(fleet):
    takeover = takeover_of(fleet)
    takeover.list_leases()
    for _ in range(6):
        fleet.now += LEASE / 3
        takeover.list_leases()

    assert rounds(takeover, fleet) == 4
    assert takeover.moment > fleet.now


def test_a_large_dead_predecessor_does_not_keep_a_worker_from_starting(fleet, monkeypatch):
    monkeypatch.setattr("streamq.worker.services.takeover.died_here", lambda consumer: True)
    takeover = takeover_of(fleet)
    takeover.deadline = fleet.now + LEASE * PART

    takeover.begin()

    assert len(fleet.table) == 7
    assert rounds(takeover, fleet) == 3


def test_only_who_held_something_is_warned_about(caplog):
    takeover = takeover_of(None)

    with caplog.at_level(logging.INFO, logger="streamq.worker"):
        for moved in (0, 2, 0):
            takeover.report("dead", RecoveryResult(moved=moved), "its lease ran out")

    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING", "INFO"]


def test_a_takeover_for_which_there_is_no_time_goes_on_in_the_next_round(fleet, caplog):
    """The lease table is not read meanwhile: it does not show any more that it was dead."""
    asked, results = [], [RecoveryResult(moved=100, left=True), RecoveryResult(moved=1)]

    def recover(request):
        asked.append(request)
        fleet.table.clear()
        return results.pop(0)

    fleet.table, fleet.recover = {"dead": Lease("1", LEASE)}, recover
    takeover = takeover_of(fleet)
    takeover.predecessors = {"dead"}
    takeover.deadline = 0.0

    takeover.check([])
    assert takeover.moment <= fleet.now, "it goes on in the next round"
    takeover.deadline = fleet.now + 1.0
    takeover.check([])

    assert [each.blame for each in asked] == ["suspected", "suspected"]
    assert [each.expect is None for each in asked] == [False, True]
    assert [each.deadline for each in asked] == ["1", "none"], "the first has ended the lease"
    assert "101 handed back" in caplog.text
    assert takeover.moment > fleet.now
