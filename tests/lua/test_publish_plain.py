"""The short way to publish: the same as the long way, where it is the way."""

import pytest
from redis.exceptions import ResponseError

PLAIN = ("tasks.send", "args", "[1]", "kwargs", "{}")
VALUES = ("[1]", "{}")


@pytest.fixture
def push(scripts):
    scripts("declare_queue", "mail", "{}")

    def push(number, queue="mail", id="a1", keep=1):
        return scripts(
            "publish_plain", "channel", number, queue, keep, "tasks.send", 0, id, *VALUES
        )

    return push


def written(redis, keys, id="a1"):
    """The entry without its id, and the record without its moment."""
    entries = [fields for _, fields in redis.xrange(keys.queue("mail"))]
    record = redis.hgetall(keys.task(id))
    return entries, {name: value for name, value in record.items() if name != "enqueued"}


def test_it_writes_what_publish_writes(push, scripts, redis, keys):
    assert push(1) == "mail"
    short = written(redis, keys)
    redis.flushall()
    scripts("declare_queue", "mail", "{}")
    message = ("", "mail", "a1", 0, 1, "", "", "", 0, 3, "task", *PLAIN)
    assert scripts("publish", "channel", 1, *message) == ["mail"]
    assert short == written(redis, keys)
    assert len(short[0]) == 1


def test_many_messages_share_what_they_have_in_common(scripts, redis, keys):
    scripts("declare_queue", "mail", "{}")
    common = ("mail", 1, "tasks.send", 1, "acks_late", "0")
    assert (
        scripts("publish_plain", "channel", 1, *common, "a1", "[1]", "{}", "a2", "[2]", "{}")
        == "mail"
    )

    short = [written(redis, keys, id) for id in ("a1", "a2")]
    redis.flushall()
    scripts("declare_queue", "mail", "{}")
    head = (0, 1, "", "", "", 0, 4, "task", "tasks.send", "args")
    one = ("", "mail", "a1", *head, "[1]", "kwargs", "{}", "acks_late", "0")
    two = ("", "mail", "a2", *head, "[2]", "kwargs", "{}", "acks_late", "0")
    assert scripts("publish", "channel", 1, *one, *two) == ["mail", "mail"]
    assert short == [written(redis, keys, id) for id in ("a1", "a2")]


def test_a_call_sent_again_writes_nothing(push, redis, keys):
    assert push(1) == push(1) == "mail"
    assert redis.xlen(keys.queue("mail")) == 1
    assert push(2, id="a2") == "mail"
    assert redis.xlen(keys.queue("mail")) == 2


def test_a_call_that_comes_after_a_newer_one_is_refused(push, redis, keys):
    push(2)
    with pytest.raises(ResponseError, match="STALE 1 2"):
        push(1, id="late")
    assert redis.xlen(keys.queue("mail")) == 1


@pytest.mark.parametrize("number", [1, 2])
def test_another_call_under_a_number_that_is_taken_is_refused(push, redis, keys, number):
    """A copy of a machine goes on with the channel that its original has."""
    push(1)
    push(2, id="a2")

    with pytest.raises(ResponseError, match=f"STALE {number} 2"):
        push(number, id="copied")
    assert push(2, id="a2") == "mail"
    assert redis.xlen(keys.queue("mail")) == 2


def test_both_scripts_share_the_memory_of_a_channel(push, scripts, redis, keys):
    push(1)
    message = ("", "mail", "a1", 0, 1, "", "", "", 0, 3, "task", *PLAIN)
    assert scripts("publish", "channel", 1, *message) == ["mail"]
    assert redis.xlen(keys.queue("mail")) == 1


def test_a_call_that_redis_refused_is_not_remembered(push, redis, keys):
    redis.set(keys.queue("mail"), "not a stream")
    for _ in range(2):
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            push(1)
    redis.delete(keys.queue("mail"))

    assert push(1) == "mail"
    assert redis.xlen(keys.queue("mail")) == 1


def test_a_call_beside_foreign_queues_is_not_remembered(push, scripts, redis, keys):
    redis.delete(keys.queues)
    redis.set(keys.queues, "not ours")

    assert [push(1), push(1)] == ["", ""]
    message = ("", "mail", "a1", 0, 1, "", "", "", 0, 3, "task", *PLAIN)
    for _ in range(2):
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            scripts("publish", "channel", 2, *message)


@pytest.mark.parametrize("settings", ['{"max_length":5}', '{"max_priority":3}'])
def test_a_queue_with_limits_takes_the_long_way(push, scripts, redis, keys, settings):
    scripts("declare_queue", "mail", settings)
    assert push(1) == ""
    assert redis.xlen(keys.queue("mail")) == 0


def test_an_unknown_queue_takes_the_long_way(push, redis, keys):
    assert push(1, queue="nowhere") == ""
    assert redis.exists(keys.queue("nowhere")) == 0


def test_without_keep_there_is_no_record(push, redis, keys):
    push(1, keep=0)
    assert redis.exists(keys.task("a1")) == 0


def test_what_was_not_taken_leaves_the_channel_as_it_was(push, redis, keys):
    push(1)
    before = redis.get(keys.channel("channel"))
    assert push(2, queue="nowhere") == ""
    assert redis.get(keys.channel("channel")) == before
    with pytest.raises(ResponseError, match="STALE"):
        push(0, id="late")
    assert redis.get(keys.channel("channel")) == before
    assert push(2, id="a2") == "mail"
