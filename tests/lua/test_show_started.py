"""Showing that tasks have started."""

import pytest
from redis.exceptions import ResponseError


def test_the_records_of_waiting_tasks_say_started_and_where(desk, scripts):
    desk.add("a")
    desk.add("b")

    assert scripts("show_started", "me", "a", "b") == 2

    record = desk.record("a")
    assert (record["state"], record["worker"]) == ("STARTED", "me")
    assert record["started"].isdigit()


@pytest.mark.parametrize("state", ["SUCCESS", "FAILURE", "REVOKED", "PROGRESS"])
def test_no_other_state_is_overwritten(desk, scripts, state):
    desk.redis.hset("{streamq}:task:a", "state", state)

    assert scripts("show_started", "me", "a") == 0
    assert desk.record("a") == {"state": state}


def test_a_record_that_only_a_waiter_left_does_not_expire_under_the_task(desk, scripts):
    scripts("await", "a", "one")
    assert desk.redis.pttl("{streamq}:task:a") > 0

    scripts("show_started", "me", "a")

    assert desk.redis.pttl("{streamq}:task:a") == -1
    assert desk.record("a")["waiters"] == "one"


def test_a_consumer_without_a_lease_shows_nothing(desk, scripts):
    desk.add("a")

    with pytest.raises(ResponseError, match=r"^FENCED other"):
        scripts("show_started", "other", "a")
    assert desk.record("a") == {"state": "QUEUED"}
