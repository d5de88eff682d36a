"""Showing that tasks have started."""

import pytest
from redis.exceptions import ResponseError


def test_the_records_of_waiting_tasks_say_started_and_where(consumer, scripts):
    consumer.add("a")
    consumer.add("b")

    assert scripts("mark_started", "me", "a", "b") == 2

    record = consumer.record("a")
    assert (record["state"], record["worker"]) == ("STARTED", "me")
    assert record["started"].isdigit()


@pytest.mark.parametrize("state", ["SUCCESS", "FAILURE", "REVOKED", "PROGRESS"])
def test_no_other_state_is_overwritten(consumer, scripts, state):
    consumer.redis.hset("{streamq}:task:a", "state", state)

    assert scripts("mark_started", "me", "a") == 0
    assert consumer.record("a") == {"state": state}


def test_who_waits_for_a_task_without_a_record_stands_in_the_one_it_gets(consumer, scripts):
    scripts("await_result", "a", "one")

    scripts("mark_started", "me", "a")

    assert consumer.redis.pttl("{streamq}:task:a") == -1
    assert consumer.redis.exists("{streamq}:waiters:a") == 0
    assert consumer.record("a")["waiters"] == "one"


def test_a_consumer_without_a_lease_shows_nothing(consumer, scripts):
    consumer.add("a")

    with pytest.raises(ResponseError, match=r"^FENCED other"):
        scripts("mark_started", "other", "a")
    assert consumer.record("a") == {"state": "QUEUED"}
