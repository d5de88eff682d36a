"""Recovering what a dead consumer held, straight at Redis."""

import pytest
from redis.exceptions import ResponseError

from streamq.transport.scripts import Script, load

LOST = "streamq.errors.WorkerLost"
HOUR = 3_600_000


def test_what_was_read_goes_to_the_front_uncharged(desk):
    desk.take("a", args="[1]")

    assert desk.recover() == [1, 0, 0, 0, 0]

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

    assert desk.recover(entry) == [1, 0, 0, 0, 0]

    assert desk.waiting()[0]["crashes"] == "1"
    assert desk.record("a") == {"state": "QUEUED"}


def test_what_was_stopped_is_not_charged(desk):
    entry = desk.take("a")

    desk.recover(entry, charge="none")

    assert "crashes" not in desk.waiting()[0]


def test_a_message_that_crashed_too_often_is_put_aside_and_fails(desk):
    entry = desk.take("a", crashes="2")

    assert desk.recover(entry, reason="killed by SIGSEGV") == [0, 0, 1, 0, 0]

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

    assert desk.recover(entry) == [1, 0, 0, 0, 0]
    assert desk.waiting()[0]["crashes"] == "1"


def test_what_had_been_acknowledged_early_fails_as_lost(desk):
    entry = desk.take("a")
    desk.start(entry)

    assert desk.recover(entry) == [0, 1, 0, 0, 0]

    assert desk.record("a")["error_type"] == LOST
    assert desk.waiting() == []
    assert not desk.redis.exists("{streamq}:started:me")


def test_a_lost_early_message_without_a_record_becomes_a_dead_letter(desk):
    entry = desk.take("a", ignore_result="1", args="[7]")
    desk.start(entry)

    assert desk.recover(entry) == [0, 0, 1, 0, 0]

    assert desk.letter("a")["dead_reason"] == "worker lost"
    assert desk.letter("a")["args"] == "[7]"
    assert desk.record("a") == {}


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
@pytest.mark.parametrize("end", ["condemned", "lost", "revoked"])
def test_its_record_is_kept_as_long_as_the_message_says(desk, scripts, end, asked, life):
    entry = desk.take("a", max_deliveries="1", result_expires=asked)
    scripts("show_started", "me", "a")
    if end == "lost":
        desk.start(entry)
    elif end == "revoked":
        scripts("revoke", "a", HOUR, HOUR, "", 1000)

    desk.recover(entry)

    assert desk.record("a")["state"] == ("REVOKED" if end == "revoked" else "FAILURE")
    assert life - 60_000 < desk.redis.pttl("{streamq}:task:a") <= life


def test_nothing_is_kept_of_the_lease_of_a_recovered_consumer(desk):
    desk.recover()

    assert not desk.redis.exists("{streamq}:leases", "{streamq}:lease_ms")


def test_a_recovered_consumer_is_fenced(desk, outcome):
    entry = desk.take("a")
    desk.recover()

    with pytest.raises(ResponseError, match=r"^FENCED me"):
        desk.complete(outcome(entry, "a"))
    assert desk.record("a") == {"state": "QUEUED"}


def test_what_is_still_to_be_settled_stays_and_everything_else_is_moved(desk, outcome):
    late, early, beside = (desk.take(id) for id in "abc")
    desk.take("d")
    desk.start(early)
    desk.start(beside)

    for found in ([1, 1, 0, 0, 0], [0, 0, 0, 0, 0]):
        assert desk.recover(late, early, charge="kept") == found

    assert [fields["id"] for fields in desk.waiting()] == ["d"]
    assert "crashes" not in desk.waiting()[0]
    assert desk.record("c")["error_type"] == LOST
    assert desk.redis.hkeys("{streamq}:started:me") == [f"mail {early}"]

    desk.complete(outcome(late, "a"))

    assert desk.record("a")["state"] == "SUCCESS"
    assert desk.recover(early, charge="none") == [0, 1, 0, 0, 0]
    assert not desk.redis.exists("{streamq}:leases", "{streamq}:started:me")


def test_recovery_goes_on_in_bounded_steps(desk):
    for number in range(5):
        desk.add(f"t{number}")
    desk.read()

    steps = [desk.recover(budget=2) for _ in range(3)]

    assert steps == [[2, 0, 0, 0, 1], [2, 0, 0, 0, 1], [1, 0, 0, 0, 0]]
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
    guard = "if budget == 0 then\n        return true\n"
    assert text.count(guard) == 1
    script = Script("recover", text.replace(guard, "if budget == 0 then\n        break\n"))
    desk.redis.script_load(script.text)
    argv = ["me", "", "", 0, "r", "alone", 3, 1000, 3, 1000, 2, 0]

    desk.redis.execute_command(*script.command("{streamq}", *argv))

    reached = [fields["id"] for fields in desk.waiting()]
    assert reached == ["t0", "t1"]
    assert desk.pending() == 0


def test_an_entry_that_somebody_deleted_is_forgotten(desk):
    entry = desk.take("a")
    desk.redis.xdel("{streamq}:queue:mail", entry)

    assert desk.recover(entry) == [0, 0, 0, 0, 0]
    assert desk.pending() == 0


def test_a_queue_without_streams_does_no_harm(desk):
    desk.take("a")
    desk.redis.hset("{streamq}:queues", "nowhere", "{}")

    assert desk.recover() == [1, 0, 0, 0, 0]


