"""Recovering what a dead consumer held, straight at Redis."""

import pytest
from redis.exceptions import ResponseError

from streamq.transport.scripts import Script, load

LOST = "streamq.errors.WorkerLost"
HOUR = 3_600_000


def test_what_was_read_goes_to_the_front_uncharged(consumer):
    consumer.take("a", args="[1]")

    assert consumer.recover() == [1, 0, 0, 0, 0]

    assert consumer.waiting() == [{"id": "a", "task": "tasks.send", "args": "[1]"}]
    assert consumer.waiting("mail") == []
    assert consumer.record("a") == {"state": "QUEUED"}
    assert consumer.redis.xinfo_consumers("{streamq}:queue:mail", "workers") == []


def test_a_message_without_an_id_keeps_the_name_it_had(consumer):
    entry = consumer.take()

    consumer.recover()

    assert consumer.waiting() == [{"task": "tasks.send", "id": f"mail-{entry}"}]


def test_what_was_running_is_charged_and_waits_again(consumer, scripts):
    entry = consumer.take("a")
    scripts("mark_started", "me", "a")

    assert consumer.recover(entry) == [1, 0, 0, 0, 0]

    assert consumer.waiting()[0]["crashes"] == "1"
    assert consumer.record("a") == {"state": "QUEUED"}


def test_what_was_stopped_is_not_charged(consumer):
    entry = consumer.take("a")

    consumer.recover(entry, blame="none")

    assert "crashes" not in consumer.waiting()[0]


def test_a_message_that_crashed_too_often_is_put_aside_and_fails(consumer):
    entry = consumer.take("a", crashes="2")

    assert consumer.recover(entry, reason="killed by SIGSEGV") == [0, 0, 1, 0, 0]

    assert consumer.waiting() == consumer.waiting("mail") == []
    assert consumer.pending() == 0
    letter, record = consumer.letter("a"), consumer.record("a")
    assert (letter["dead_reason"], letter["crashes"]) == ("crashed 3 times", "3")
    assert (record["state"], record["error_type"]) == ("FAILURE", LOST)
    assert record["error"] == "killed by SIGSEGV"


@pytest.mark.parametrize(("allowed", "dead_lettered"), [("1", 1), ("2", 0)])
def test_a_message_may_say_how_many_crashes_it_may_have(consumer, allowed, dead_lettered):
    entry = consumer.take("a", max_deliveries=allowed)

    assert consumer.recover(entry)[2] == dead_lettered


def test_crashes_that_are_no_numbers_count_as_none(consumer):
    entry = consumer.take("a", crashes="many", max_deliveries="few")

    assert consumer.recover(entry) == [1, 0, 0, 0, 0]
    assert consumer.waiting()[0]["crashes"] == "1"


def test_what_had_been_acknowledged_early_fails_as_lost(consumer):
    entry = consumer.take("a")
    consumer.start(entry)

    assert consumer.recover(entry) == [0, 1, 0, 0, 0]

    assert consumer.record("a")["error_type"] == LOST
    assert consumer.waiting() == []
    assert not consumer.redis.exists("{streamq}:started:me")


def test_a_lost_early_message_without_a_record_becomes_a_dead_letter(consumer):
    entry = consumer.take("a", ignore_result="1", args="[7]")
    consumer.start(entry)

    assert consumer.recover(entry) == [0, 0, 1, 0, 0]

    assert consumer.letter("a")["dead_reason"] == "worker lost"
    assert consumer.letter("a")["args"] == "[7]"
    assert consumer.record("a") == {}


