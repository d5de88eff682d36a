"""Streams that are out of ids, straight at Redis: refused by name, repaired, nothing lost."""

import pytest
from redis.exceptions import ResponseError

HOUR = 3_600_000
MAX = 2**64 - 1
AT_ONCE = ("later", "+0", "", "retries", "1")
STREAM = "{streamq}:queue:"
#: Digits of an id that a clock gave.
LONGEST = 13


@pytest.fixture
def spend(consumer):
    """``spend(stream, left)`` uses up its ids, but for so many; returns the entry's id."""

    def spend(stream="mail", left=0, **fields):
        entry = f"{MAX}-{MAX - left}"
        return consumer.redis.xadd(STREAM + stream, {"task": "x", **fields}, id=entry)

    return spend


@pytest.fixture
def repair(scripts):
    return lambda stream="mail", other="mail:returned", limit=100: scripts(
        "repair", stream, other, limit
    )


def said(key="mail", id="", *, exchange="", priority="", due="", keep=1):
    """One message as publish.lua takes it."""
    return [exchange, key, id, 0, keep, priority, due, "", 0, 1, "task", "tasks.send"]


def everything(consumer):
    """What every key holds."""
    return {key: consumer.redis.dump(key) for key in consumer.redis.keys("*")}


# Publishing


@pytest.mark.parametrize("priority", ["", "7"])
def test_a_queue_that_is_out_of_ids_refuses_by_its_name(consumer, scripts, spend, priority):
    scripts("declare_queue", "mail", '{"max_priority":9}')
    spend("mail:p7" if priority else "mail")
    before = everything(consumer)

    with pytest.raises(ResponseError, match=r"^OUTOFIDS 0 mail$"):
        scripts("publish", "channel", 1, *said(id="a", priority=priority))

    assert everything(consumer) == before


def test_the_short_way_leaves_it_to_the_long_way_to_refuse(consumer, scripts, spend):
    spend()
    before = everything(consumer)

    assert (
        scripts("publish_plain", "channel", 1, "mail", 1, "t", 0, "a", "[]", "{}", "b", "[]", "{}")
        == ""
    )

    assert everything(consumer) == before


@pytest.mark.parametrize("spent", ["a", "b", "c"])
def test_a_fan_out_goes_to_no_queue_if_one_is_out_of_ids(consumer, scripts, spend, spent):
    scripts("declare_exchange", "news", "fanout", "")
    for queue in ("a", "b", "c"):
        scripts("declare_queue", queue, "{}")
        scripts("bind", "news", "queue", queue, "")
    spend(spent)
    before = everything(consumer)

    with pytest.raises(ResponseError, match=f"^OUTOFIDS 1 {spent}$"):
        scripts("publish", "", "", *said("mail", "m"), *said("", "n", exchange="news"))

    after = everything(consumer)
    for fresh in {"a", "b", "c", "mail"} - {spent}:  # asked, and holding nothing
        assert consumer.redis.xlen(STREAM + fresh) == 0
        after[STREAM + fresh] = before[STREAM + fresh]
    assert after == before


def test_queues_that_never_held_anything_take_several_messages(consumer, scripts):
    assert scripts("publish", "", "", *said("mail", "m"), *said("mail", "n")) == ["mail", "mail"]

    assert len(consumer.read()) == 2


def test_a_message_for_later_does_not_need_an_id_yet(consumer, scripts, spend):
    spend()

    assert scripts("publish", "", "", *said(id="a", due="+1")) == ["mail"]
    consumer.redis.zadd("{streamq}:scheduled", {"a": 1})
    assert scripts("promote", 100, HOUR, 3, HOUR)[0] == 1

    assert [fields["id"] for fields in consumer.waiting()] == ["a"]


