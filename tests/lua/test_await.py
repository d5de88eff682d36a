"""Asking how a task ended, forgetting it, and telling where it stands."""

import pytest


def pairs(flat):
    return dict(zip(flat[::2], flat[1::2], strict=True))


def test_the_record_of_a_task_that_has_ended_is_the_answer(desk, scripts):
    desk.redis.hset("{streamq}:task:a", mapping={"state": "SUCCESS", "result": "5"})

    assert pairs(scripts("await", "a", "one")) == {"state": "SUCCESS", "result": "5"}
    assert "waiters" not in desk.record("a")


def test_who_asks_about_a_waiting_task_is_noted_once(desk, scripts):
    desk.add("a")

    answers = [scripts("await", "a", name) for name in ("one", "two", "one")]

    assert answers == [["state", "QUEUED"]] * 3
    assert desk.record("a")["waiters"] == "one two"
    assert desk.redis.pttl("{streamq}:task:a") == -1


def test_a_wish_for_an_unknown_task_expires(desk, scripts):
    assert scripts("await", "a", "one") == []

    assert desk.record("a") == {}
    assert desk.redis.get("{streamq}:wish:a") == "one"
    assert 0 < desk.redis.pttl("{streamq}:wish:a") <= 60_000


def test_each_wish_for_an_unknown_task_is_kept_once_and_lives_on(desk, scripts):
    for name in ("one", "two", "one"):
        scripts("await", "a", name)
        desk.redis.pexpire("{streamq}:wish:a", 5)
    scripts("await", "a", "two")

    assert desk.redis.get("{streamq}:wish:a") == "one two"
    assert desk.redis.pttl("{streamq}:wish:a") > 50_000


def test_a_task_that_ends_without_ever_having_a_record_is_told(desk, scripts, outcome):
    entry = desk.take("a", ignore_result="1")
    scripts("await", "a", "one")

    assert desk.complete(outcome(entry, "a")) == "1"

    ((_, news),) = desk.redis.xrange("{streamq}:reply:one")
    assert news["state"] == "SUCCESS"
    assert desk.redis.exists("{streamq}:wish:a") == 0
    assert "waiters" not in desk.record("a")


def test_something_else_in_the_place_of_a_wish_keeps_no_task_from_ending(desk, scripts, outcome):
    desk.redis.lpush("{streamq}:wish:a", "x")
    entry = desk.take("a", ignore_result="1")

    assert desk.complete(outcome(entry, "a")) == "1"
    assert desk.record("a")["state"] == "SUCCESS"


def test_the_copies_of_a_message_are_an_answer(desk, scripts):
    desk.redis.hset("{streamq}:task:a", mapping={"state": "QUEUED", "copies": "mail:post"})

    assert pairs(scripts("await", "a", "one"))["copies"] == "mail:post"


def test_forgetting_ends_the_waits(desk, scripts):
    desk.add("a")
    scripts("await", "a", "one")

    assert scripts("forget", "a") == 1
    assert scripts("forget", "a") == 0

    ((_, news),) = desk.redis.xrange("{streamq}:reply:one")
    assert news == {"id": "a"}
    assert desk.record("a") == {}


def test_forgetting_ends_the_waits_for_what_nobody_has_sent(desk, scripts):
    scripts("await", "a", "one")

    assert scripts("forget", "a") == 0

    assert [news for _, news in desk.redis.xrange("{streamq}:reply:one")] == [{"id": "a"}]
    assert desk.redis.exists("{streamq}:wish:a") == 0


def test_progress_is_written_with_what_there_is_to_know(desk, scripts):
    desk.add("a")

    assert scripts("progress", "me", "a", "PROGRESS", "{}", "msgpack") == 1
    assert desk.record("a")["meta_content_type"] == "msgpack"
    assert scripts("progress", "me", "a", "HALF", "[]", "") == 1

    assert desk.record("a") == {"state": "HALF", "meta": "[]", "worker": "me"}


@pytest.mark.parametrize("state", ["SUCCESS", "FAILURE", "REVOKED"])
def test_progress_does_not_reopen_what_has_ended(desk, scripts, state):
    desk.redis.hset("{streamq}:task:a", "state", state)

    assert scripts("progress", "me", "a", "PROGRESS", "{}", "") == 0
    assert desk.record("a") == {"state": state}


def test_progress_of_a_task_without_a_record_writes_nothing(desk, scripts):
    assert scripts("progress", "me", "a", "PROGRESS", "{}", "") == 0
    assert desk.record("a") == {}


def test_who_was_declared_dead_writes_no_progress(desk, scripts):
    desk.recover(desk.take("a"))

    assert scripts("progress", "me", "a", "PROGRESS", "{}", "") == 0
    assert desk.record("a") == {"state": "QUEUED"}


def test_nobody_writes_progress_over_a_run_of_another(desk, scripts):
    desk.take("a")
    scripts("register", 15_000, "other")
    scripts("show_started", "other", "a")

    assert scripts("progress", "me", "a", "PROGRESS", "{}", "") == 0
    assert scripts("progress", "other", "a", "PROGRESS", "{}", "") == 1
    assert desk.record("a")["state"] == "PROGRESS"


def test_a_task_that_is_tried_again_elsewhere_may_tell_where_it_stands(desk, scripts):
    desk.add("a")
    desk.redis.hset("{streamq}:task:a", mapping={"state": "RETRY", "worker": "other"})

    assert scripts("progress", "me", "a", "PROGRESS", "{}", "") == 1
    assert desk.record("a")["worker"] == "me"