@pytest.mark.parametrize(
    ("asked", "life"),
    [
        ("7200000", 2 * HOUR),
        ("0007200000", 2 * HOUR),
        ("0", HOUR),
        ("soon", HOUR),
        ("-5", HOUR),
        ("1.5", HOUR),
        ("9" * 16, HOUR),
    ],
)
@pytest.mark.parametrize("end", ["dead_lettered", "lost", "revoked"])
def test_its_record_is_kept_as_long_as_the_message_says(consumer, scripts, end, asked, life):
    entry = consumer.take("a", max_deliveries="1", result_expires=asked)
    scripts("mark_started", "me", "a")
    if end == "lost":
        consumer.start(entry)
    elif end == "revoked":
        scripts("revoke", "a", HOUR, HOUR, "", 1000)

    consumer.recover(entry)

    assert consumer.record("a")["state"] == ("REVOKED" if end == "revoked" else "FAILURE")
    assert life - 60_000 < consumer.redis.pttl("{streamq}:task:a") <= life


def test_nothing_is_kept_of_the_lease_of_a_recovered_consumer(consumer):
    consumer.recover()

    assert not consumer.redis.exists("{streamq}:leases", "{streamq}:lease_ms")


def test_a_recovered_consumer_is_fenced(consumer, outcome):
    entry = consumer.take("a")
    consumer.recover()

    with pytest.raises(ResponseError, match=r"^FENCED me"):
        consumer.settle(outcome(entry, "a"))
    assert consumer.record("a") == {"state": "QUEUED"}


def test_what_is_still_to_be_settled_stays_and_everything_else_is_moved(consumer, outcome):
    late, early, beside = (consumer.take(id) for id in "abc")
    consumer.take("d")
    consumer.start(early)
    consumer.start(beside)

    for found in ([1, 1, 0, 0, 0], [0, 0, 0, 0, 0]):
        assert consumer.recover(late, early, blame="kept") == found

    assert [fields["id"] for fields in consumer.waiting()] == ["d"]
    assert "crashes" not in consumer.waiting()[0]
    assert consumer.record("c")["error_type"] == LOST
    assert consumer.redis.hkeys("{streamq}:started:me") == [f"mail {early}"]

    consumer.settle(outcome(late, "a"))

    assert consumer.record("a")["state"] == "SUCCESS"
    assert consumer.recover(early, blame="none") == [0, 1, 0, 0, 0]
    assert not consumer.redis.exists("{streamq}:leases", "{streamq}:started:me")


def test_recovery_goes_on_in_bounded_steps(consumer):
    for number in range(5):
        consumer.add(f"t{number}")
    consumer.read()

    steps = [consumer.recover(budget=2) for _ in range(3)]

    assert steps == [[2, 0, 0, 0, 1], [2, 0, 0, 0, 1], [1, 0, 0, 0, 0]]
    assert [fields["id"] for fields in consumer.waiting()] == [f"t{number}" for number in range(5)]
    assert consumer.redis.xinfo_consumers("{streamq}:queue:mail", "workers") == []


def test_the_consumer_stays_known_while_it_holds_anything(consumer):
    for number in range(3):
        consumer.add(f"t{number}")
    consumer.read()

    consumer.recover(budget=2)

    ((consumer),) = consumer.redis.xinfo_consumers("{streamq}:queue:mail", "workers")
    assert (consumer["name"], consumer["pending"]) == ("me", 1)


def test_deleting_the_consumer_too_early_would_lose_messages(consumer):
    for number in range(3):
        consumer.add(f"t{number}")
    consumer.read()
    text = load("recover").text
    guard = "if budget == 0 then\n        return true\n"
    assert text.count(guard) == 1
    script = Script("recover", text.replace(guard, "if budget == 0 then\n        break\n"))
    consumer.redis.script_load(script.text)
    argv = ["me", "", "", 0, "r", "sole_task", 3, 1000, 3, 1000, 2, 0]

    consumer.redis.execute_command(*script.command("{streamq}", *argv))

    reached = [fields["id"] for fields in consumer.waiting()]
    assert reached == ["t0", "t1"]
    assert consumer.pending() == 0


def test_an_entry_that_somebody_deleted_is_forgotten(consumer):
    entry = consumer.take("a")
    consumer.redis.xdel("{streamq}:queue:mail", entry)

    assert consumer.recover(entry) == [0, 0, 0, 0, 0]
    assert consumer.pending() == 0


