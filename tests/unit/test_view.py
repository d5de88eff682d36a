"""Whether a supervisor may judge others: only what it has seen without a break counts."""

import pytest

from streamq.worker.view import Others, View

LEASE = 15.0


class Watching:
    """A view that sees Redis every 5 s; both clocks are moved by hand."""

    def __init__(self):
        self.view, self.now, self.server = View(LEASE), 100.0, 5000.0

    def see(self, seconds=5.0, *, jump=0.0, took=0.0):
        self.now += seconds
        self.server += seconds + jump
        self.view.saw(self.server, sent=self.now - took, now=self.now)
        return self.view.clear(self.now)

    def watch(self, seconds):
        return [self.see() for _ in range(int(seconds / 5))][-1]


def test_it_takes_one_and_a_half_leases_of_unbroken_view():
    watching = Watching()

    seen = [watching.see() for _ in range(6)]

    assert seen == [False, False, False, False, False, True]


@pytest.mark.parametrize(
    ("name", "trouble"),
    [
        ("an outage", lambda w: w.view.broke()),
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

    assert watching.view.time(watching.now + 3) == watching.server + 3


def at(seconds):
    return f"{seconds * 1000:.0f}"


def test_a_lease_that_has_run_out_is_seen():
    others = Others(LEASE)

    assert others.look({"a": at(5010), "b": at(5020)}, server=5000, now=0) == []
    assert others.next_end(server=5000) == 10
    assert others.look({"a": at(5010), "b": at(5020)}, server=5011, now=11) == ["a"]


def test_who_renews_lives():
    others = Others(LEASE)

    for second in range(0, 100, 5):
        table = {"a": at(5000 + second + LEASE)}
        assert others.look(table, server=5000 + second, now=second) == []


def test_a_clock_that_jumped_back_does_not_keep_the_dead_alive():
    others = Others(LEASE)
    table = {"dead": at(5015)}
    others.look(table, server=5000, now=0)

    found = [others.look(table, server=1400 + second, now=second) for second in range(5, 60, 5)]

    assert found[:4] == [[], [], [], []]
    assert found[-1] == ["dead"]


def test_after_such_a_jump_the_living_stay_alive():
    others = Others(LEASE)
    others.look({"a": at(5015)}, server=5000, now=0)

    for second in range(5, 300, 5):
        server = 1400 + second
        assert others.look({"a": at(server + LEASE)}, server=server, now=second) == []


def test_who_sees_a_jump_back_knows_what_was_written_before_it():
    """A dead worker renewed its lease just before the jump, and nobody had seen that yet."""
    watching, others = Watching(), Others(LEASE)
    watching.see()
    dead = at(watching.server + 13)

    def look():
        table = {"dead": dead, "living": at(watching.server + LEASE)}
        view = watching.view
        server, behind = watching.server, view.take_behind()
        return others.look(table, server=server, now=watching.now, behind=behind)

    watching.see(jump=-3600)
    found = [look()]
    for _ in range(8):
        watching.see()
        found.append(look())

    assert found == [[]] * 5 + [["dead"]] * 4, "8 s that it had to go, and a lease"


def test_who_only_sees_a_deadline_far_ahead_waits_for_a_while():
    others = Others(LEASE)
    table = {"dead": at(5000 + 3600)}

    ends = [s for s in range(0, 600, 5) if others.look(table, server=5000 + s, now=s)]

    assert 120 <= ends[0] <= 150
