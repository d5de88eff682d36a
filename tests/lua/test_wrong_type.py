"""Keys in which somebody else has put something, straight at Redis: nothing is lost or doubled."""

import pytest
from redis.exceptions import ResponseError

HOUR = 3_600_000
RETRY = ("later", "+5000", "", "retries", "1")
AT_ONCE = ("later", "+0", "", "retries", "1")
DEAD_LETTER = ("dead_letter", "rejected", "no")
MANY = {f"field{number}": "x" for number in range(4100)}


@pytest.fixture
def promote(scripts):
    return lambda: scripts("promote", 100, HOUR, 3, HOUR)


@pytest.fixture
def later(consumer):
    """Messages for later that are due; they go to these streams."""

    def later(*streams, **fields):
        for number, stream in enumerate(streams):
            name = f"t{number}"
            told = {"id": name, "task": "t", "scheduled_for": stream, **fields}
            consumer.redis.hset(f"{{streamq}}:scheduled:{name}", mapping=told)
            consumer.redis.hset(f"{{streamq}}:task:{name}", "state", "SCHEDULED")
            consumer.redis.zadd("{streamq}:scheduled", {name: number + 1})

    return later


# Settling


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("scheduled", RETRY),
        ("scheduled:b", RETRY),
        ("dead:mail", DEAD_LETTER),
        ("dead", DEAD_LETTER),
        ("dead:mail:b", DEAD_LETTER),
    ],
)
def test_what_cannot_follow_stays_and_is_settled_once_the_key_is_gone(
    consumer, following, spoil, key, words
):
    entries = [consumer.take(id) for id in "abc"]
    plain, third = following(entries[0], "a"), following(entries[2], "c")
    call = (plain, following(entries[1], "b", *words, state="RETRY"), third)
    key = spoil(key)

    for _ in range(2):
        answer = consumer.follow(*call, number=7)
        assert answer.startswith(f"1-1 WRONGTYPE {key} is a list, not a")

    assert [consumer.record(id)["state"] for id in "abc"] == ["FAILURE", "QUEUED", "FAILURE"]
    assert consumer.pending() == 1
    consumer.redis.delete(key)

    assert consumer.follow(*call, number=7) == "111"
    assert consumer.follow(*call, number=7) == "111"
    assert consumer.pending() == 0
    assert len(consumer.letters()) + consumer.redis.zcard("{streamq}:scheduled") == 1


def test_what_was_left_of_a_call_without_a_number_is_settled_by_another_one(
    consumer, following, spoil
):
    entries = [consumer.take(id) for id in "ab"]
    first, second = following(entries[0], "a"), following(entries[1], "b", *DEAD_LETTER)
    key = spoil("dead:mail")
    answer = consumer.follow(first, second, number="forced_end")
    assert answer.startswith("1- WRONGTYPE")
    consumer.redis.delete(key)

    assert consumer.follow(second, number="forced_end") == "1"

    assert consumer.letters() == ["b"]


def test_an_early_message_that_cannot_follow_keeps_its_mark(consumer, following, spoil):
    entry = consumer.take("a", ignore_result="1")
    consumer.start(entry)
    key = spoil("dead:mail")
    end = following(entry, "a", *DEAD_LETTER, ack="early", state="")

    assert consumer.follow(end, number=7).startswith("- WRONGTYPE")
    assert consumer.redis.hlen("{streamq}:started:me") == 1
    consumer.redis.delete(key)

    assert consumer.follow(end, number=7) == "1"
    assert consumer.letters() == ["a"]


def test_a_message_that_something_follows_stays_in_its_foreign_queue(consumer, following, spoil):
    entry = consumer.take("a", "mail:returned")
    key = spoil("queue:mail:returned")

    answer = consumer.follow(following(entry, "a", *DEAD_LETTER, stream="mail:returned"))

    assert answer == f"- WRONGTYPE {key} is a list, not a stream"
    assert consumer.letters() == []


def test_a_retry_whose_stream_is_foreign_is_kept_for_later(consumer, following, spoil, scripts):
    entry = consumer.take("a", "mail:returned")
    spoil("queue:mail")

    end = following(entry, "a", *AT_ONCE, stream="mail:returned", state="RETRY")
    assert consumer.follow(end) == "1"

    assert consumer.redis.hget("{streamq}:scheduled:a", "scheduled_for") == "mail"
    assert consumer.pending("mail:returned") == 0


def test_a_retry_with_more_fields_than_a_script_can_pass_on_is_a_dead_letter(consumer, following):
    entry = consumer.take("a", **MANY)

    assert consumer.follow(following(entry, "a", *AT_ONCE, state="RETRY")) == "1"

    assert consumer.letter("a")["dead_reason"] == "too many fields"
    assert consumer.record("a")["state"] == "FAILURE"
    assert consumer.pending() == 0


