"""Handing back, straight at Redis."""

import pytest
from redis.exceptions import ResponseError

HOUR = 3_600_000


def test_messages_go_to_the_front_in_their_order(consumer, scripts):
    entries = [consumer.take(id) for id in "abc"]

    pairs = [part for entry in entries for part in ("late", "mail", entry)]
    assert scripts("release", "me", HOUR, *pairs) == 3

    assert [fields["id"] for fields in consumer.waiting()] == ["a", "b", "c"]
    assert "crashes" not in consumer.waiting()[0]
    assert (consumer.pending(), consumer.waiting("mail")) == (0, [])


def test_of_a_priority_level_they_go_to_the_front_of_the_queue(consumer, scripts):
    consumer.redis.xgroup_create("{streamq}:queue:mail:p9", "workers", "0", mkstream=True)
    entry = consumer.take("a", "mail:p9")

    scripts("release", "me", HOUR, "late", "mail:p9", entry)

    assert [fields["id"] for fields in consumer.waiting()] == ["a"]


def test_only_what_the_consumer_holds_is_handed_back(consumer, scripts):
    mine = consumer.take("a")
    waiting = consumer.add("b")
    scripts("register", 1000, "other")

    told = [part for entry in (mine, waiting, "1-1") for part in ("late", "mail", entry)]
    assert scripts("release", "other", HOUR, *told) == 0

    assert consumer.waiting() == []
    assert consumer.pending() == 1


def test_handing_back_twice_makes_no_second_copy(consumer, scripts):
    entry = consumer.take("a")

    assert scripts("release", "me", HOUR, "late", "mail", entry) == 1
    assert scripts("release", "me", HOUR, "late", "mail", entry) == 0
    assert len(consumer.waiting()) == 1


def test_a_task_that_had_started_waits_again(consumer, scripts):
    entry = consumer.take("a")
    scripts("mark_started", "me", "a")

    scripts("release", "me", HOUR, "late", "mail", entry)

    assert consumer.record("a") == {"state": "QUEUED"}


def test_a_consumer_without_a_lease_hands_nothing_back(consumer, scripts):
    entry = consumer.take("a")
    consumer.redis.zrem("{streamq}:leases", "me")

    with pytest.raises(ResponseError, match=r"^FENCED me"):
        scripts("release", "me", HOUR, "late", "mail", entry)
    assert consumer.pending() == 1


def test_a_task_that_was_revoked_while_it_ran_ends_as_it_gives_its_message_back(consumer, scripts):
    entry = consumer.take("a")
    scripts("mark_started", "me", "a")
    scripts("revoke", "a", HOUR, HOUR, "", 1000)

    assert scripts("release", "me", HOUR, "late", "mail", entry) == 0

    record = consumer.record("a")
    assert (record["state"], record["reason"]) == ("REVOKED", "revoked")
    assert 0 < consumer.redis.pttl("{streamq}:task:a") <= HOUR
    assert (consumer.waiting(), consumer.waiting("mail"), consumer.pending()) == ([], [], 0)


@pytest.mark.parametrize("asked", ["soon", "-5", "1.5", "9" * 16, "0", "000"])
def test_a_life_of_its_record_that_is_none_keeps_no_revoked_task_from_its_end(
    consumer, scripts, asked
):
    entry = consumer.take("a", result_expires=asked)
    scripts("mark_started", "me", "a")
    scripts("revoke", "a", HOUR, HOUR, "", 1000)

    assert scripts("release", "me", HOUR, "late", "mail", entry) == 0

    assert consumer.record("a")["state"] == "REVOKED"
    assert 0 < consumer.redis.pttl("{streamq}:task:a") <= HOUR


# Acknowledged before its run


def test_what_was_acknowledged_and_has_not_begun_waits_again_in_front(consumer, scripts):
    entry = consumer.take("a", args="[1]")
    consumer.start(entry)

    assert scripts("release", "me", HOUR, "early", "mail", entry) == 1

    (fields,) = consumer.waiting()
    assert (fields["id"], fields["args"], "crashes" in fields) == ("a", "[1]", False)
    assert consumer.record("a") == {"state": "QUEUED"}
    assert not consumer.redis.exists("{streamq}:started:me")
    assert consumer.recover() == [0, 0, 0, 0, 0], "nothing is reported lost"


def test_it_goes_back_once_and_never_without_its_mark(consumer, scripts):
    entry, waiting = consumer.take("a"), consumer.take("b")
    consumer.start(entry)

    told = ("early", "mail", entry, "early", "mail", entry, "early", "mail", waiting)
    assert scripts("release", "me", HOUR, *told) == 1

    assert [fields["id"] for fields in consumer.waiting()] == ["a"]
    assert consumer.pending() == 1


def test_what_was_acknowledged_is_not_handed_back_as_what_was_not(consumer, scripts):
    """Whoever looks at what is held does not know that it has been acknowledged since."""
    entry = consumer.take("a")
    consumer.start(entry)

    assert scripts("release", "me", HOUR, "late", "mail", entry) == 0

    assert consumer.waiting() == []
    assert consumer.redis.hlen("{streamq}:started:me") == 1


def test_what_was_acknowledged_and_has_lost_its_queue_ends(consumer, scripts):
    entry = consumer.take("a")
    consumer.start(entry)
    assert scripts("delete_queue", "mail") == 0

    assert scripts("release", "me", HOUR, "early", "mail", entry) == 0

    record = consumer.record("a")
    assert (record["state"], record["reason"]) == ("REVOKED", "deleted")
    assert not consumer.redis.exists("{streamq}:queue:mail:returned", "{streamq}:started:me")
