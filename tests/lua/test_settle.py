"""Settling, straight at Redis: all of it or nothing, once, and by the living only."""

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from streamq.broker.consumer import mark_of
from streamq.core.delivery import Delivery
from streamq.transport.scripts import Script, load


def test_a_late_message_is_acknowledged_deleted_and_recorded_at_once(desk, outcome):
    entry = desk.take("a")

    assert desk.complete(outcome(entry, "a", result="5", runtime="0.1")) == "1"

    assert (desk.pending(), desk.waiting("mail")) == (0, [])
    record = desk.record("a")
    assert record.pop("finished").isdigit()
    assert record == {"state": "SUCCESS", "worker": "me", "result": "5", "runtime": "0.1"}
    assert 0 < desk.redis.pttl("{streamq}:task:a") <= 3_600_000


def test_messages_of_several_streams_are_settled_in_one_call(desk, outcome):
    one, two = desk.take("a"), desk.take("b", "mail:returned")

    groups = [outcome(one, "a"), outcome(two, "b", stream="mail:returned", state="FAILURE")]
    assert desk.complete(*groups) == "11"

    assert [desk.record(id)["state"] for id in "ab"] == ["SUCCESS", "FAILURE"]
    assert desk.pending() + desk.pending("mail:returned") == 0


def test_what_another_has_acknowledged_is_not_written(desk, outcome):
    entry = desk.take("a")
    desk.redis.xack("{streamq}:queue:mail", "workers", entry)

    assert desk.complete(outcome(entry, "a", result="5")) == "0"

    assert desk.record("a") == {"state": "QUEUED"}


def test_a_call_sent_again_gets_the_same_answer_and_writes_nothing(desk, outcome):
    entry = desk.take("a")
    first = desk.complete(outcome(entry, "a", result="5"), number=7)
    desk.redis.delete("{streamq}:task:a")

    assert desk.complete(outcome(entry, "a", result="5"), number=7) == first == "1"
    assert desk.record("a") == {}


def test_an_answer_is_remembered_as_it_was(desk, outcome):
    one, two = desk.take("a"), desk.take("b")
    desk.redis.xack("{streamq}:queue:mail", "workers", one)
    both = outcome(one, "a"), outcome(two, "b")

    assert desk.complete(*both, number=7) == desk.complete(*both, number=7) == "01"
    assert desk.complete(outcome(two, "b"), number=8) == "0"


def test_what_stands_in_the_place_of_a_record_is_left_alone_and_keeps_nobody_up(desk, outcome):
    entries = [desk.take(id) for id in "abc"]
    groups = [outcome(entry, id) for entry, id in zip(entries, "abc", strict=True)]
    desk.redis.set("{streamq}:task:b", "not a record")

    assert desk.complete(*groups) == "111"

    assert [desk.record(id)["state"] for id in "ac"] == ["SUCCESS"] * 2
    assert desk.redis.get("{streamq}:task:b") == "not a record"
    assert (desk.pending(), desk.waiting("mail")) == (0, [])


def test_what_stands_in_the_place_of_replies_keeps_no_task_from_ending(desk, outcome, scripts):
    scripts("await", "a", "one")
    desk.redis.set("{streamq}:reply:one", "not a stream")

    assert desk.complete(outcome(desk.take("a"), "a", result="5")) == "1"

    assert desk.record("a")["state"] == "SUCCESS"


def test_a_record_that_is_kept_for_ever_stays_though_it_would_have_expired(desk, outcome, scripts):
    entry = desk.take("a")
    desk.redis.pexpire("{streamq}:task:a", 60_000)

    desk.complete(outcome(entry, "a", expires=0, result="5"))

    assert desk.redis.pttl("{streamq}:task:a") == -1


def test_a_consumer_without_a_lease_settles_nothing(desk, outcome):
    entry = desk.take("a")
    desk.redis.zrem("{streamq}:leases", "me")

    with pytest.raises(ResponseError, match=r"^FENCED me"):
        desk.complete(outcome(entry, "a"))

    assert desk.pending() == 1
    assert desk.record("a") == {"state": "QUEUED"}


def test_without_the_question_for_the_lease_the_dead_would_settle(desk, outcome):
    entry = desk.take("a")
    desk.redis.zrem("{streamq}:leases", "me")
    text = load("complete").text
    guard = "if not redis.call('ZRANK', key_of('leases'), consumer) then"
    assert text.count(guard) == 1
    script = Script("complete", text.replace(guard, "if false then"))
    desk.redis.script_load(script.text)

    desk.redis.execute_command(*script.command("{streamq}", "me", 1, *outcome(entry, "a")))

    assert desk.record("a")["state"] == "SUCCESS"


