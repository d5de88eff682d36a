"""Asking how a task ended, forgetting it, and telling where it stands."""

import pytest


def pairs(flat):
    return dict(zip(flat[::2], flat[1::2], strict=True))


def test_the_record_of_a_task_that_has_ended_is_the_answer(consumer, scripts):
    consumer.redis.hset("{streamq}:task:a", mapping={"state": "SUCCESS", "result": "5"})

    assert pairs(scripts("await_result", "a", "one")) == {"state": "SUCCESS", "result": "5"}
    assert "waiters" not in consumer.record("a")


def test_who_asks_about_a_waiting_task_is_noted_once(consumer, scripts):
    consumer.add("a")

    answers = [scripts("await_result", "a", name) for name in ("one", "two", "one")]

    assert answers == [["state", "QUEUED"]] * 3
    assert consumer.record("a")["waiters"] == "one two"
    assert consumer.redis.pttl("{streamq}:task:a") == -1


def test_an_early_waiter_of_an_unknown_task_expires(consumer, scripts):
    assert scripts("await_result", "a", "one") == []

    assert consumer.record("a") == {}
    assert consumer.redis.get("{streamq}:waiters:a") == "one"
    assert 0 < consumer.redis.pttl("{streamq}:waiters:a") <= 60_000


def test_each_early_waiter_of_an_unknown_task_is_kept_once_and_renewed(consumer, scripts):
    for name in ("one", "two", "one"):
        scripts("await_result", "a", name)
        consumer.redis.pexpire("{streamq}:waiters:a", 5)
    scripts("await_result", "a", "two")

    assert consumer.redis.get("{streamq}:waiters:a") == "one two"
    assert consumer.redis.pttl("{streamq}:waiters:a") > 50_000


def test_a_task_that_ends_without_ever_having_a_record_is_told(consumer, scripts, outcome):
    entry = consumer.take("a", ignore_result="1")
    scripts("await_result", "a", "one")

    assert consumer.settle(outcome(entry, "a")) == "1"

    ((_, news),) = consumer.redis.xrange("{streamq}:reply:one")
    assert news["state"] == "SUCCESS"
    assert consumer.redis.exists("{streamq}:waiters:a") == 0
    assert "waiters" not in consumer.record("a")


def test_something_else_in_the_place_of_early_waiters_keeps_no_task_from_ending(
    consumer, scripts, outcome
):
    consumer.redis.lpush("{streamq}:waiters:a", "x")
    entry = consumer.take("a", ignore_result="1")

    assert consumer.settle(outcome(entry, "a")) == "1"
    assert consumer.record("a")["state"] == "SUCCESS"


def test_the_copies_of_a_message_are_an_answer(consumer, scripts):
    consumer.redis.hset("{streamq}:task:a", mapping={"state": "QUEUED", "copies": "mail:post"})

    assert pairs(scripts("await_result", "a", "one"))["copies"] == "mail:post"


def test_forgetting_ends_the_waits(consumer, scripts):
    consumer.add("a")
    scripts("await_result", "a", "one")

    assert scripts("forget_result", "a") == 1
    assert scripts("forget_result", "a") == 0

    ((_, news),) = consumer.redis.xrange("{streamq}:reply:one")
    assert news == {"id": "a"}
    assert consumer.record("a") == {}


def test_forgetting_ends_the_waits_for_what_nobody_has_sent(consumer, scripts):
    scripts("await_result", "a", "one")

    assert scripts("forget_result", "a") == 0

    assert [news for _, news in consumer.redis.xrange("{streamq}:reply:one")] == [{"id": "a"}]
    assert consumer.redis.exists("{streamq}:waiters:a") == 0


def test_progress_is_written_with_what_there_is_to_know(consumer, scripts):
    consumer.add("a")

    assert scripts("update_state", "me", "a", "PROGRESS", "{}", "msgpack") == 1
    assert consumer.record("a")["meta_content_type"] == "msgpack"
    assert scripts("update_state", "me", "a", "HALF", "[]", "") == 1

    assert consumer.record("a") == {"state": "HALF", "meta": "[]", "worker": "me"}


@pytest.mark.parametrize("state", ["SUCCESS", "FAILURE", "REVOKED"])
def test_progress_does_not_reopen_what_has_ended(consumer, scripts, state):
    consumer.redis.hset("{streamq}:task:a", "state", state)

    assert scripts("update_state", "me", "a", "PROGRESS", "{}", "") == 0
    assert consumer.record("a") == {"state": state}


def test_progress_of_a_task_without_a_record_writes_nothing(consumer, scripts):
    assert scripts("update_state", "me", "a", "PROGRESS", "{}", "") == 0
    assert consumer.record("a") == {}


def test_who_was_declared_dead_writes_no_progress(consumer, scripts):
    consumer.recover(consumer.take("a"))

    assert scripts("update_state", "me", "a", "PROGRESS", "{}", "") == 0
    assert consumer.record("a") == {"state": "QUEUED"}


def test_nobody_writes_progress_over_a_run_of_another(consumer, scripts):
    consumer.take("a")
    scripts("register", 15_000, "other")
    scripts("mark_started", "other", "a")

    assert scripts("update_state", "me", "a", "PROGRESS", "{}", "") == 0
    assert scripts("update_state", "other", "a", "PROGRESS", "{}", "") == 1
    assert consumer.record("a")["state"] == "PROGRESS"


def test_a_task_that_is_tried_again_elsewhere_may_tell_where_it_stands(consumer, scripts):
    consumer.add("a")
    consumer.redis.hset("{streamq}:task:a", mapping={"state": "RETRY", "worker": "other"})

    assert scripts("update_state", "me", "a", "PROGRESS", "{}", "") == 1
    assert consumer.record("a")["worker"] == "me"
