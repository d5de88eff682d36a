"""Leases: taken, renewed, and lost for good."""

import time

import pytest
from redis import ResponseError


def test_a_lease_ends_by_the_servers_clock(consumer, scripts):
    now = scripts("register", 15_000, "a")

    assert abs(now - time.time() * 1000) < 5000
    assert consumer.redis.zscore("{streamq}:leases", "a") == now + 15_000
    assert consumer.redis.hget("{streamq}:lease_ms", "a") == "15000"


def test_who_still_has_a_lease_may_ask_for_it_again(consumer, scripts):
    now = scripts("register", 20_000, "me", 1)

    assert consumer.redis.zscore("{streamq}:leases", "me") == now + 20_000


def test_who_was_declared_dead_gets_no_other_lease(consumer, scripts):
    consumer.redis.zrem("{streamq}:leases", "me")

    with pytest.raises(ResponseError, match="FENCED me"):
        scripts("register", 15_000, "me", 1)

    assert consumer.redis.zscore("{streamq}:leases", "me") is None


def test_renewing_moves_the_deadline(consumer, scripts):
    consumer.redis.zadd("{streamq}:leases", {"me": 5})

    assert scripts("renew", "node", 15_000, 1, "me", "pid", "7")[2] == []

    assert consumer.redis.zscore("{streamq}:leases", "me") > 15_000


def test_a_lost_lease_is_not_given_back_but_told(consumer, scripts):
    assert scripts("renew", "node", 15_000, 2, "me", "gone", "pid", "7")[2] == ["gone"]

    assert consumer.redis.zscore("{streamq}:leases", "gone") is None


def test_the_worker_is_described_until_it_is_silent_for_long(consumer, scripts):
    scripts("renew", "node", 10_000, 0, "pid", "7", "runner:1", "idle")
    scripts("renew", "node", 10_000, 0, "pid", "7", "runner:2", "idle")

    described = consumer.redis.hgetall("{streamq}:worker:node")
    assert described.pop("seen").isdigit()
    assert described == {"pid": "7", "runner:2": "idle"}
    assert 10_000 < consumer.redis.pttl("{streamq}:worker:node") <= 30_000
    assert consumer.redis.zrange("{streamq}:workers", 0, -1) == ["node"]


def test_workers_that_fell_silent_are_no_longer_listed(consumer, scripts):
    consumer.redis.zadd("{streamq}:workers", {"old": 5})

    scripts("renew", "node", 10_000, 0, "pid", "7")

    assert consumer.redis.zrange("{streamq}:workers", 0, -1) == ["node"]


def test_queues_whose_quarantined_messages_all_run_are_not_named(consumer, scripts):
    consumer.redis.sadd("{streamq}:quarantine", "mail", "empty")
    consumer.redis.xgroup_create("{streamq}:queue:mail:quarantine", "workers", "0", mkstream=True)
    consumer.add("a", "mail:quarantine")
    assert scripts("renew", "node", 15_000, 0, "pid", "7")[4] == ["mail"]

    consumer.read("mail:quarantine")

    assert scripts("renew", "node", 15_000, 0, "pid", "7")[4] == []
    assert consumer.redis.smembers("{streamq}:quarantine") == {"mail"}
    consumer.add("b", "mail:quarantine")
    assert scripts("renew", "node", 15_000, 0, "pid", "7")[4] == ["mail"]


def test_a_quarantine_of_wrong_type_is_empty(consumer, scripts):
    consumer.redis.sadd("{streamq}:quarantine", "mail")
    consumer.redis.set("{streamq}:queue:mail:quarantine", "somebody else's")

    assert scripts("renew", "node", 15_000, 0, "pid", "7")[4] == []

    assert consumer.redis.smembers("{streamq}:quarantine") == {"mail"}, "it is looked at again"


@pytest.mark.parametrize("key", ["scheduled", "quarantine", "terminating", "workers", "schedules"])
def test_a_foreign_key_keeps_no_lease_from_being_renewed(consumer, scripts, key):
    consumer.redis.zadd("{streamq}:leases", {"me": 5})
    consumer.redis.lpush("{streamq}:" + key, "somebody else's")

    _, due, fenced, terminating, quarantine, *schedules = scripts(
        "renew", "node", 15_000, 1, "me", "pid", "7"
    )

    assert consumer.redis.zscore("{streamq}:leases", "me") > 15_000
    assert (fenced, terminating, quarantine) == ([], 0, [])
    assert schedules == [0, "", ""]
    assert due == ("0" if key == "scheduled" else "")


def test_the_schedule_that_is_due_first_is_told(consumer, scripts):
    now = int(time.time() * 1000)
    forgotten, late, next_one = now - 90_000, now - 1000, now + 5000
    consumer.redis.zadd(
        "{streamq}:schedules",
        {"forgotten": forgotten, "late": late, "next": next_one, "paused": "inf"},
    )

    def told():
        return scripts("renew", "node", 15_000, 0, "pid", "7")[-2:]

    assert told() == ["late", str(late)]
    consumer.redis.zrem("{streamq}:schedules", "late")
    assert told() == ["next", str(next_one)]
    consumer.redis.zrem("{streamq}:schedules", "next")
    assert told() == ["", ""]