@pytest.mark.parametrize("way", ["push", "publish"])
def test_what_ends_the_ids_in_the_middle_of_a_call_keeps_none_of_it_away(
    consumer, scripts, spend, way
):
    spend(left=2)

    if way == "push":
        parts = [part for id in ("a", "b", "c", "d") for part in (id, "[]", "{}")]
        assert scripts("publish_plain", "channel", 1, "mail", 1, "t", 0, *parts) == "mail"
    else:
        parts = [part for id in ("a", "b", "c", "d") for part in said(id=id)]
        assert scripts("publish", "channel", 1, *parts) == ["mail"] * 4

    waiting = [fields.get("id") for fields in [*consumer.waiting("mail"), *consumer.waiting()]]
    assert waiting == [None, "a", "b", "c", "d"]
    with pytest.raises(ResponseError, match=r"^OUTOFIDS 0 mail$"):
        scripts("publish", "channel", 2, *said(id="e"))


@pytest.mark.parametrize("way", ["push", "publish", "chosen", "several"])
@pytest.mark.parametrize("left", [0, 1])
def test_what_no_stream_of_the_queue_takes_any_more_waits_outside(
    consumer, scripts, spend, repair, way, left
):
    """All or none: what was added before cannot be taken back."""
    spend(left=2)
    spend("mail:returned", left=left)
    ids = ["a", "b", "c", "d", "e"]
    if way == "push":
        parts = [part for id in ids for part in (id, "[]", "{}")]
        assert scripts("publish_plain", "channel", 1, "mail", 1, "t", 0, *parts) == "mail"
    else:
        scripts("declare_queue", "post", "{}")
        messages = [said(id=id) for id in ids]
        if way == "chosen":
            messages = [[*message[:3], "none", *message[4:]] for message in messages]
        parts = [part for message in messages for part in message]
        more = said("post", "f") if way == "several" else []
        assert scripts("publish", "channel", 1, *parts, *more)[:5] == ["mail"] * 5

    outside = consumer.redis.zrange("{streamq}:scheduled", 0, -1)
    assert outside == ids[2 + left :]
    assert {consumer.record(id)["state"] for id in ids} == {"QUEUED"}
    assert scripts("promote", 100, HOUR, 3, HOUR)[0] == 0
    for stream in ("mail", "mail:returned"):
        repair(stream, "")
    for id in outside:
        consumer.redis.zadd("{streamq}:scheduled", {id: 1})
    assert scripts("promote", 100, HOUR, 3, HOUR)[0] == len(outside)
    waiting = [fields.get("id") for fields in [*consumer.waiting("mail"), *consumer.waiting()]]
    assert sorted(id for id in waiting if id in ids) == ids  # beside those that were to harm


# What else adds to a stream


def test_what_is_tried_again_at_once_goes_to_the_stream_that_is_read_first(
    consumer, spend, following
):
    entry = consumer.take("a")
    spend()

    assert consumer.follow(following(entry, "a", *AT_ONCE, state="RETRY")) == "1"

    assert [fields["id"] for fields in consumer.waiting()] == ["a"]


def test_what_is_handed_back_finds_another_stream(consumer, scripts, spend):
    entry = consumer.take("a")
    spend("mail:returned")

    assert scripts("release", "me", HOUR, "late", "mail", entry) == 1

    assert [fields["id"] for fields in consumer.waiting("mail")] == ["a"]
    assert consumer.pending() == 0


def test_what_no_stream_takes_back_stays_until_one_is_repaired(consumer, scripts, spend, repair):
    entry = consumer.take("a")
    spend("mail:returned"), spend("mail")

    with pytest.raises(ResponseError, match="last possible ID"):
        scripts("release", "me", HOUR, "late", "mail", entry)
    with pytest.raises(ResponseError, match="last possible ID"):
        consumer.recover()
    assert consumer.pending() == 1

    assert repair("mail:returned", "mail") == ["fresh", 1]
    assert repair() == ["fresh", 2]
    assert consumer.recover()[0] == 1
    assert [fields.get("id") for fields in consumer.waiting()][1:] == ["a"]


