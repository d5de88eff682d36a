"""Dead letters: run again as a new generation, or deleted for good."""

import pytest


@pytest.fixture
def buried(desk, outcome):
    """A task that failed, and its letter."""
    entry = desk.take("a", args="[1]", crashes="2")
    told = {"state": "FAILURE", "reason": "unknown task", "error_type": "T", "error": "no a"}
    desk.settle(outcome(entry, "a", **told))
    assert desk.letters() == ["a"]
    return desk


def test_a_revived_message_waits_again_as_it_was_uncharged(buried, scripts):
    assert scripts("revive", "mail", "a") == 1

    assert buried.waiting("mail") == [{"id": "a", "task": "tasks.send", "args": "[1]"}]
    assert buried.letters() == []
    assert buried.letter("a") == {}


def test_a_revived_task_is_a_new_generation_that_remembers(buried, scripts):
    scripts("revive", "mail", "a")

    record = buried.record("a")
    assert record.pop("enqueued").isdigit()
    assert record == {
        "state": "QUEUED",
        "task": "tasks.send",
        "queue": "mail",
        "history": "unknown task: no a",
        "generation": "1",
    }
    assert buried.redis.pttl("{streamq}:task:a") == -1


def test_a_revived_task_can_end_again_and_be_revived_again(buried, scripts, outcome):
    scripts("revive", "mail", "a")
    (entry,) = buried.read()
    told = {"state": "FAILURE", "reason": "rejected", "error": "again"}
    buried.settle(outcome(entry, "a", **told))
    scripts("revive", "mail", "a")
    (entry,) = buried.read()
    buried.settle(outcome(entry, "a", result="5"))

    record = buried.record("a")
    assert (record["state"], record["generation"]) == ("SUCCESS", "2")
    assert record["history"] == "unknown task: no a\nrejected: again"
    assert buried.redis.pttl("{streamq}:task:a") > 0


def test_a_letter_whose_record_has_expired_gets_a_new_one(buried, scripts):
    buried.redis.delete("{streamq}:task:a")

    scripts("revive", "mail", "a")

    assert buried.record("a")["state"] == "QUEUED"


def test_a_message_that_keeps_no_record_is_revived_without(desk, scripts, outcome):
    entry = desk.take("a", ignore_result="1")
    desk.settle(outcome(entry, "a", state="", expires=0, reason="rejected", error="e"))

    assert scripts("revive", "mail", "a") == 1

    assert desk.waiting("mail")[0]["ignore_result"] == "1"
    assert desk.record("a") == {}


def test_there_is_no_letter_to_revive_or_discard_twice(buried, scripts):
    assert [scripts("revive", "mail", "a") for _ in range(2)] == [1, 0]
    assert len(buried.waiting("mail")) == 1
    assert scripts("discard", "mail", "a") == 0


def test_a_discarded_letter_is_gone(buried, scripts):
    assert [scripts("discard", "mail", "a") for _ in range(2)] == [1, 0]

    assert (buried.letters(), buried.letter("a")) == ([], {})
    assert buried.record("a")["state"] == "FAILURE"