@pytest.mark.parametrize("verb", ["dead_letter", "expire"])
def test_a_letter_stays_here_if_one_of_its_queues_cannot_take_it(
    consumer, following, scripts, spoil, verb
):
    scripts("declare_exchange", "dlx", "fanout", "")
    for queue in ("morgue", "other"):
        scripts("declare_queue", queue, "{}")
        scripts("bind", "dlx", "queue", queue, "")
    scripts("declare_queue", "mail", '{"dead_letter_exchange":"dlx"}')
    spoil("queue:other")
    entry = consumer.take("a")

    assert consumer.follow(following(entry, "a", verb, "rejected", "no")) == "1"

    assert consumer.letters() == ["a"]
    assert consumer.waiting("morgue") == []


def test_a_letter_with_too_many_fields_stays_here(consumer, following, scripts):
    scripts("declare_queue", "morgue", "{}")
    scripts(
        "declare_queue", "mail", '{"dead_letter_exchange":"","dead_letter_routing_key":"morgue"}'
    )
    entry = consumer.take("a", **MANY)

    assert consumer.follow(following(entry, "a", *DEAD_LETTER)) == "1"

    assert consumer.letters() == ["a"]


@pytest.mark.parametrize("words", [RETRY, AT_ONCE, DEAD_LETTER])
def test_a_foreign_record_keeps_nothing_from_following(consumer, following, spoil, words):
    entry = consumer.take("a")
    spoil("task:a")

    assert consumer.follow(following(entry, "a", *words, state="RETRY")) == "1"

    reached = [*consumer.letters(), *consumer.redis.zrange("{streamq}:scheduled", 0, -1)]
    assert reached + [fields["id"] for fields in consumer.waiting("mail")] == ["a"]


def test_a_foreign_queue_keeps_its_own_messages_and_no_others(consumer, outcome, spoil):
    first, second = consumer.take("a"), consumer.take("b", "mail:returned")
    call = (
        outcome(first, "a"),
        outcome(second, "b", stream="mail:returned"),
        outcome(consumer.take("c"), "c"),
    )
    key = spoil("queue:mail:returned")

    for _ in range(2):
        answer = consumer.settle(*call, number=7)
        assert answer == f"1-1 WRONGTYPE {key} is a list, not a stream"

    assert [consumer.record(id)["state"] for id in "abc"] == ["SUCCESS", "QUEUED", "SUCCESS"]
    assert (consumer.pending(), consumer.waiting("mail")) == (0, [])


def test_what_was_left_of_a_call_is_settled_when_its_queue_is_back(consumer, outcome, redis):
    first, second = consumer.take("a"), consumer.take("b", "mail:returned")
    call = outcome(first, "a"), outcome(second, "b", stream="mail:returned")
    key = "{streamq}:queue:mail:returned"
    redis.rename(key, "{streamq}:kept")
    redis.set(key, "x")
    assert consumer.settle(*call, number=7).startswith("1- WRONGTYPE")
    redis.rename("{streamq}:kept", key)

    assert consumer.settle(*call, number=7) == "11"

    assert consumer.pending("mail:returned") == 0


def test_what_is_to_start_starts_though_another_queue_is_foreign(consumer, spoil):
    entries = [(consumer.take("a", stream), stream) for stream in ("mail", "mail:returned")]
    spoil("queue:mail:returned")
    marks = [(entry, f'{{"stream": "{stream}", "fields": []}}') for entry, stream in entries]
    call = [("start", entries[n][1], 1, *marks[n]) for n in range(2)]

    for _ in range(2):
        assert consumer.settle(*call, number=7).startswith("1- WRONGTYPE")

    assert [*consumer.redis.hkeys("{streamq}:started:me")] == [f"mail {entries[0][0]}"]


# Promoting


def test_what_cannot_be_moved_stays_says_why_and_blocks_nothing(
    consumer, later, spoil, scripts, promote
):
    scripts("declare_queue", "post", "{}")
    later("mail", "post", "post")
    key = spoil("queue:mail")

    moved, due, now, failed = promote()

    assert (moved, failed[0]) == (2, "t0")
    assert failed[1].startswith("WRONGTYPE")
    assert now + 20_000 < int(due) <= now + 40_000
    assert [fields["id"] for fields in consumer.waiting("post")] == ["t1", "t2"]
    assert promote()[:2] == [0, due]
    consumer.redis.delete(key)
    consumer.redis.zadd("{streamq}:scheduled", {"t0": 1})

    assert promote()[0] == 1
    assert [fields["id"] for fields in consumer.waiting("mail")] == ["t0"]