def test_a_letter_stays_where_the_queue_of_its_exchange_is_out_of_ids(
    consumer, scripts, spend, following
):
    scripts("declare_exchange", "dlx", "fanout", "")
    for queue in ("other", "post"):
        scripts("declare_queue", queue, "{}")
        scripts("bind", "dlx", "queue", queue, "")
    scripts("declare_queue", "mail", '{"dead_letter_exchange":"dlx"}')
    entry = consumer.take("a")
    spend("post")

    assert consumer.follow(following(entry, "a", "dead_letter", "rejected", "no")) == "1"

    assert consumer.letters() == ["a"]
    assert consumer.redis.xlen(STREAM + "other") == 0


def test_a_letter_is_not_put_back_into_a_queue_that_is_out_of_ids(
    consumer, scripts, spend, following
):
    consumer.follow(following(consumer.take("a"), "a", "dead_letter", "rejected", "no"))
    spend()
    before = everything(consumer)

    with pytest.raises(ResponseError, match=r"^OUTOFIDS"):
        scripts("retry_dead", "mail", "a")

    assert everything(consumer) == before


# Repairing


def test_what_waits_and_what_runs_is_in_the_fresh_stream_as_it_was(
    consumer, scripts, spend, repair, outcome
):
    running = [consumer.take(id) for id in ("a", "b")]
    waiting = [consumer.add(id) for id in ("c", "d")]
    spend(args="last")

    assert repair() == ["fresh", 5]

    assert [each["consumer"] for each in pending(consumer)] == ["me", "me"]
    assert [each["message_id"] for each in pending(consumer)] == running
    assert consumer.settle(outcome(running[0], "a"), outcome(running[1], "b")) == "11"
    *same, last = consumer.read()
    assert same == waiting
    assert len(last.partition("-")[0]) == LONGEST
    assert consumer.redis.xrange(STREAM + "mail", last)[0][1]["args"] == "last"
    assert scripts("publish", "", "", *said(id="e")) == ["mail"]
    assert len(consumer.read()) == 1
    assert consumer.redis.keys("*:fresh") == []


def pending(consumer):
    return consumer.redis.xpending_range(STREAM + "mail", "workers", "-", "+", 100)


def test_how_often_and_since_when_messages_are_held_stays(consumer, spend, repair):
    entry = consumer.take("a")
    consumer.redis.xclaim(STREAM + "mail", "workers", "me", 0, [entry], idle=77_000, retrycount=4)
    spend()

    repair()

    (held,) = pending(consumer)
    assert (held["message_id"], held["times_delivered"]) == (entry, 4)
    assert 77_000 <= held["time_since_delivered"] < 90_000


@pytest.mark.parametrize("held", [True, False])
def test_the_last_entry_may_be_gone_for_long(consumer, scripts, spend, repair, outcome, held):
    entry = consumer.take("a")
    if not held:
        consumer.settle(outcome(entry, "a"))
    last = spend(id="z")
    assert consumer.read() == [last]
    assert consumer.settle(outcome(last, "z")) == "1"

    assert repair() == ["fresh", int(held)]

    assert scripts("publish", "", "", *said(id="e")) == ["mail"]
    assert len(consumer.read()) == 1
    assert consumer.pending() == 1 + held


def test_nothing_is_done_while_a_worker_runs_what_has_the_last_id(consumer, spend, repair, outcome):
    waiting = consumer.add("a")
    last = spend(id="z")
    assert consumer.read() == [waiting, last]
    before = everything(consumer)

    with pytest.raises(ResponseError, match=r"^HELD me$"):
        repair()
    assert everything(consumer) == before

    consumer.settle(outcome(last, "z"))
    assert repair() == ["fresh", 1]
    assert consumer.settle(outcome(waiting, "a")) == "1"