def test_a_queue_without_streams_does_no_harm(consumer):
    consumer.take("a")
    consumer.redis.hset("{streamq}:queues", "nowhere", "{}")

    assert consumer.recover() == [1, 0, 0, 0, 0]


def test_who_knows_what_it_read_names_the_streams(consumer, scripts):
    scripts("declare_queue", "other", "{}")
    consumer.take("a")
    consumer.take("b", "other")

    assert consumer.recover(streams=["mail:returned", "mail"]) == [1, 0, 0, 0, 0]

    assert (consumer.pending(), consumer.pending("other")) == (0, 1)
    assert consumer.recover(streams=["other"]) == [1, 0, 0, 0, 0]
    assert consumer.waiting("other:returned")[0]["id"] == "b"


def test_recovering_twice_moves_nothing_twice(consumer):
    entry = consumer.take("a")

    assert consumer.recover(entry) == [1, 0, 0, 0, 0]
    assert consumer.recover(entry) == [0, 0, 0, 0, 0]
    assert len(consumer.waiting()) == 1


def test_what_had_ended_before_keeps_its_end(consumer, scripts):
    entry = consumer.take("a", crashes="2")
    consumer.redis.hset("{streamq}:task:a", mapping={"state": "SUCCESS", "result": "5"})

    consumer.recover(entry)

    assert consumer.record("a") == {"state": "SUCCESS", "result": "5"}


def test_of_several_that_ran_together_each_is_only_suspected(consumer):
    entries = [consumer.take(id, crashes="1") for id in "ab"]

    assert consumer.recover(*entries, blame="suspected") == [2, 0, 0, 0, 0]

    assert [fields["crashes"] for fields in consumer.waiting()] == ["2", "2"]


def test_a_message_that_is_suspected_too_often_is_run_alone_before_it_is_dead_lettered(consumer):
    entry = consumer.take("a", crashes="2", args="[1]")

    assert consumer.recover(entry, blame="suspected") == [0, 0, 0, 1, 0]

    assert consumer.waiting("mail:quarantine") == [
        {"id": "a", "task": "tasks.send", "args": "[1]", "crashes": "3"}
    ]
    assert consumer.letters() == []
    assert consumer.redis.smembers("{streamq}:quarantine") == {"mail"}
    assert consumer.record("a")["state"] == "QUEUED"


def quarantined(consumer, scripts):
    """A message that is run alone by `me`."""
    consumer.recover(consumer.take("a", crashes="2"), blame="suspected")
    scripts("register", 15_000, "me")
    (entry,) = consumer.read("mail:quarantine")
    return entry


def test_a_crash_alone_dead_letters_a_quarantined_message(consumer, scripts):
    entry = quarantined(consumer, scripts)

    assert consumer.recover(entry, stream="mail:quarantine") == [0, 0, 1, 0, 0]

    assert consumer.letter("a")["dead_reason"] == "crashed 4 times"


def test_a_quarantined_message_that_had_not_started_when_its_host_died_is_kept(consumer, scripts):
    quarantined(consumer, scripts)

    assert consumer.recover(blame="suspected", known=False) == [0, 0, 0, 1, 0]

    assert consumer.letters() == []
    assert len(consumer.waiting("mail:quarantine")) == 1


def test_a_quarantined_message_that_ran_when_its_host_died_is_dead_lettered(consumer, scripts):
    entry = quarantined(consumer, scripts)
    consumer.redis.hset("{streamq}:started:me", "sole_task", f"mail:quarantine {entry}")

    assert consumer.recover(blame="suspected", known=False) == [0, 0, 1, 0, 0]

    assert consumer.letter("a")["dead_reason"] == "crashed 4 times"


def test_a_quarantined_message_that_is_stopped_stays_in_quarantine(consumer, scripts):
    entry = quarantined(consumer, scripts)

    assert consumer.recover(entry, stream="mail:quarantine", blame="none") == [1, 0, 0, 0, 0]

    assert consumer.waiting("mail:quarantine")[0]["crashes"] == "3"
    assert consumer.waiting() == []


