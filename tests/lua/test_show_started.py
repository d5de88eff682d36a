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


def test_who_waits_for_a_task_without_a_record_stands_in_the_one_it_gets(desk, scripts):
    scripts("await", "a", "one")

    scripts("show_started", "me", "a")

    assert desk.redis.pttl("{streamq}:task:a") == -1
    assert desk.redis.exists("{streamq}:wish:a") == 0
    assert desk.record("a")["waiters"] == "one"


def test_a_consumer_without_a_lease_shows_nothing(desk, scripts):
    desk.add("a")

    with pytest.raises(ResponseError, match=r"^FENCED other"):
        scripts("show_started", "other", "a")
    assert desk.record("a") == {"state": "QUEUED"}
