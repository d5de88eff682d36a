"""Whether a supervisor may judge others: only what it has seen without a break counts."""

from types import SimpleNamespace

import pytest

from streamq.broker.leases import Lease, Leases
from streamq.transport.keys import Keys
from streamq.worker.lease_view import ForeignLeases, LeaseView, LeaseViews

LEASE = 15.0


class Watching:
    """A view that sees Redis every 5 s; both clocks are moved by hand."""

    def __init__(self):
        self.view, self.now, self.server = LeaseView(LEASE), 100.0, 5000.0

    def see(self, seconds=5.0, *, jump=0.0, took=0.0):
        self.now += seconds
        self.server += seconds + jump
        self.view.record_answer(self.server, sent=self.now - took, now=self.now)
        return self.view.is_reliable(self.now)

    def watch(self, seconds):
        return [self.see() for _ in range(int(seconds / 5))][-1]


def test_it_takes_one_and_a_half_leases_of_unbroken_view():
    watching = Watching()

    seen = [watching.see() for _ in range(6)]

    assert seen == [False, False, False, False, False, True]


@pytest.mark.parametrize(
    ("name", "trouble"),
    [
        ("an outage", lambda w: w.view.reset()),
        ("a jump of the clock by an hour", lambda w: w.see(jump=3600)),
        ("a jump back", lambda w: w.see(jump=-3600)),
        ("an answer that took long", lambda w: w.see(took=6.0)),
        ("a long silence of our own", lambda w: w.see(40.0)),
    ],
)
def test_a_break_begins_it_anew(name, trouble):
    watching = Watching()
    assert watching.watch(60)

    trouble(watching)

    assert not watching.see()
    assert not watching.watch(15)
    assert watching.watch(15)


def test_small_drifts_do_no_harm():
    watching = Watching()

    assert all(watching.see(jump=drift) or True for drift in (0.5, -0.5, 1.0, -1.0, 0.2, 0.0))
    assert watching.see()


def test_the_servers_time_is_foreseen():
    watching = Watching()
    watching.see()

    assert watching.view.server_time(watching.now + 3) == watching.server + 3


def lease(seconds, length=LEASE):
    """A lease that ends at this moment of the server."""
    return Lease(f"{seconds * 1000:.0f}", length)


def test_a_lease_that_has_run_out_is_seen():
    others = ForeignLeases()
    table = {"a": lease(5010), "b": lease(5020)}

    assert others.update(table, server=5000, now=0) == []
    assert others.next_end(server=5000) == 10
    assert others.update(table, server=5011, now=11) == ["a"]


def test_who_renews_lives():
    others = ForeignLeases()

    for second in range(0, 100, 5):
        table = {"a": lease(5000 + second + LEASE)}
        assert others.update(table, server=5000 + second, now=second) == []


def test_a_clock_that_jumped_back_does_not_keep_the_dead_alive():
    others = ForeignLeases()
    table = {"dead": lease(5015)}
    others.update(table, server=5000, now=0)

    found = [s for s in range(1, 60) if others.update(table, server=1400 + s, now=s)]

    assert found[0] == 23, "1.5 leases"


def test_after_such_a_jump_the_living_stay_alive():
    others = ForeignLeases()
    others.update({"a": lease(5015)}, server=5000, now=0)

    for second in range(5, 300, 5):
        server = 1400 + second
        assert others.update({"a": lease(server + LEASE)}, server=server, now=second) == []


def test_who_only_sees_a_deadline_far_ahead_finds_the_dead_as_soon():
    others = ForeignLeases()
    table = {"dead": lease(5000 + 3600)}

    ends = [s for s in range(0, 600) if others.update(table, server=5000 + s, now=s)]

    assert ends[0] == 23


# Leases of several lengths in one fleet

LONG, SHORT = 600.0, 2.0