def test_what_a_dead_worker_held_under_the_last_id_waits_again(consumer, spend, repair):
    spend(id="z")
    consumer.read()
    consumer.redis.zrem("{streamq}:leases", "me")

    assert repair() == ["fresh", 1]

    assert consumer.pending() == 0
    assert [fields["id"] for fields in consumer.waiting("mail")] == ["z"]


def test_what_was_deleted_under_its_holder_can_still_be_settled(consumer, spend, repair, outcome):
    entries = [consumer.take(id) for id in ("a", "b")]
    consumer.add("gone")
    consumer.redis.xadd(
        STREAM + "mail", {"task": "x"}, id=f"{MAX}-{MAX}", maxlen=0, approximate=False
    )

    assert repair() == ["fresh", 0]

    assert [each["message_id"] for each in pending(consumer)] == entries
    assert consumer.settle(outcome(entries[0], "a"), outcome(entries[1], "b")) == "11"
    assert consumer.record("b")["state"] == "SUCCESS"


def test_of_many_that_wait_the_oldest_go_first_in_bounded_calls(consumer, spend, repair):
    running = consumer.take("r")
    for number in range(8):
        consumer.add(f"m{number}")
    spend(id="z")

    assert [repair(limit=3) for _ in range(3)] == [["more", 3], ["more", 3], ["fresh", 4]]

    assert [fields["id"] for fields in consumer.waiting()] == [f"m{number}" for number in range(6)]
    assert [each["message_id"] for each in pending(consumer)] == [running]
    consumer.read()
    assert [fields["id"] for fields in consumer.waiting("mail")] == ["r", "m6", "m7", "z"]
    assert consumer.pending() == 4
    assert repair() == ["fine", 0]


def test_without_another_stream_everything_is_moved_at_once(consumer, spend, repair):
    for number in range(8):
        consumer.add(f"m{number}")
    spend()
    spend("mail:returned")

    assert repair(limit=3) == ["fresh", 9]
    assert len(consumer.read()) == 9


def test_a_message_without_an_id_keeps_its_name(consumer, spend, repair):
    entry = consumer.redis.xadd(STREAM + "mail", {"task": "x"})
    last = spend()

    repair(limit=1)
    repair(limit=1)

    names = [fields["id"] for fields in [*consumer.waiting(), *consumer.waiting("mail")]]
    assert names == [f"mail-{entry}", f"mail-{last}"]


def test_no_id_is_given_a_second_time(consumer, scripts, spend, repair, outcome):
    entry = consumer.take("a")
    consumer.settle(outcome(entry, "a"))
    spend()
    consumer.redis.xdel(STREAM + "mail", f"{MAX}-{MAX}")

    repair()

    scripts("publish", "", "", *said(id="e"))
    (new,) = consumer.read()
    assert tuple(map(int, new.split("-"))) > tuple(map(int, entry.split("-")))
    assert consumer.settle(outcome(entry, "a")) == "0"


def test_a_group_that_somebody_destroyed_begins_at_the_beginning(consumer, spend, repair):
    consumer.take("a")
    spend(id="z")
    consumer.redis.xgroup_destroy(STREAM + "mail", "workers")

    assert repair() == ["fresh", 2]
    assert len(consumer.read()) == 2


@pytest.mark.parametrize("stream", ["mail", "nothing", "mail:p3"])
def test_what_has_ids_left_stays_as_it_is(consumer, repair, stream):
    consumer.add("a")
    before = everything(consumer)

    assert repair(stream) == ["fine", 0]
    assert everything(consumer) == before


def test_a_message_that_no_script_can_add_is_named(consumer, spend, repair):
    large = consumer.redis.xadd(STREAM + "mail", {f"f{n}": "x" for n in range(4100)})
    spend()
    before = consumer.redis.dump(STREAM + "mail")

    with pytest.raises(ResponseError, match=f"TOOLARGE {large}"):
        repair()

    assert consumer.redis.dump(STREAM + "mail") == before
