"""Recovering what a dead consumer held, straight at Redis."""

import pytest
from redis.exceptions import ResponseError

from streamq.store.scripts import Script, load

LOST = "streamq.errors.WorkerLost"


def test_what_was_read_goes_to_the_front_uncharged(desk):
    desk.take("a", args="[1]")

    assert desk.recover() == [1, 0, 0, 0]

    assert desk.waiting() == [{"id": "a", "task": "tasks.send", "args": "[1]"}]
    assert desk.waiting("mail") == []
    assert desk.record("a") == {"state": "QUEUED"}
    assert desk.redis.xinfo_consumers("{streamq}:queue:mail", "workers") == []


def test_a_message_without_an_id_keeps_the_name_it_had(desk):
    entry = desk.take()

    desk.recover()

    assert desk.waiting() == [{"task": "tasks.send", "id": f"mail-{entry}"}]


def test_what_was_running_is_charged_and_waits_again(desk, scripts):
    entry = desk.take("a")
    scripts("show_started", "me", "a")

    assert desk.recover(entry) == [1, 0, 0, 0]

    assert desk.waiting()[0]["crashes"] == "1"
    assert desk.record("a") == {"state": "QUEUED"}


def test_what_was_stopped_is_not_charged(desk):
    entry = desk.take("a")

    desk.recover(entry, charge=0)

    assert "crashes" not in desk.waiting()[0]


def test_a_message_that_crashed_too_often_is_put_aside_and_fails(desk):
    entry = desk.take("a", crashes="2")

    assert desk.recover(entry, reason="killed by SIGSEGV") == [0, 0, 1, 0]

    assert desk.waiting() == desk.waiting("mail") == []
    assert desk.pending() == 0
    letter, record = desk.letter("a"), desk.record("a")
    assert (letter["dead_reason"], letter["crashes"]) == ("crashed 3 times", "3")
    assert (record["state"], record["error_type"]) == ("FAILURE", LOST)
    assert record["error"] == "killed by SIGSEGV"


@pytest.mark.parametrize(("allowed", "buried"), [("1", 1), ("2", 0)])
def test_a_message_may_say_how_many_crashes_it_may_have(desk, allowed, buried):
    entry = desk.take("a", max_deliveries=allowed)

    assert desk.recover(entry)[2] == buried


def test_crashes_that_are_no_numbers_count_as_none(desk):
    entry = desk.take("a", crashes="many", max_deliveries="few")

    assert desk.recover(entry) == [1, 0, 0, 0]
    assert desk.waiting()[0]["crashes"] == "1"


def test_what_had_been_acknowledged_early_fails_as_lost(desk):
    entry = desk.take("a")
    desk.start(entry)

    assert desk.recover(entry) == [0, 1, 0, 0]

    assert desk.record("a")["error_type"] == LOST
    assert desk.waiting() == []
    assert not desk.redis.exists("{streamq}:started:me")


def test_a_lost_early_message_without_a_record_becomes_a_dead_letter(desk):
    entry = desk.take("a", ignore_result="1", args="[7]")
    desk.start(entry)

    assert desk.recover(entry) == [0, 0, 1, 0]

    assert desk.letter("a")["dead_reason"] == "worker lost"
    assert desk.letter("a")["args"] == "[7]"
    assert desk.record("a") == {}


def test_a_recovered_consumer_is_fenced(desk, outcome):
    entry = desk.take("a")
    desk.recover()

    with pytest.raises(ResponseError, match=r"^FENCED me"):
        desk.settle(outcome(entry, "a"))
    assert desk.record("a") == {"state": "QUEUED"}


def test_recovery_goes_on_in_bounded_steps(desk):
    for number in range(5):
        desk.add(f"t{number}")
    desk.read()

    steps = [desk.recover(budget=2) for _ in range(3)]

    assert steps == [[2, 0, 0, 1], [2, 0, 0, 1], [1, 0, 0, 0]]
    assert [fields["id"] for fields in desk.waiting()] == [f"t{number}" for number in range(5)]
    assert desk.redis.xinfo_consumers("{streamq}:queue:mail", "workers") == []


def test_the_consumer_stays_known_while_it_holds_anything(desk):
    for number in range(3):
        desk.add(f"t{number}")
    desk.read()

    desk.recover(budget=2)

    ((consumer),) = desk.redis.xinfo_consumers("{streamq}:queue:mail", "workers")
    assert (consumer["name"], consumer["pending"]) == ("me", 1)


def test_deleting_the_consumer_too_early_would_lose_messages(desk):
    for number in range(3):
        desk.add(f"t{number}")
    desk.read()
    text = load("recover").text
    guard = "    if #pending > budget then\n      return { moved, lost, buried, 1 }\n    end\n"
    assert text.count(guard) == 1
    script = Script("recover", text.replace(guard, ""))
    desk.redis.script_load(script.text)
    argv = ["me", "r", 1, 3, 1000, 3, 1000, 2, 0, "mail"]

    desk.redis.execute_command(*script.command("{streamq}", *argv))

    reached = [fields["id"] for fields in desk.waiting()]
    assert reached == ["t0", "t1"]
    assert desk.pending() == 0


def test_an_entry_that_somebody_deleted_is_forgotten(desk):
    entry = desk.take("a")
    desk.redis.xdel("{streamq}:queue:mail", entry)

    assert desk.recover(entry) == [0, 0, 0, 0]
    assert desk.pending() == 0


def test_a_queue_that_is_gone_does_no_harm(desk):
    desk.take("a")

    assert desk.recover(streams=("nowhere", "mail")) == [1, 0, 0, 0]


def test_recovering_twice_moves_nothing_twice(desk):
    entry = desk.take("a")

    assert desk.recover(entry) == [1, 0, 0, 0]
    assert desk.recover(entry) == [0, 0, 0, 0]
    assert len(desk.waiting()) == 1


def test_what_had_ended_before_keeps_its_end(desk, scripts):
    entry = desk.take("a", crashes="2")
    desk.redis.hset("{streamq}:task:a", mapping={"state": "SUCCESS", "result": "5"})

    desk.recover(entry)

    assert desk.record("a") == {"state": "SUCCESS", "result": "5"}
