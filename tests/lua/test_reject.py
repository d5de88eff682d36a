"""Handing back what its task has rejected, straight at Redis."""

import pytest
from redis.exceptions import ResponseError

HOUR = 3_600_000


@pytest.fixture
def reject(scripts):
    """``reject(stream, entry, rejections, pause)``, by the consumer ``me`` or another."""

    def call(stream, entry, rejections=1, pause=0, by="me"):
        return scripts("reject", by, HOUR, stream, entry, rejections, pause)

    return call


def test_a_message_goes_to_the_front_and_says_how_often_it_was_rejected(consumer, reject):
    entry = consumer.take("a")
    consumer.add("b")

    assert reject("mail", entry, 2) == 1

    (front,) = consumer.waiting()
    assert (front["id"], front["rejections"]) == ("a", "2")
    assert "crashes" not in front
    assert consumer.pending() == 0


def test_with_a_pause_it_waits_outside_and_then_goes_to_the_front(consumer, reject, scripts):
    consumer.redis.xgroup_create("{streamq}:queue:mail:p9", "workers", "0", mkstream=True)
    entry = consumer.take("a", "mail:p9")

    assert reject("mail:p9", entry, 4, 60_000) == 1

    assert (consumer.pending("mail:p9"), consumer.waiting("mail:p9"), consumer.waiting()) == (
        0,
        [],
        [],
    )
    ((name, due),) = consumer.redis.zrange("{streamq}:scheduled", 0, -1, withscores=True)
    kept = consumer.redis.hgetall("{streamq}:scheduled:a")
    assert (name, kept["scheduled_for"], kept["rejections"]) == ("a", "mail:returned", "4")
    assert consumer.record("a") == {"state": "QUEUED", "eta": f"{due:.0f}"}

    consumer.redis.zadd("{streamq}:scheduled", {"a": 1})
    assert scripts("promote", 10, HOUR, 10, HOUR)[0] == 1

    (front,) = consumer.waiting()
    assert (front["id"], front["rejections"]) == ("a", "4")
    assert consumer.record("a") == {"state": "QUEUED"}
    assert not consumer.redis.exists("{streamq}:scheduled", "{streamq}:scheduled:a")


def test_a_quarantined_message_stays_one_also_over_a_pause(consumer, reject, scripts):
    stream = "mail:quarantine"
    consumer.redis.xgroup_create(f"{{streamq}}:queue:{stream}", "workers", "0", mkstream=True)
    reject(stream, consumer.take("a", stream), 4, 60_000)
    assert consumer.redis.hget("{streamq}:scheduled:a", "scheduled_for") == stream

    consumer.redis.zadd("{streamq}:scheduled", {"a": 1})
    scripts("promote", 10, HOUR, 10, HOUR)

    assert [fields["id"] for fields in consumer.waiting(stream)] == ["a"]
    assert consumer.redis.smembers("{streamq}:quarantine") == {"mail"}


@pytest.mark.parametrize("pause", [0, 1000])
def test_a_message_of_another_or_of_nobody_is_left_alone(consumer, scripts, reject, pause):
    mine, waiting = consumer.take("a"), consumer.add("b")
    scripts("register", 1000, "other")

    assert reject("mail", mine, 1, pause, by="other") == 0
    assert reject("mail", waiting, 1, pause) == 0
    assert reject("mail", "1-1", 1, pause) == 0

    assert consumer.pending() == 1
    assert not consumer.redis.exists("{streamq}:scheduled")


@pytest.mark.parametrize("pause", [0, 1000])
def test_rejecting_twice_makes_no_second_copy(consumer, reject, pause):
    entry = consumer.take("a")

    assert reject("mail", entry, 1, pause) == 1
    assert reject("mail", entry, 1, pause) == 0
    assert len(consumer.waiting()) + consumer.redis.zcard("{streamq}:scheduled") == 1


@pytest.mark.parametrize("pause", [0, 1000])
def test_who_has_no_lease_hands_nothing_back(consumer, reject, pause):
    entry = consumer.take("a")
    consumer.redis.zrem("{streamq}:leases", "me")

    with pytest.raises(ResponseError, match="FENCED me"):
        reject("mail", entry, 1, pause)

    assert consumer.pending() == 1
    assert not consumer.redis.exists("{streamq}:scheduled")


@pytest.mark.parametrize("pause", [0, 1000])
def test_a_task_that_was_revoked_meanwhile_ends(consumer, scripts, reject, pause):
    entry = consumer.take("a")
    scripts("mark_started", "me", "a")
    consumer.redis.hset("{streamq}:task:a", "revoked", "1")

    assert reject("mail", entry, 1, pause) == 0

    assert consumer.record("a")["state"] == "REVOKED"
    assert (consumer.pending(), consumer.waiting()) == (0, [])
    assert not consumer.redis.exists("{streamq}:scheduled")


@pytest.mark.parametrize(
    ("key", "pause"),
    [("queue:mail:returned", 0), ("scheduled", 1000), ("scheduled:a", 1000)],
)
def test_what_cannot_go_where_it_should_stays(consumer, reject, key, pause):
    entry = consumer.take("a")
    consumer.redis.delete(f"{{streamq}}:{key}")
    consumer.redis.set(f"{{streamq}}:{key}", "x")

    with pytest.raises(ResponseError, match="WRONGTYPE"):
        reject("mail", entry, 1, pause)

    assert consumer.pending() == 1


def test_a_queue_that_is_gone_by_then_leaves_a_dead_letter(consumer, reject, scripts):
    reject("mail", consumer.take("a"), 4, 60_000)
    consumer.redis.hdel("{streamq}:queues", "mail")
    consumer.redis.zadd("{streamq}:scheduled", {"a": 1})

    scripts("promote", 10, HOUR, 10, HOUR)

    assert consumer.redis.hget("{streamq}:dead:mail:a", "dead_reason") == "queue gone"


def test_a_retry_counts_rejections_anew(consumer, reject, scripts):
    reject("mail", consumer.take("a"), 2)
    (entry,) = consumer.read("mail:returned")

    words = ["later", "+0", "", "retries", "1"]
    scripts(
        *("follow", "me", "1", 10, HOUR, "late", "mail:returned", entry, "a", "RETRY", HOUR, 0),
        *(len(words), *words),
    )

    (again,) = consumer.waiting("mail")
    assert again["retries"] == "1"
    assert "rejections" not in again
