"""Removing what waits, straight at Redis."""


def test_waiting_messages_are_removed_and_their_tasks_revoked(consumer, scripts):
    consumer.add("a")
    bare = consumer.add()

    assert scripts("purge", "mail", 100, 1000) == 2

    assert consumer.waiting("mail") == []
    for id in ("a", f"mail-{bare}"):
        assert (consumer.record(id)["state"], consumer.record(id)["reason"]) == (
            "REVOKED",
            "purged",
        )
        assert 0 < consumer.redis.pttl(f"{{streamq}}:task:{id}") <= 1000


def test_what_a_worker_has_read_stays(consumer, scripts, outcome):
    held = consumer.take("a")
    consumer.add("b")

    assert scripts("purge", "mail", 100, 1000) == 1

    assert consumer.record("a") == {"state": "QUEUED"}
    assert consumer.settle(outcome(held, "a")) == "1"


def test_every_stream_of_the_queue_is_emptied_within_the_limit(consumer, scripts):
    for stream in ("mail", "mail:returned", "mail:p3", "mail:p9"):
        for _ in range(2):
            consumer.add("", stream)

    assert [scripts("purge", "mail", 3, 1000) for _ in range(4)] == [3, 3, 2, 0]

    assert (
        sum(len(consumer.waiting(s)) for s in ("mail", "mail:returned", "mail:p3", "mail:p9")) == 0
    )


def test_other_queues_keep_theirs(consumer, scripts):
    scripts("declare_queue", "mail2", "{}")
    consumer.add("a", "mail2")

    assert scripts("purge", "mail", 100, 1000) == 0
    assert len(consumer.waiting("mail2")) == 1


def test_no_record_is_written_where_none_is_kept(consumer, scripts):
    consumer.add("a", ignore_result="1")

    scripts("purge", "mail", 100, 1000)

    assert consumer.record("a") == {}


def test_those_who_wait_hear_of_it(consumer, scripts):
    consumer.add("a")
    scripts("await_result", "a", "one")

    scripts("purge", "mail", 100, 1000)

    ((_, news),) = consumer.redis.xrange("{streamq}:reply:one")
    assert (news["id"], news["state"]) == ("a", "REVOKED")


def test_purging_nothing_is_fine(redis, scripts):
    assert scripts("purge", "nowhere", 100, 1000) == 0