def test_what_a_dead_host_held_is_all_suspected(consumer):
    for id in "ab":
        consumer.take(id)

    assert consumer.recover(blame="suspected", known=False) == [2, 0, 0, 0, 0]

    assert [fields["crashes"] for fields in consumer.waiting()] == ["1", "1"]


def test_another_worker_takes_over_only_from_the_lease_that_it_saw(consumer):
    consumer.take("a")
    seen = f"{consumer.redis.zscore('{streamq}:leases', 'me'):.0f}"
    consumer.redis.zadd("{streamq}:leases", {"me": float(seen) + 5000})

    assert consumer.recover(deadline=seen) == [0, 0, 0, 0, -1]
    assert consumer.redis.zscore("{streamq}:leases", "me") is not None
    assert consumer.pending() == 1

    assert consumer.recover(deadline=f"{float(seen) + 5000:.0f}") == [1, 0, 0, 0, 0]


def test_without_that_comparison_a_living_consumer_would_be_robbed(consumer):
    consumer.take("a")
    text = load("recover").text
    guard = "if deadline ~= claim then"
    assert text.count(guard) == 1
    script = Script("recover", text.replace(guard, "if false then"))
    consumer.redis.script_load(script.text)
    argv = ["me", "5", "", 0, "r", "suspected", 3, 1000, 3, 1000, 100, "*"]

    assert consumer.redis.execute_command(*script.command("{streamq}", *argv))[0] == 1


def take_over_twice(consumer):
    """Two workers saw the same lease; its runner, alive, reads between their calls."""
    consumer.take("a")
    seen = f"{consumer.redis.zscore('{streamq}:leases', 'me'):.0f}"
    suspected = {"deadline": seen, "blame": "suspected", "known": False}
    assert consumer.recover(**suspected) == [1, 0, 0, 0, 0]
    consumer.read("mail:returned")
    return consumer.recover(**suspected)


def test_only_the_first_of_two_workers_takes_over(consumer):
    assert take_over_twice(consumer) == [0, 0, 0, 0, -1]
    assert [fields["crashes"] for fields in consumer.waiting()] == ["1"]
    assert consumer.pending("mail:returned") == 1

    assert consumer.recover(deadline="none", blame="none", known=False) == [1, 0, 0, 0, 0]
    assert [fields["crashes"] for fields in consumer.waiting()] == ["1"]


def test_if_a_lease_that_is_gone_let_workers_in_one_death_would_count_twice(consumer, changed):
    guard = "if deadline ~= claim then"
    run = changed("recover", guard, "if deadline ~= 'none' and deadline ~= claim then")
    consumer.scripts = lambda _, *argv: run(*argv)

    assert take_over_twice(consumer) == [1, 0, 0, 0, 0]
    assert [fields["crashes"] for fields in consumer.waiting()] == ["2"]


def test_who_has_ended_the_lease_goes_on_without_one(consumer):
    for number in range(3):
        consumer.add(f"t{number}")
    consumer.read()
    seen = f"{consumer.redis.zscore('{streamq}:leases', 'me'):.0f}"

    assert consumer.recover(deadline=seen, budget=2)[4] == 1
    assert consumer.recover(deadline=seen, budget=2)[4] == -1
    assert consumer.recover(deadline="none", budget=2) == [1, 0, 0, 0, 0]


@pytest.mark.parametrize(("jump", "left"), [(0, 0), (3000, -1), (-3000, -1)])
def test_nobody_is_taken_over_while_the_clock_jumps(consumer, scripts, jump, left):
    consumer.take("a")
    now = scripts("register", 15_000, "you")

    assert consumer.recover(expect=now + jump, tolerance=1000)[4] == left
    assert consumer.pending() == (0 if left == 0 else 1)


def test_a_consumer_without_a_lease_is_taken_over_if_it_still_has_none(consumer):
    consumer.take("a")
    assert consumer.recover(deadline="none")[4] == -1

    consumer.redis.zrem("{streamq}:leases", "me")
    assert consumer.recover(deadline="none") == [1, 0, 0, 0, 0]
