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


def test_a_message_goes_to_the_front_and_says_how_often_it_was_rejected(desk, reject):
    entry = desk.take("a")
    desk.add("b")

    assert reject("mail", entry, 2) == 1

    (front,) = desk.waiting()
    assert (front["id"], front["rejections"]) == ("a", "2")
    assert "crashes" not in front
    assert desk.pending() == 0


def test_with_a_pause_it_waits_outside_and_then_goes_to_the_front(desk, reject, scripts):
    desk.redis.xgroup_create("{streamq}:queue:mail:p9", "workers", "0", mkstream=True)
    entry = desk.take("a", "mail:p9")

    assert reject("mail:p9", entry, 4, 60_000) == 1

    assert (desk.pending("mail:p9"), desk.waiting("mail:p9"), desk.waiting()) == (0, [], [])
    ((name, due),) = desk.redis.zrange("{streamq}:scheduled", 0, -1, withscores=True)
    kept = desk.redis.hgetall("{streamq}:scheduled:a")
    assert (name, kept["scheduled_for"], kept["rejections"]) == ("a", "mail:returned", "4")
    assert desk.record("a") == {"state": "QUEUED", "eta": f"{due:.0f}"}

    desk.redis.zadd("{streamq}:scheduled", {"a": 1})
    assert scripts("promote", 10, HOUR, 10, HOUR)[0] == 1

    (front,) = desk.waiting()
    assert (front["id"], front["rejections"]) == ("a", "4")
    assert desk.record("a") == {"state": "QUEUED"}
    assert not desk.redis.exists("{streamq}:scheduled", "{streamq}:scheduled:a")


def test_a_suspect_stays_one_also_over_a_pause(desk, reject, scripts):
    stream = "mail:suspects"
    desk.redis.xgroup_create(f"{{streamq}}:queue:{stream}", "workers", "0", mkstream=True)
    reject(stream, desk.take("a", stream), 4, 60_000)
    assert desk.redis.hget("{streamq}:scheduled:a", "scheduled_for") == stream

    desk.redis.zadd("{streamq}:scheduled", {"a": 1})
    scripts("promote", 10, HOUR, 10, HOUR)

    assert [fields["id"] for fields in desk.waiting(stream)] == ["a"]
    assert desk.redis.smembers("{streamq}:suspects") == {"mail"}


@pytest.mark.parametrize("pause", [0, 1000])
def test_a_message_of_another_or_of_nobody_is_left_alone(desk, scripts, reject, pause):
    mine, waiting = desk.take("a"), desk.add("b")
    scripts("register", 1000, "other")

    assert reject("mail", mine, 1, pause, by="other") == 0
    assert reject("mail", waiting, 1, pause) == 0
    assert reject("mail", "1-1", 1, pause) == 0

    assert desk.pending() == 1
    assert not desk.redis.exists("{streamq}:scheduled")


@pytest.mark.parametrize("pause", [0, 1000])
def test_rejecting_twice_makes_no_second_copy(desk, reject, pause):
    entry = desk.take("a")

    assert reject("mail", entry, 1, pause) == 1
    assert reject("mail", entry, 1, pause) == 0
    assert len(desk.waiting()) + desk.redis.zcard("{streamq}:scheduled") == 1


@pytest.mark.parametrize("pause", [0, 1000])
def test_who_has_no_lease_hands_nothing_back(desk, reject, pause):
    entry = desk.take("a")
    desk.redis.zrem("{streamq}:leases", "me")

    with pytest.raises(ResponseError, match="FENCED me"):
        reject("mail", entry, 1, pause)

    assert desk.pending() == 1
    assert not desk.redis.exists("{streamq}:scheduled")


@pytest.mark.parametrize("pause", [0, 1000])
def test_a_task_that_was_revoked_meanwhile_ends(desk, scripts, reject, pause):
    entry = desk.take("a")
    scripts("show_started", "me", "a")
    desk.redis.hset("{streamq}:task:a", "revoked", "1")

    assert reject("mail", entry, 1, pause) == 0

    assert desk.record("a")["state"] == "REVOKED"
    assert (desk.pending(), desk.waiting()) == (0, [])
    assert not desk.redis.exists("{streamq}:scheduled")


@pytest.mark.parametrize(
    ("key", "pause"),
    [("queue:mail:returned", 0), ("scheduled", 1000), ("scheduled:a", 1000)],
)
def test_what_cannot_go_where_it_should_stays(desk, reject, key, pause):
    entry = desk.take("a")
    desk.redis.delete(f"{{streamq}}:{key}")
    desk.redis.set(f"{{streamq}}:{key}", "x")

    with pytest.raises(ResponseError, match="WRONGTYPE"):
        reject("mail", entry, 1, pause)

    assert desk.pending() == 1


def test_a_queue_that_is_gone_by_then_leaves_a_dead_letter(desk, reject, scripts):
    reject("mail", desk.take("a"), 4, 60_000)
    desk.redis.hdel("{streamq}:queues", "mail")
    desk.redis.zadd("{streamq}:scheduled", {"a": 1})

    scripts("promote", 10, HOUR, 10, HOUR)

    assert desk.redis.hget("{streamq}:dead:mail:a", "dead_reason") == "queue gone"


def test_a_retry_counts_rejections_anew(desk, reject, scripts):
    reject("mail", desk.take("a"), 2)
    (entry,) = desk.read("mail:returned")

    words = ["later", "+0", "", "retries", "1"]
    scripts(
        *("settle", "me", "1", 10, HOUR, "late", "mail:returned", entry, "a", "RETRY", HOUR, 0),
        *(len(words), *words),
    )

    (again,) = desk.waiting("mail")
    assert again["retries"] == "1"
    assert "rejections" not in again