def test_a_final_state_is_written_once(desk, outcome):
    desk.complete(outcome(desk.take("a"), "a", result="first"))
    again = desk.redis.xadd("{streamq}:queue:mail", {"id": "a", "task": "t"})
    desk.read()

    assert desk.complete(outcome(again, "a", result="second")) == "1"

    assert desk.record("a")["result"] == "first"
    assert desk.waiting("mail") == []


def test_no_record_is_written_where_none_is_kept(desk, outcome):
    entry = desk.take("a", ignore_result="1")

    assert desk.complete(outcome(entry, "a", state="", expires=0)) == "1"

    assert desk.record("a") == {}
    assert desk.pending() == 0


def test_a_record_that_is_left_as_it_is_expires(desk, outcome):
    entry = desk.take("a")

    desk.complete(outcome(entry, "a", state="", expires=1000))

    record = desk.record("a")
    assert (record["state"], record["worker"]) == ("QUEUED", "me")
    assert "result" not in record
    assert 0 < desk.redis.pttl("{streamq}:task:a") <= 1000


def test_those_who_wait_are_told(desk, outcome, scripts):
    entry = desk.take("a")
    scripts("await", "a", "one")
    scripts("await", "a", "two")

    desk.complete(outcome(entry, "a", result="5"))

    for name in ("one", "two"):
        ((_, news),) = desk.redis.xrange(f"{{streamq}}:reply:{name}")
        assert (news["id"], news["state"], news["result"]) == ("a", "SUCCESS", "5")
        assert desk.redis.pttl(f"{{streamq}}:reply:{name}") > 0
    assert "waiters" not in desk.record("a")


def test_a_large_value_is_not_sent_to_those_who_wait(desk, outcome, scripts):
    entry = desk.take("a")
    scripts("await", "a", "one")

    desk.complete(outcome(entry, "a", result="x" * 5000))

    ((_, news),) = desk.redis.xrange("{streamq}:reply:one")
    assert news == {"id": "a", "state": "SUCCESS"}


def test_what_cannot_be_run_is_buried_with_its_reason(desk, following):
    entry = desk.take("a", args="[1")

    words = ("bury", "undecodable message", "bad json")
    assert desk.settle(following(entry, "a", *words, error="bad json")) == "1"

    letter = desk.letter("a")
    assert letter.pop("dead_at").isdigit()
    assert letter == {
        "id": "a",
        "task": "tasks.send",
        "args": "[1",
        "dead_reason": "undecodable message",
        "dead_error": "bad json",
        "dead_worker": "me",
    }
    assert desk.record("a")["error"] == "bad json"
    assert desk.redis.pttl("{streamq}:dead:mail:a") > 0


def test_dead_letters_are_bounded_and_the_oldest_go_first(desk, following):
    for id in "abcde":
        desk.settle(following(desk.take(id), id, "bury", "odd", "e"))

    assert desk.letters() == ["c", "d", "e"]
    assert [bool(desk.letter(id)) for id in "abcde"] == [False, False, True, True, True]


def test_a_second_letter_of_the_same_id_has_a_place_of_its_own(desk, following):
    for _ in range(2):
        desk.settle(following(desk.take("a"), "a", "bury", "odd", "e"))

    assert desk.letters() == ["a", "a#2"]
    assert desk.letter("a#2")["id"] == "a"


def test_an_early_message_leaves_its_queue_before_it_runs_and_keeps_a_mark(desk, outcome):
    entry = desk.take("a", args="[1]")

    assert desk.start(entry) == "1"
    assert (desk.pending(), desk.waiting("mail")) == (0, [])
    assert desk.redis.hlen("{streamq}:started:me") == 1

    assert desk.complete(outcome(entry, "a", ack="early", result="5")) == "1"
    assert desk.record("a")["result"] == "5"
    assert not desk.redis.exists("{streamq}:started:me")


def test_a_start_is_ours_however_long_ago_its_answer_was_lost(desk, outcome):
    entry = desk.take("a", args="[1]")
    assert desk.start(entry) == "1"
    desk.redis.delete("{streamq}:settled:me")

    assert desk.start(entry) == "1"

    assert desk.redis.hlen("{streamq}:started:me") == 1
    assert desk.complete(outcome(entry, "a", ack="early", result="5")) == "1"
    assert desk.start(entry) == "0"