def test_who_knows_what_it_read_names_the_streams(desk, scripts):
    scripts("declare_queue", "other", "{}")
    desk.take("a")
    desk.take("b", "other")

    assert desk.recover(streams=["mail:returned", "mail"]) == [1, 0, 0, 0, 0]

    assert (desk.pending(), desk.pending("other")) == (0, 1)
    assert desk.recover(streams=["other"]) == [1, 0, 0, 0, 0]
    assert desk.waiting("other:returned")[0]["id"] == "b"


def test_recovering_twice_moves_nothing_twice(desk):
    entry = desk.take("a")

    assert desk.recover(entry) == [1, 0, 0, 0, 0]
    assert desk.recover(entry) == [0, 0, 0, 0, 0]
    assert len(desk.waiting()) == 1


def test_what_had_ended_before_keeps_its_end(desk, scripts):
    entry = desk.take("a", crashes="2")
    desk.redis.hset("{streamq}:task:a", mapping={"state": "SUCCESS", "result": "5"})

    desk.recover(entry)

    assert desk.record("a") == {"state": "SUCCESS", "result": "5"}


def test_of_several_that_ran_together_each_is_only_suspected(desk):
    entries = [desk.take(id, crashes="1") for id in "ab"]

    assert desk.recover(*entries, charge="suspects") == [2, 0, 0, 0, 0]

    assert [fields["crashes"] for fields in desk.waiting()] == ["2", "2"]


def test_who_is_suspected_too_often_is_run_alone_before_it_is_condemned(desk):
    entry = desk.take("a", crashes="2", args="[1]")

    assert desk.recover(entry, charge="suspects") == [0, 0, 0, 1, 0]

    assert desk.waiting("mail:suspects") == [
        {"id": "a", "task": "tasks.send", "args": "[1]", "crashes": "3"}
    ]
    assert desk.letters() == []
    assert desk.redis.smembers("{streamq}:suspects") == {"mail"}
    assert desk.record("a")["state"] == "QUEUED"


def suspect(desk, scripts):
    """A message that is run alone by `me`."""
    desk.recover(desk.take("a", crashes="2"), charge="suspects")
    scripts("register", 15_000, "me")
    (entry,) = desk.read("mail:suspects")
    return entry


def test_a_crash_alone_condemns_a_suspect(desk, scripts):
    entry = suspect(desk, scripts)

    assert desk.recover(entry, stream="mail:suspects") == [0, 0, 1, 0, 0]

    assert desk.letter("a")["dead_reason"] == "crashed 4 times"


def test_a_suspect_that_had_not_started_when_its_host_died_is_not_condemned(desk, scripts):
    suspect(desk, scripts)

    assert desk.recover(charge="suspects", known=False) == [0, 0, 0, 1, 0]

    assert desk.letters() == []
    assert len(desk.waiting("mail:suspects")) == 1


def test_a_suspect_that_had_started_alone_when_its_host_died_is_condemned(desk, scripts):
    entry = suspect(desk, scripts)
    desk.redis.hset("{streamq}:started:me", "alone", f"mail:suspects {entry}")

    assert desk.recover(charge="suspects", known=False) == [0, 0, 1, 0, 0]

    assert desk.letter("a")["dead_reason"] == "crashed 4 times"


def test_a_suspect_that_is_stopped_stays_among_the_suspects(desk, scripts):
    entry = suspect(desk, scripts)

    assert desk.recover(entry, stream="mail:suspects", charge="none") == [1, 0, 0, 0, 0]

    assert desk.waiting("mail:suspects")[0]["crashes"] == "3"
    assert desk.waiting() == []


def test_what_a_dead_host_held_is_all_suspected_because_nobody_knows(desk):
    for id in "ab":
        desk.take(id)

    assert desk.recover(charge="suspects", known=False) == [2, 0, 0, 0, 0]

    assert [fields["crashes"] for fields in desk.waiting()] == ["1", "1"]


def test_a_stranger_takes_over_only_from_the_lease_that_it_saw(desk):
    desk.take("a")
    seen = f"{desk.redis.zscore('{streamq}:leases', 'me'):.0f}"
    desk.redis.zadd("{streamq}:leases", {"me": float(seen) + 5000})

    assert desk.recover(deadline=seen) == [0, 0, 0, 0, -1]
    assert desk.redis.zscore("{streamq}:leases", "me") is not None
    assert desk.pending() == 1

    assert desk.recover(deadline=f"{float(seen) + 5000:.0f}") == [1, 0, 0, 0, 0]


def test_without_that_comparison_a_living_consumer_would_be_robbed(desk):
    desk.take("a")
    text = load("recover").text
    guard = "if deadline and deadline ~= claim then"
    assert text.count(guard) == 1
    script = Script("recover", text.replace(guard, "if false then"))
    desk.redis.script_load(script.text)
    argv = ["me", "5", "", 0, "r", "suspects", 3, 1000, 3, 1000, 100, "*"]

    assert desk.redis.execute_command(*script.command("{streamq}", *argv))[0] == 1


@pytest.mark.parametrize(("jump", "left"), [(0, 0), (3000, -1), (-3000, -1)])
def test_nobody_is_taken_over_while_the_clock_jumps(desk, scripts, jump, left):
    desk.take("a")
    now = scripts("register", 15_000, "you")

    assert desk.recover(expect=now + jump, tolerance=1000)[4] == left
    assert desk.pending() == (0 if left == 0 else 1)


def test_a_consumer_without_a_lease_is_taken_over_if_it_still_has_none(desk):
    desk.take("a")
    assert desk.recover(deadline="none")[4] == -1

    desk.redis.zrem("{streamq}:leases", "me")
    assert desk.recover(deadline="none") == [1, 0, 0, 0, 0]
