"""The lease table, and those who are dead whatever it says, straight at Redis."""

import pytest

from tests.conftest import Scripts


@pytest.fixture
def survey(redis, keys, consumer):
    """Survey at a moment, in milliseconds; groups are looked at every 1000."""

    def survey(now):
        clock = f"local function clock() return {now} end"
        redis.delete("{streamq}:group_scan")
        return Scripts(redis, keys.root, clock)("list_leases", 1000)

    return survey


def test_the_table_is_told_with_its_deadlines_and_the_time(survey, scripts):
    now, leases, orphans, lasting = survey(5000)

    assert (now, orphans) == (5000, [])
    assert leases[0] == "me"
    assert float(leases[1]) > 15_000
    assert lasting == ["me", "15000"]


def test_a_consumer_without_a_lease_is_named_when_it_is_seen_twice(survey, consumer):
    consumer.take("a")
    consumer.redis.zrem("{streamq}:leases", "me")

    assert survey(5000)[2] == []
    assert survey(5999)[2] == []
    assert survey(6000)[2] == ["me"]


def test_a_consumer_that_has_a_lease_is_never_named(survey, consumer):
    consumer.take("a")

    assert survey(5000)[2] == survey(7000)[2] == []


def test_the_groups_are_looked_at_by_one_worker_at_a_time(consumer, scripts):
    consumer.take("a")
    consumer.redis.zrem("{streamq}:leases", "me")

    for _ in range(3):
        scripts("list_leases", 60_000)

    assert consumer.redis.zcard("{streamq}:orphans") == 1
    assert 0 < consumer.redis.pttl("{streamq}:group_scan") <= 60_000
    assert consumer.redis.pttl("{streamq}:orphans") > 0


def test_who_looks_seldom_keeps_nobody_from_looking_more_often(consumer, scripts):
    consumer.take("a")
    consumer.redis.zrem("{streamq}:leases", "me")
    scripts("list_leases", 60_000)
    consumer.redis.delete("{streamq}:orphans")

    scripts("list_leases", 1000)

    assert consumer.redis.zcard("{streamq}:orphans") == 1
    assert 0 < consumer.redis.pttl("{streamq}:group_scan") <= 1000
    consumer.redis.delete("{streamq}:orphans")
    scripts("list_leases", 60_000)
    assert consumer.redis.zcard("{streamq}:orphans") == 0, "the turn is taken"


def test_what_is_known_of_orphans_goes_although_workers_go_on_looking(survey, consumer):
    consumer.take("a")
    consumer.redis.zrem("{streamq}:leases", "me")
    survey(5000)
    consumer.redis.pexpire("{streamq}:orphans", 500)

    assert survey(5500)[2] == []

    assert 0 < consumer.redis.pttl("{streamq}:orphans") <= 500
