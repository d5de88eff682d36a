"""The lease table, and those who are dead whatever it says, straight at Redis."""

import pytest

from tests.conftest import Scripts


@pytest.fixture
def survey(redis, keys, desk):
    """Survey at a moment, in milliseconds; groups are looked at every 1000."""

    def survey(now):
        clock = f"local function clock() return {now} end"
        redis.delete("{streamq}:survey")
        return Scripts(redis, keys.root, clock)("survey", 1000)

    return survey


def test_the_table_is_told_with_its_deadlines_and_the_time(survey, scripts):
    now, leases, orphans, lasting = survey(5000)

    assert (now, orphans) == (5000, [])
    assert leases[0] == "me"
    assert float(leases[1]) > 15_000
    assert lasting == ["me", "15000"]


def test_a_consumer_without_a_lease_is_named_when_it_is_seen_twice(survey, desk):
    desk.take("a")
    desk.redis.zrem("{streamq}:leases", "me")

    assert survey(5000)[2] == []
    assert survey(5999)[2] == []
    assert survey(6000)[2] == ["me"]


def test_a_consumer_that_has_a_lease_is_never_named(survey, desk):
    desk.take("a")

    assert survey(5000)[2] == survey(7000)[2] == []


def test_the_groups_are_looked_at_by_one_worker_at_a_time(desk, scripts):
    desk.take("a")
    desk.redis.zrem("{streamq}:leases", "me")

    for _ in range(3):
        scripts("survey", 60_000)

    assert desk.redis.zcard("{streamq}:orphans") == 1
    assert 0 < desk.redis.pttl("{streamq}:survey") <= 60_000
    assert desk.redis.pttl("{streamq}:orphans") > 0


def test_who_looks_seldom_keeps_nobody_from_looking_more_often(desk, scripts):
    desk.take("a")
    desk.redis.zrem("{streamq}:leases", "me")
    scripts("survey", 60_000)
    desk.redis.delete("{streamq}:orphans")

    scripts("survey", 1000)

    assert desk.redis.zcard("{streamq}:orphans") == 1
    assert 0 < desk.redis.pttl("{streamq}:survey") <= 1000
    desk.redis.delete("{streamq}:orphans")
    scripts("survey", 60_000)
    assert desk.redis.zcard("{streamq}:orphans") == 0, "the turn is taken"


def test_what_is_known_of_orphans_goes_although_workers_go_on_looking(survey, desk):
    desk.take("a")
    desk.redis.zrem("{streamq}:leases", "me")
    survey(5000)
    desk.redis.pexpire("{streamq}:orphans", 500)

    assert survey(5500)[2] == []

    assert 0 < desk.redis.pttl("{streamq}:orphans") <= 500