def test_an_early_message_that_another_took_is_not_started(desk):
    entry = desk.take("a")
    desk.redis.xack("{streamq}:queue:mail", "workers", entry)

    assert desk.start(entry) == "0"
    assert desk.start("1-1") == "0"
    assert not desk.redis.exists("{streamq}:started:me")


def test_entries_of_two_queues_with_one_id_are_started_apart(desk, outcome):
    for stream in ("mail", "mail:returned"):
        fields = {"id": stream, "task": "t"}
        desk.redis.xadd(f"{{streamq}}:queue:{stream}", fields, id="5-0")
        desk.read(stream)

    starts = [("start", stream, 1, "5-0", "{}") for stream in ("mail", "mail:returned")]
    assert desk.complete(*starts) == "11"
    ends = [
        outcome("5-0", "mail", ack="early"),
        outcome("5-0", "mail:returned", ack="early", stream="mail:returned"),
    ]
    assert desk.complete(*ends) == "11"


def test_an_early_message_that_is_rejected_is_buried_whole(desk, following):
    entry = desk.take("a", args="\x00\x01 é")
    desk.start(entry)

    desk.settle(following(entry, "a", "bury", "rejected", "no", ack="early"))

    assert (desk.letter("a")["args"], desk.letter("a")["dead_reason"]) == ("\x00\x01 é", "rejected")


def test_a_mark_keeps_bytes_of_every_kind(redis, server_url, scripts, following):
    scripts("declare_queue", "mail", "{}")
    scripts("register", 15_000, "me")
    raw = Redis.from_url(server_url)
    sent = {b"task": b"t", b"args": bytes(range(256)), "é".encode(): b'"\\'}
    entry = raw.xadd("{streamq}:queue:mail", sent)
    raw.xreadgroup("workers", "me", {"{streamq}:queue:mail": ">"})

    delivery = Delivery("mail", entry, sent)
    scripts("complete", "me", 1, "start", "mail", 1, entry, mark_of(delivery))
    end = following(entry, delivery.id, "bury", "rejected", "no", ack="early", state="")
    scripts("settle", "me", 2, 3, 60_000, *end)

    letter = raw.hgetall(f"{{streamq}}:dead:mail:mail-{entry.decode()}")
    assert {name: letter[name] for name in sent} == sent
    assert letter[b"id"] == delivery.id


@pytest.mark.parametrize("state", ["SUCCESS", ""], ids=["ended", "left as it is"])
def test_the_record_of_all_copies_expires_with_the_last_one(desk, outcome, state):
    base = "{streamq}:task:a"
    desk.redis.hset(base, mapping={"state": "QUEUED", "copies": "mail:post"})
    copies = [desk.take(f"a@{queue}") for queue in ("mail", "post")]

    desk.complete(outcome(copies[0], "a@mail", state=state))
    assert desk.redis.pttl(base) == -1
    desk.complete(outcome(copies[1], "a@post", state=state))

    assert desk.redis.pttl(base) > 0


@pytest.mark.parametrize("state", ["SUCCESS", ""], ids=["an end", "none"])
def test_a_copy_that_was_revoked_before_it_ended_counts_once(desk, outcome, scripts, state):
    base = "{streamq}:task:a"
    desk.redis.hset(base, mapping={"state": "QUEUED", "copies": "mail:post"})
    copies = [desk.take(f"a@{queue}") for queue in ("mail", "post")]

    scripts("revoke", "a@mail", 3_600_000, 3_600_000, "", 1000)
    desk.complete(outcome(copies[0], "a@mail", state=state))

    assert desk.redis.hget(base, "ended") == "1"
    assert desk.redis.pttl(base) == -1


@pytest.mark.parametrize(
    "words",
    [(), ("bury", "odd", "e"), ("later", "+1000", "", "retries", "1")],
    ids=["an end", "a dead letter", "a retry"],
)
def test_settling_works_when_memory_is_full(desk, outcome, following, words):
    entry = desk.take("a")
    desk.redis.config_set("maxmemory", 1)
    try:
        if words:
            assert desk.settle(following(entry, "a", *words)) == "1"
        else:
            assert desk.complete(outcome(entry, "a", result="5")) == "1"
    finally:
        desk.redis.config_set("maxmemory", 0)


def test_a_run_that_says_nothing_changes_no_record_that_has_ended(desk, outcome, scripts):
    entry = desk.take("a")
    scripts("revoke", "a", 60_000, 60_000, "", 1000)
    ended = desk.record("a")

    assert desk.complete(outcome(entry, "a", state="")) == "1"

    assert desk.record("a") == ended
    assert "worker" not in ended
