"""Settling, straight at Redis: all of it or nothing, once, and by the living only."""

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from streamq.broker.consumer import mark_of
from streamq.core.delivery import Delivery
from streamq.transport.scripts import Script, load


def test_a_late_message_is_acknowledged_deleted_and_recorded_at_once(consumer, outcome):
    entry = consumer.take("a")

    assert consumer.settle(outcome(entry, "a", result="5", runtime="0.1")) == "1"

    assert (consumer.pending(), consumer.waiting("mail")) == (0, [])
    record = consumer.record("a")
    assert record.pop("finished").isdigit()
    assert record == {"state": "SUCCESS", "worker": "me", "result": "5", "runtime": "0.1"}
    assert 0 < consumer.redis.pttl("{streamq}:task:a") <= 3_600_000


def test_messages_of_several_streams_are_settled_in_one_call(consumer, outcome):
    one, two = consumer.take("a"), consumer.take("b", "mail:returned")

    groups = [outcome(one, "a"), outcome(two, "b", stream="mail:returned", state="FAILURE")]
    assert consumer.settle(*groups) == "11"

    assert [consumer.record(id)["state"] for id in "ab"] == ["SUCCESS", "FAILURE"]
    assert consumer.pending() + consumer.pending("mail:returned") == 0


def test_what_another_has_acknowledged_is_not_written(consumer, outcome):
    entry = consumer.take("a")
    consumer.redis.xack("{streamq}:queue:mail", "workers", entry)

    assert consumer.settle(outcome(entry, "a", result="5")) == "0"

    assert consumer.record("a") == {"state": "QUEUED"}


def test_a_call_sent_again_gets_the_same_answer_and_writes_nothing(consumer, outcome):
    entry = consumer.take("a")
    first = consumer.settle(outcome(entry, "a", result="5"), number=7)
    consumer.redis.delete("{streamq}:task:a")

    assert consumer.settle(outcome(entry, "a", result="5"), number=7) == first == "1"
    assert consumer.record("a") == {}


def test_an_answer_is_remembered_as_it_was(consumer, outcome):
    one, two = consumer.take("a"), consumer.take("b")
    consumer.redis.xack("{streamq}:queue:mail", "workers", one)
    both = outcome(one, "a"), outcome(two, "b")

    assert consumer.settle(*both, number=7) == consumer.settle(*both, number=7) == "01"
    assert consumer.settle(outcome(two, "b"), number=8) == "0"


def test_what_stands_in_the_place_of_a_record_is_left_alone_and_keeps_nobody_up(consumer, outcome):
    entries = [consumer.take(id) for id in "abc"]
    groups = [outcome(entry, id) for entry, id in zip(entries, "abc", strict=True)]
    consumer.redis.set("{streamq}:task:b", "not a record")

    assert consumer.settle(*groups) == "111"

    assert [consumer.record(id)["state"] for id in "ac"] == ["SUCCESS"] * 2
    assert consumer.redis.get("{streamq}:task:b") == "not a record"
    assert (consumer.pending(), consumer.waiting("mail")) == (0, [])


def test_what_stands_in_the_place_of_replies_keeps_no_task_from_ending(consumer, outcome, scripts):
    scripts("await_result", "a", "one")
    consumer.redis.set("{streamq}:reply:one", "not a stream")

    assert consumer.settle(outcome(consumer.take("a"), "a", result="5")) == "1"

    assert consumer.record("a")["state"] == "SUCCESS"


def test_a_record_that_is_kept_for_ever_stays_though_it_would_have_expired(
    consumer, outcome, scripts
):
    entry = consumer.take("a")
    consumer.redis.pexpire("{streamq}:task:a", 60_000)

    consumer.settle(outcome(entry, "a", expires=0, result="5"))

    assert consumer.redis.pttl("{streamq}:task:a") == -1


def test_a_consumer_without_a_lease_settles_nothing(consumer, outcome):
    entry = consumer.take("a")
    consumer.redis.zrem("{streamq}:leases", "me")

    with pytest.raises(ResponseError, match=r"^FENCED me"):
        consumer.settle(outcome(entry, "a"))

    assert consumer.pending() == 1
    assert consumer.record("a") == {"state": "QUEUED"}


def test_without_the_question_for_the_lease_the_dead_would_settle(consumer, outcome):
    entry = consumer.take("a")
    consumer.redis.zrem("{streamq}:leases", "me")
    text = load("settle").text
    guard = "if not redis.call('ZRANK', key_of('leases'), consumer) then"
    assert text.count(guard) == 1
    script = Script("settle", text.replace(guard, "if false then"))
    consumer.redis.script_load(script.text)

    consumer.redis.execute_command(*script.command("{streamq}", "me", 1, *outcome(entry, "a")))

    assert consumer.record("a")["state"] == "SUCCESS"