class Fleet:
    """One worker of each length of lease, and one that watches them; time is moved by hand."""

    def __init__(self, own):
        self.views, self.others = LeaseViews(own), ForeignLeases()
        self.now, self.server = 100.0, 5000.0
        self.table = {}
        self.renewed = {SHORT: 0.0, LONG: 0.0}
        self.living = {SHORT, LONG}
        self.away = False

    def step(self, *, jump=0.0):
        """Half a second passes; return who is found dead."""
        self.now += 0.5
        self.server += 0.5 + jump
        if self.away:
            self.views.reset()
            return []
        for length in self.living:
            if self.now - self.renewed[length] >= length / 3:
                self.renewed[length] = self.now
                self.table[length] = lease(self.server + length, length)
        table = self.read()
        self.views.set_lengths({each.length for each in table.values()})
        self.views.record_answer(self.server, sent=self.now, now=self.now)
        ended = self.others.update(table, server=self.server, now=self.now)
        return [
            name for name in ended if self.views.by_length[table[name].length].is_reliable(self.now)
        ]

    def read(self):
        """The lease table as it is seen."""
        return self.table

    def watch(self, seconds):
        """The first moment at which each of them was found dead."""
        began, found = self.now, {}
        while self.now - began < seconds:
            for length in self.step():
                found.setdefault(length, self.now - began)
        return found


@pytest.mark.parametrize("own", [SHORT, LONG])
def test_the_living_are_judged_by_their_own_lease(own):
    assert Fleet(own).watch(4 * LONG) == {}


@pytest.mark.parametrize("own", [SHORT, LONG])
@pytest.mark.parametrize("away", [3.0, 300.0, 2000.0])
def test_after_an_outage_nobody_takes_from_leases_of_another_length(own, away):
    fleet = Fleet(own)
    fleet.watch(2 * LONG)

    fleet.away = True
    fleet.watch(away)
    fleet.away = False

    assert fleet.watch(2 * LONG) == {}


@pytest.mark.parametrize("own", [SHORT, LONG])
@pytest.mark.parametrize("jump", [3600, -3600])
def test_a_jump_of_the_clock_kills_nobody_whatever_the_lengths(own, jump):
    fleet = Fleet(own)
    fleet.watch(2 * LONG)

    assert fleet.step(jump=jump) == []
    assert fleet.watch(2 * LONG) == {}


@pytest.mark.parametrize("own", [SHORT, LONG])
def test_the_dead_are_found_within_their_own_lease(own):
    fleet = Fleet(own)
    fleet.watch(2 * LONG)

    fleet.living = set()
    found = fleet.watch(2 * LONG)

    assert found.keys() == {SHORT, LONG}
    assert all(took <= length + 1 for length, took in found.items())


@pytest.mark.parametrize("own", [SHORT, LONG])
def test_the_dead_are_found_within_one_and_a_half_of_their_leases_after_a_jump_back(own):
    fleet = Fleet(own)
    fleet.watch(2 * LONG)

    fleet.living = set()
    fleet.step(jump=-3600)
    found = fleet.watch(3 * LONG)

    assert found.keys() == {SHORT, LONG}
    assert all(took <= 1.5 * length + 1 for length, took in found.items())


class Unsaid(Fleet):
    """Workers of an older version: they do not say how long their leases last."""

    def __init__(self, own):
        super().__init__(own)
        self.leases = Leases(SimpleNamespace(call=self.answer), Keys("q"), lease=own)

    def answer(self, *_):
        deadlines = {str(length): each.deadline for length, each in self.table.items()}
        flat = [part.encode() for pair in deadlines.items() for part in pair]
        return self.server * 1000, flat, [], []

    def read(self):
        table = self.leases.list_leases(1).table
        return {length: table[str(length)] for length in self.table}


@pytest.mark.parametrize("own", [2.0, 15.0, 100.0])
def test_who_does_not_say_how_long_its_lease_lasts_is_left_alone_while_it_renews(own):
    assert Unsaid(own).watch(4 * LONG) == {}


@pytest.mark.parametrize("own", [2.0, 15.0, 100.0])
def test_who_did_not_say_how_long_its_lease_lasts_is_found_dead_all_the_same(own):
    fleet = Unsaid(own)
    fleet.watch(2 * LONG)

    fleet.living = set()
    found = fleet.watch(3 * LONG)

    assert found.keys() == {SHORT, LONG}
    assert found[LONG] <= 1.5 * (LONG + own)


def test_a_lease_of_which_nothing_makes_sense_ends_some_day():
    fleet = Unsaid(15.0)
    for deadline in ("inf", "-inf", "9e15"):
        fleet.table = {LONG: Lease(deadline, 0.0)}

        assert 15 <= fleet.read()[LONG].length <= 3600
