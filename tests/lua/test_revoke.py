"""Revoking, straight at Redis: what waits never starts, what runs is told."""

import pytest

HOUR = 3_600_000


@pytest.fixture
def revoke(scripts):
    def revoke(id, signal=""):
        return scripts("revoke", id, HOUR, HOUR, signal, 1000)

    return revoke


def test_a_waiting_task_ends_at_once_and_is_not_run_when_it_is_met(consumer, revoke, scripts):
    consumer.add("a")

    assert revoke("a") == "REVOKED"

    record = consumer.record("a")
    assert (record["state"], record["reason"]) == ("REVOKED", "revoked")
    assert consumer.redis.pttl("{streamq}:task:a") > 0
    assert scripts("check_start", "a", "", "", "b", "", "") == "r1"


def test_those_who_wait_for_it_are_told(consumer, revoke, scripts):
    consumer.add("a")
    scripts("await_result", "a", "one")

    revoke("a")

    ((_, news),) = consumer.redis.xrange("{streamq}:reply:one")
    assert (news["id"], news["state"]) == ("a", "REVOKED")


def test_a_revocation_that_was_met_is_forgotten(consumer, revoke, following):
    entry = consumer.take("a")
    revoke("a")

    consumer.follow(following(entry, "a", "revoked", state="REVOKED"))

    assert not consumer.redis.exists("{streamq}:revoked")
    assert consumer.pending() == 0


def test_a_task_for_later_leaves_at_once(consumer, revoke, scripts):
    head = ("", "mail", "a", 0, 1, "", "+60000", "", 0, 1, "task", "t")
    scripts("publish", "", "", *head)

    assert revoke("a") == "REVOKED"

    assert consumer.redis.keys("{streamq}:scheduled*") == []
    assert not consumer.redis.exists("{streamq}:revoked")


def test_a_task_that_runs_goes_on_and_is_not_tried_again(consumer, revoke, scripts, following):
    entry = consumer.take("a")
    scripts("mark_started", "me", "a")

    assert revoke("a") == "STARTED"
    assert consumer.record("a")["state"] == "STARTED"
    assert not consumer.redis.exists("{streamq}:revoked")

    again = following(entry, "a", "later", "+1000", "", "retries", "1", state="RETRY")
    assert consumer.follow(again) == "1"
    assert consumer.record("a")["state"] == "REVOKED"
    assert consumer.redis.keys("{streamq}:scheduled*") == []


def test_a_task_whose_runner_dies_after_it_was_revoked_is_not_run_again(consumer, revoke, scripts):
    entry = consumer.take("a")
    scripts("mark_started", "me", "a")
    revoke("a")

    consumer.recover(entry)

    assert consumer.record("a")["state"] == "REVOKED"
    assert consumer.waiting() == []


def test_a_task_that_runs_may_keep_its_result(consumer, revoke, scripts, outcome):
    entry = consumer.take("a")
    scripts("mark_started", "me", "a")
    revoke("a")

    consumer.settle(outcome(entry, "a", result="5"))

    assert consumer.record("a")["state"] == "SUCCESS"


def test_what_has_ended_stays_as_it_is(consumer, revoke, outcome):
    consumer.settle(outcome(consumer.take("a"), "a", result="5"))

    assert revoke("a") == "SUCCESS"

    assert consumer.record("a")["result"] == "5"
    assert not consumer.redis.exists("{streamq}:revoked")


def test_an_unknown_id_gets_no_record_but_would_not_run(revoke, redis, scripts):
    assert revoke("nobody") == ""

    assert not redis.exists("{streamq}:task:nobody")
    assert scripts("check_start", "nobody", "", "") == "r"


def test_supervisors_hear_what_is_to_be_terminated_now_or_when_they_renew(
    consumer, revoke, scripts, redis, keys
):
    listener = redis.pubsub(ignore_subscribe_messages=True)
    listener.subscribe(keys.notices)
    listener.get_message(timeout=1)
    consumer.take("a")
    scripts("mark_started", "me", "a")

    revoke("a", "SIGTERM")

    assert listener.get_message(timeout=1)["data"] == "terminate SIGTERM a"
    listener.close()
    assert scripts("renew", "node", 1000, 0, "pid", "1")[3] == 1
    assert redis.zrange("{streamq}:terminating", 0, -1) == ["SIGTERM a"]


def test_revocations_do_not_pile_up(redis, scripts):
    redis.zadd("{streamq}:revoked", {"old": 5})

    scripts("revoke", "new", HOUR, HOUR, "", 1000)

    assert redis.zrange("{streamq}:revoked", 0, -1) == ["new"]


def test_a_copy_is_revoked_by_the_id_of_its_fan_out(revoke, scripts):
    revoke("a")

    assert scripts("check_start", "a@mail", "a", "", "a@post", "", "") == "r1"


def test_a_task_for_later_without_a_record_leaves_no_mark(consumer, revoke, scripts):
    scripts("publish", "", "", *("", "mail", "a", 0, 0, "", "+60000", "", 0, 1, "task", "t"))

    assert revoke("a") == ""

    assert consumer.redis.keys("{streamq}:scheduled*") == []
    assert not consumer.redis.exists("{streamq}:revoked")


def test_of_two_messages_for_later_without_a_record_neither_runs(consumer, revoke, scripts):
    for number in (1, 2):
        name = "a" if number == 1 else "a::2"
        consumer.redis.zadd("{streamq}:scheduled", {name: number})
        consumer.redis.hset(f"{{streamq}}:scheduled:{name}", "id", "a")

    revoke("a")

    assert scripts("check_start", "a", "", "") == "r"


def test_of_two_messages_of_one_id_neither_the_waiting_nor_the_later_one_runs(
    consumer, revoke, scripts
):
    consumer.add("a")
    scripts("publish", "", "", *("", "mail", "a", 0, 0, "", "+60000", "", 0, 1, "task", "t"))

    assert revoke("a") == "REVOKED"

    assert consumer.redis.keys("{streamq}:scheduled*") == []
    assert scripts("check_start", "a", "", "") == "r"


@pytest.mark.parametrize("follows", [(), ("later", "+0", "", "retries", "1")])
def test_a_revocation_that_came_after_the_start_is_forgotten_at_the_end(
    consumer, revoke, outcome, following, follows
):
    entry = consumer.take("a")
    revoke("a")
    assert consumer.redis.zrange("{streamq}:revoked", 0, -1) == ["a"]

    if follows:
        consumer.follow(following(entry, "a", *follows, state="RETRY"))
    else:
        consumer.settle(outcome(entry, "a", result="5"))

    assert not consumer.redis.exists("{streamq}:revoked")
    assert consumer.record("a")["state"] == "REVOKED"
    assert consumer.waiting("mail") == []