def test_a_final_state_is_written_once(consumer, outcome):
    consumer.settle(outcome(consumer.take("a"), "a", result="first"))
    again = consumer.redis.xadd("{streamq}:queue:mail", {"id": "a", "task": "t"})
    consumer.read()

    assert consumer.settle(outcome(again, "a", result="second")) == "1"

    assert consumer.record("a")["result"] == "first"
    assert consumer.waiting("mail") == []


def test_no_record_is_written_where_none_is_kept(consumer, outcome):
    entry = consumer.take("a", ignore_result="1")

    assert consumer.settle(outcome(entry, "a", state="", expires=0)) == "1"

    assert consumer.record("a") == {}
    assert consumer.pending() == 0


def test_a_record_that_is_left_as_it_is_expires(consumer, outcome):
    entry = consumer.take("a")

    consumer.settle(outcome(entry, "a", state="", expires=1000))

    record = consumer.record("a")
    assert (record["state"], record["worker"]) == ("QUEUED", "me")
    assert "result" not in record
    assert 0 < consumer.redis.pttl("{streamq}:task:a") <= 1000


def test_those_who_wait_are_told(consumer, outcome, scripts):
    entry = consumer.take("a")
    scripts("await_result", "a", "one")
    scripts("await_result", "a", "two")

    consumer.settle(outcome(entry, "a", result="5"))

    for name in ("one", "two"):
        ((_, news),) = consumer.redis.xrange(f"{{streamq}}:reply:{name}")
        assert (news["id"], news["state"], news["result"]) == ("a", "SUCCESS", "5")
        assert consumer.redis.pttl(f"{{streamq}}:reply:{name}") > 0
    assert "waiters" not in consumer.record("a")


def test_a_large_value_is_not_sent_to_those_who_wait(consumer, outcome, scripts):
    entry = consumer.take("a")
    scripts("await_result", "a", "one")

    consumer.settle(outcome(entry, "a", result="x" * 5000))

    ((_, news),) = consumer.redis.xrange("{streamq}:reply:one")
    assert news == {"id": "a", "state": "SUCCESS"}


def test_what_cannot_be_run_is_dead_lettered_with_its_reason(consumer, following):
    entry = consumer.take("a", args="[1")

    words = ("dead_letter", "undecodable message", "bad json")
    assert consumer.follow(following(entry, "a", *words, error="bad json")) == "1"

    letter = consumer.letter("a")
    assert letter.pop("dead_at").isdigit()
    assert letter == {
        "id": "a",
        "task": "tasks.send",
        "args": "[1",
        "dead_reason": "undecodable message",
        "dead_error": "bad json",
        "dead_worker": "me",
    }
    assert consumer.record("a")["error"] == "bad json"
    assert consumer.redis.pttl("{streamq}:dead:mail:a") > 0


def test_dead_letters_are_bounded_and_the_oldest_go_first(consumer, following):
    for id in "abcde":
        consumer.follow(following(consumer.take(id), id, "dead_letter", "odd", "e"))

    assert consumer.letters() == ["c", "d", "e"]
    assert [bool(consumer.letter(id)) for id in "abcde"] == [False, False, True, True, True]


def test_a_second_letter_of_the_same_id_has_a_place_of_its_own(consumer, following):
    for _ in range(2):
        consumer.follow(following(consumer.take("a"), "a", "dead_letter", "odd", "e"))

    assert consumer.letters() == ["a", "a#2"]
    assert consumer.letter("a#2")["id"] == "a"


def test_an_early_message_leaves_its_queue_before_it_runs_and_keeps_a_mark(consumer, outcome):
    entry = consumer.take("a", args="[1]")

    assert consumer.start(entry) == "1"
    assert (consumer.pending(), consumer.waiting("mail")) == (0, [])
    assert consumer.redis.hlen("{streamq}:started:me") == 1

    assert consumer.settle(outcome(entry, "a", ack="early", result="5")) == "1"
    assert consumer.record("a")["result"] == "5"
    assert not consumer.redis.exists("{streamq}:started:me")


def test_a_start_is_ours_however_long_ago_its_answer_was_lost(consumer, outcome):
    entry = consumer.take("a", args="[1]")
    assert consumer.start(entry) == "1"
    consumer.redis.delete("{streamq}:settled:me")

    assert consumer.start(entry) == "1"

    assert consumer.redis.hlen("{streamq}:started:me") == 1
    assert consumer.settle(outcome(entry, "a", ack="early", result="5")) == "1"
    assert consumer.start(entry) == "0"