@pytest.mark.parametrize(
    ("key", "stream"),
    [
        ("dead:gone", "gone"),
        ("dead", "gone"),
        ("scheduled:t0", "mail"),
    ],
)
def test_nothing_is_written_twice_or_lost_while_a_key_is_foreign(
    consumer, later, spoil, promote, key, stream
):
    later(stream, "mail")
    spoil(key)

    assert promote()[0] == 1

    assert consumer.redis.zrange("{streamq}:scheduled", 0, -1) == ["t0"]
    assert consumer.record("t0")["state"] == "SCHEDULED"
    assert not consumer.redis.keys("{streamq}:dead:gone:*")


def test_a_due_message_with_too_many_fields_is_a_dead_letter(consumer, later, promote):
    later("mail", **MANY)

    assert promote()[0] == 1

    assert consumer.letter("t0")["dead_reason"] == "too many fields"
    assert consumer.record("t0")["state"] == "FAILURE"
    assert consumer.redis.keys("{streamq}:scheduled*") == []


def test_a_due_message_whose_record_is_foreign_is_moved(consumer, later, promote, spoil):
    later("mail")
    spoil("task:t0")

    assert promote()[0] == 1

    assert [fields["id"] for fields in consumer.waiting("mail")] == ["t0"]


# Recovering


def test_a_foreign_record_keeps_nothing_from_being_recovered(consumer, spoil):
    entries = [consumer.take(id) for id in "abc"]
    spoil("task:a")

    assert consumer.recover(entries[0]) == [3, 0, 0, 0, 0]

    assert [fields["id"] for fields in consumer.waiting()] == ["a", "b", "c"]


def test_what_cannot_be_dead_lettered_stays_with_the_dead_and_the_others_are_moved(consumer, spoil):
    bad = consumer.take("a", crashes="2")
    consumer.take("b")
    key = spoil("dead:mail")

    for _ in range(2):
        with pytest.raises(ResponseError, match=f"WRONGTYPE {key}"):
            consumer.recover(bad)

    assert [fields["id"] for fields in consumer.waiting()] == ["b"]
    assert consumer.pending() == 1
    consumer.redis.delete(key)

    assert consumer.recover(bad) == [0, 0, 1, 0, 0]
    assert consumer.letters() == ["a"]
    assert consumer.pending() == 0


@pytest.mark.parametrize("own", [True, False])
def test_only_its_own_supervisor_keeps_the_lease_of_what_cannot_be_moved(consumer, spoil, own):
    """Other workers do not know whether it is dead; a consumer that lost its lease is an orphan."""
    bad = consumer.take("a", crashes="2")
    spoil("dead:mail")
    seen = consumer.redis.zscore("{streamq}:leases", "me")

    with pytest.raises(ResponseError, match="WRONGTYPE"):
        consumer.recover(bad, deadline="" if own else f"{seen:.0f}")

    assert consumer.redis.zscore("{streamq}:leases", "me") == (seen if own else None)
    assert consumer.redis.hexists("{streamq}:lease_ms", "me") is own


def test_many_that_cannot_be_moved_keep_no_other_from_it(consumer, spoil, scripts):
    scripts("declare_queue", "post", "{}")
    for number in range(250):
        consumer.take(f"a{number}")
    for number in range(5):
        consumer.take(f"b{number}", "post")
    key = spoil("queue:mail:returned")
    some = {"streams": ("mail", "post"), "budget": 3, "blame": "none"}

    assert consumer.recover(**some) == [3, 0, 0, 0, 1]
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        consumer.recover(**some)

    assert (consumer.pending("mail"), consumer.pending("post")) == (250, 0)
    consumer.redis.delete(key)
    assert consumer.recover(**{**some, "budget": 300}) == [250, 0, 0, 0, 0]


def test_a_mark_that_cannot_be_dead_lettered_stays(consumer, spoil):
    for id in "ab":
        consumer.start(consumer.take(id, **({"ignore_result": "1"} if id == "a" else {})))
    key = spoil("dead:mail")

    with pytest.raises(ResponseError, match="WRONGTYPE"):
        consumer.recover()

    assert consumer.record("b")["error_type"] == "streamq.errors.WorkerLost"
    assert consumer.redis.hlen("{streamq}:started:me") == 1
    consumer.redis.delete(key)

    assert consumer.recover() == [0, 0, 1, 0, 0]
    assert not consumer.redis.exists("{streamq}:started:me")


@pytest.mark.parametrize("call", [("list_leases", 1000), ("register", 1000, "you")])
@pytest.mark.parametrize(("name", "kind"), [("leases", "zset"), ("lease_ms", "hash")])
def test_what_stands_in_the_place_of_the_leases_is_named(scripts, spoil, call, name, kind):
    key = spoil(name)

    with pytest.raises(ResponseError, match=f"WRONGTYPE {key} is a list, not a {kind}"):
        scripts(*call)


def test_a_schedule_of_wrong_type_is_named(redis, promote):
    redis.lpush("{streamq}:scheduled", "somebody else's")

    with pytest.raises(ResponseError, match="scheduled is a list, not a zset"):
        promote()
