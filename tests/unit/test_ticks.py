"""Ticks: which moments run, which were missed, and what comes next."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamq.core.ticks import GRACE, MOST_CAUGHT_UP, Plan, Timing, tick_id

SECOND = 1000


def timing(every=10 * SECOND, **rules):
    return Timing(name="beat", next_after=lambda moment: (moment // every + 1) * every, **rules)


@pytest.mark.parametrize(
    ("rules", "now", "expected"),
    [
        ({}, 20_000, Plan(20_000, 0, 30_000)),
        ({}, 29_999, Plan(20_000, 0, 30_000)),
        ({}, 65_000, Plan(60_000, 4, 70_000)),  # one for all
        ({"catch_up": "all"}, 65_000, Plan(20_000, 0, 30_000)),  # then the next one
        ({"catch_up": "none"}, 65_000, Plan(60_000, 4, 70_000)),  # the last is 5 s late
        ({"deadline": 4_000}, 65_000, Plan(None, 5, 70_000)),
        ({"deadline": 5_000}, 65_000, Plan(60_000, 4, 70_000)),
        ({"catch_up": "all", "deadline": 15_000}, 65_000, Plan(50_000, 3, 60_000)),
        ({"catch_up": "all", "deadline": 1_000}, 65_000, Plan(None, 5, 70_000)),
    ],
)
def test_what_runs_after_an_outage(rules, now, expected):
    assert timing(**rules).plan(20_000, now) == expected


def test_none_leaves_out_what_is_older_than_a_restart():
    daily = timing(every=86_400_000, catch_up="none")

    assert daily.plan(86_400_000, 86_400_000 + GRACE).runs == 86_400_000
    assert daily.plan(86_400_000, 86_400_001 + GRACE) == Plan(None, 1, 2 * 86_400_000)


def test_what_falls_into_a_pause_is_not_missed():
    assert timing().plan(20_000, 65_000, since=52_000) == Plan(60_000, 0, 70_000)
    assert timing().plan(20_000, 65_000, since=42_000) == Plan(60_000, 1, 70_000)
    assert timing().plan(20_000, 65_000, since=64_000) == Plan(None, 0, 70_000)


def test_all_runs_a_hundred_at_most_in_order():
    often, nominal, now = timing(catch_up="all"), 10_000, 10_000 + 5_000_000
    first = often.plan(nominal, now)

    assert first == Plan(nominal + 401 * 10_000, 401, nominal + 402 * 10_000)
    runs, plan = [first.runs], first
    while plan.next <= now:
        plan = often.plan(plan.next, now)
        runs.append(plan.runs)
        assert plan.missed == 0
    assert len(runs) == MOST_CAUGHT_UP
    assert runs == sorted(runs)


def test_very_many_missed_moments_are_not_counted_one_by_one():
    calls = []

    def next_after(moment):
        calls.append(moment)
        return moment + 1 if moment < 10**9 else None

    plan = Timing(name="x", next_after=next_after).plan(0, 10**8)

    assert plan.runs == 10**8
    assert plan.next == 10**8 + 1
    assert 900 <= plan.missed <= 1000
    assert len(calls) < 20_000


def test_a_schedule_ends():
    once = Timing(name="once", next_after=lambda moment: 5_000 if moment < 5_000 else None)

    assert once.first_due(0) == 5_000
    assert once.first_due(5_000) is None
    assert once.plan(5_000, 9_000) == Plan(5_000, 0, None)


@given(jitter=st.integers(0, 30_000), number=st.integers(1, 10**6))
def test_jitter_delays_within_its_bounds_and_keeps_the_order(jitter, number):
    spread, nominal = timing(jitter=jitter), number * 10_000

    due = spread.due(nominal)

    assert nominal <= due <= nominal + min(jitter, 9_999)
    assert due < spread.due(nominal + 10_000)
    assert spread.nominal(due) == nominal
    assert spread.due(nominal) == due


def test_jitter_differs_by_name_and_moment():
    one, other = timing(jitter=9_000), Timing(**{**vars(timing(jitter=9_000)), "name": "other"})

    assert len({one.due(n * 10_000) % 10_000 for n in range(50)}) > 30
    assert [one.due(n * 10_000) for n in range(9)] != [other.due(n * 10_000) for n in range(9)]


def test_a_moment_that_the_code_does_not_know_is_taken_as_it_is():
    assert timing(jitter=3_000).nominal(54_321) == 54_321


def test_ids_name_the_moment_in_utc():
    assert tick_id("nightly", 1_796_005_800_000) == "nightly-20261130T023000Z"
    assert tick_id("often", 1_796_005_800_250) == "often-20261130T023000.250Z"