def test_an_early_message_that_another_took_is_not_started(consumer):
    entry = consumer.take("a")
    consumer.redis.xack("{streamq}:queue:mail", "workers", entry)

    assert consumer.start(entry) == "0"
    assert consumer.start("1-1") == "0"
    assert not consumer.redis.exists("{streamq}:started:me")


def test_entries_of_two_queues_with_one_id_are_started_apart(consumer, outcome):
    for stream in ("mail", "mail:returned"):
        fields = {"id": stream, "task": "t"}
        consumer.redis.xadd(f"{{streamq}}:queue:{stream}", fields, id="5-0")
        consumer.read(stream)

    starts = [("start", stream, 1, "5-0", "{}") for stream in ("mail", "mail:returned")]
    assert consumer.settle(*starts) == "11"
    ends = [
        outcome("5-0", "mail", ack="early"),
        outcome("5-0", "mail:returned", ack="early", stream="mail:returned"),
    ]
    assert consumer.settle(*ends) == "11"


def test_an_early_message_that_is_rejected_is_dead_lettered_whole(consumer, following):
    entry = consumer.take("a", args="\x00\x01 é")
    consumer.start(entry)

    consumer.follow(following(entry, "a", "dead_letter", "rejected", "no", ack="early"))

    assert (consumer.letter("a")["args"], consumer.letter("a")["dead_reason"]) == (
        "\x00\x01 é",
        "rejected",
    )


def test_a_mark_keeps_bytes_of_every_kind(redis, server_url, scripts, following):
    scripts("declare_queue", "mail", "{}")
    scripts("register", 15_000, "me")
    raw = Redis.from_url(server_url)
    sent = {b"task": b"t", b"args": bytes(range(256)), "é".encode(): b'"\\'}
    entry = raw.xadd("{streamq}:queue:mail", sent)
    raw.xreadgroup("workers", "me", {"{streamq}:queue:mail": ">"})

    delivery = Delivery("mail", entry, sent)
    scripts("settle", "me", 1, "start", "mail", 1, entry, mark_of(delivery))
    end = following(entry, delivery.id, "dead_letter", "rejected", "no", ack="early", state="")
    scripts("follow", "me", 2, 3, 60_000, *end)

    letter = raw.hgetall(f"{{streamq}}:dead:mail:mail-{entry.decode()}")
    assert {name: letter[name] for name in sent} == sent
    assert letter[b"id"] == delivery.id


@pytest.mark.parametrize("state", ["SUCCESS", ""], ids=["ended", "left as it is"])
def test_the_record_of_all_copies_expires_with_the_last_one(consumer, outcome, state):
    base = "{streamq}:task:a"
    consumer.redis.hset(base, mapping={"state": "QUEUED", "copies": "mail:post"})
    copies = [consumer.take(f"a@{queue}") for queue in ("mail", "post")]

    consumer.settle(outcome(copies[0], "a@mail", state=state))
    assert consumer.redis.pttl(base) == -1
    consumer.settle(outcome(copies[1], "a@post", state=state))

    assert consumer.redis.pttl(base) > 0


@pytest.mark.parametrize("state", ["SUCCESS", ""], ids=["an end", "none"])
def test_a_copy_that_was_revoked_before_it_ended_counts_once(consumer, outcome, scripts, state):
    base = "{streamq}:task:a"
    consumer.redis.hset(base, mapping={"state": "QUEUED", "copies": "mail:post"})
    copies = [consumer.take(f"a@{queue}") for queue in ("mail", "post")]

    scripts("revoke", "a@mail", 3_600_000, 3_600_000, "", 1000)
    consumer.settle(outcome(copies[0], "a@mail", state=state))

    assert consumer.redis.hget(base, "ended") == "1"
    assert consumer.redis.pttl(base) == -1


@pytest.mark.parametrize(
    "words",
    [(), ("dead_letter", "odd", "e"), ("later", "+1000", "", "retries", "1")],
    ids=["an end", "a dead letter", "a retry"],
)
def test_settling_works_when_memory_is_full(consumer, outcome, following, words):
    entry = consumer.take("a")
    consumer.redis.config_set("maxmemory", 1)
    try:
        if words:
            assert consumer.follow(following(entry, "a", *words)) == "1"
        else:
            assert consumer.settle(outcome(entry, "a", result="5")) == "1"
    finally:
        consumer.redis.config_set("maxmemory", 0)


def test_a_run_that_says_nothing_changes_no_record_that_has_ended(consumer, outcome, scripts):
    entry = consumer.take("a")
    scripts("revoke", "a", 60_000, 60_000, "", 1000)
    ended = consumer.record("a")

    assert consumer.settle(outcome(entry, "a", state="")) == "1"

    assert consumer.record("a") == ended
    assert "worker" not in ended
