"""Removing what waits, straight at Redis."""


def test_waiting_messages_are_removed_and_their_tasks_revoked(desk, scripts):
    desk.add("a")
    bare = desk.add()

    assert scripts("purge", "mail", 100, 1000) == 2

    assert desk.waiting("mail") == []
    for id in ("a", f"mail-{bare}"):
        assert (desk.record(id)["state"], desk.record(id)["reason"]) == ("REVOKED", "purged")
        assert 0 < desk.redis.pttl(f"{{streamq}}:task:{id}") <= 1000


def test_what_a_worker_has_read_stays(desk, scripts, outcome):
    held = desk.take("a")
    desk.add("b")

    assert scripts("purge", "mail", 100, 1000) == 1

    assert desk.record("a") == {"state": "QUEUED"}
    assert desk.complete(outcome(held, "a")) == "1"


def test_every_stream_of_the_queue_is_emptied_within_the_limit(desk, scripts):
    for stream in ("mail", "mail:returned", "mail:p3", "mail:p9"):
        for _ in range(2):
            desk.add("", stream)

    assert [scripts("purge", "mail", 3, 1000) for _ in range(4)] == [3, 3, 2, 0]

    assert sum(len(desk.waiting(s)) for s in ("mail", "mail:returned", "mail:p3", "mail:p9")) == 0


def test_other_queues_keep_theirs(desk, scripts):
    scripts("declare_queue", "mail2", "{}")
    desk.add("a", "mail2")

    assert scripts("purge", "mail", 100, 1000) == 0
    assert len(desk.waiting("mail2")) == 1


def test_no_record_is_written_where_none_is_kept(desk, scripts):
    desk.add("a", ignore_result="1")

    scripts("purge", "mail", 100, 1000)

    assert desk.record("a") == {}


def test_those_who_wait_hear_of_it(desk, scripts):
    desk.add("a")
    scripts("await", "a", "one")

    scripts("purge", "mail", 100, 1000)

    ((_, news),) = desk.redis.xrange("{streamq}:reply:one")
    assert (news["id"], news["state"]) == ("a", "REVOKED")


def test_purging_nothing_is_fine(redis, scripts):
    assert scripts("purge", "nowhere", 100, 1000) == 0
