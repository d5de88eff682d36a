"""An id that is used again, straight at Redis: what one message does is nothing to another."""

import re

import pytest
from redis.exceptions import ResponseError

HOUR = 3_600_000
ROOT = "{streamq}"
RECORD, REVOKED, SCHEDULED = f"{ROOT}:task:a", f"{ROOT}:revoked", f"{ROOT}:scheduled"
NUMBER = f"{ROOT}:generation:a"
AGAIN = ("later", "+0", "", "retries", "1")


class Sender:
    """A producer that chooses the ids of what it sends to the queue `mail`."""

    def __init__(self, redis, scripts):
        self.redis, self.scripts = redis, scripts

    def send(self, id="a", *, window="none", keep=1, due="", exchange="", key="mail"):
        """Send a message; its dedup window has passed when it is sent again."""
        fields = ("task", "t", *(() if keep else ("ignore_result", "1")))
        message = (exchange, key, id, window, keep, "", due, "", 0, len(fields) // 2, *fields)
        self.redis.delete(f"{ROOT}:dedup:{id}")
        return self.scripts("publish", "", "", *message)


@pytest.fixture
def sender(redis, scripts, desk):
    return Sender(redis, scripts)


@pytest.fixture
def revoke(scripts):
    def revoke(id="a", signal=""):
        return scripts("revoke", id, HOUR, HOUR, signal, 1000)

    return revoke


def run(desk, outcome, name="a", **told):
    """Read one message and end it well."""
    (entry,) = desk.read()
    assert desk.complete(outcome(entry, name, **told)) == "1"


# The three that were met


def test_a_job_of_every_day_is_tried_again_after_the_day_before_went_well(
    desk, sender, outcome, following
):
    sender.send()
    run(desk, outcome)
    sender.send()
    (entry,) = desk.read()

    desk.settle(following(entry, "a::2", *AGAIN, state="RETRY", error="no", retries="1"))

    (again,) = desk.waiting("mail")
    assert (again["id"], again["generation"], again["retries"]) == ("a", "2", "1")
    assert desk.record("a")["state"] == "RETRY"


def test_what_was_revoked_yesterday_runs_today_when_it_is_due(desk, sender, revoke, scripts):
    sender.send()
    revoke()
    assert sender.send(due="+1000") == ["mail"]

    desk.redis.zadd(SCHEDULED, {"a::2": 1})
    scripts("promote", 10, HOUR, 10, HOUR)

    old, new = desk.waiting("mail")
    assert ("generation" in old, new["generation"]) == (False, "2")
    assert scripts("screen", "a", "", "", "a::2", "", "") == "r1"
    assert desk.record("a")["state"] == "QUEUED"


def test_what_was_revoked_while_it_ran_and_is_sent_again_is_recovered(
    desk, sender, revoke, outcome, scripts
):
    sender.send()
    (entry,) = desk.read()
    scripts("show_started", "me", "a")
    revoke()
    desk.complete(outcome(entry, "a"))
    sender.send()
    (entry,) = desk.read()
    scripts("show_started", "me", "a::2")

    assert desk.recover(entry) == [1, 0, 0, 0, 0]

    (again,) = desk.waiting()
    assert (again["id"], again["generation"], again["crashes"]) == ("a", "2", "1")
    assert desk.record("a")["state"] == "QUEUED"


# Accepted once as long as it has not ended, then again


@pytest.mark.parametrize("window", ["none", 1])
@pytest.mark.parametrize("state", ["QUEUED", "SCHEDULED", "STARTED", "RETRY", "HALFWAY"])
def test_an_id_is_accepted_once_as_long_as_its_task_has_not_ended(desk, sender, window, state):
    sender.send(window=window)
    desk.redis.hset(RECORD, "state", state)
    before = desk.record("a")

    assert sender.send(window=window) == ["mail"]

    assert len(desk.waiting("mail")) == 1
    assert desk.record("a") == before


ENDED = [
    {"state": "SUCCESS", "result": "5"},
    {"state": "FAILURE", "error": "no", "traceback": "t", "retries": "3"},
    {"state": "REVOKED", "reason": "revoked", "revoked": "1"},
    {"state": "QUEUED", "finished": "5"},
    {"state": "HALFWAY", "meta": "{}", "finished": "5"},
]


@pytest.mark.parametrize("ended", ENDED, ids=lambda ended: ended["state"])
@pytest.mark.parametrize("due", ["", "+60000"])
def test_one_that_has_ended_begins_a_generation_that_keeps_only_history(desk, sender, ended, due):
    sender.send()
    desk.redis.hset(RECORD, mapping={**ended, "history": "h", "started": "1", "worker": "w"})
    desk.redis.expire(RECORD, 60)

    sender.send(due=due)

    record = desk.record("a")
    assert record.pop("eta", "") != "" if due else "eta" not in record
    assert record.pop("enqueued")
    state = "SCHEDULED" if due else "QUEUED"
    expected = {"state": state, "task": "t", "queue": "mail", "history": "h", "generation": "2"}
    assert record == expected
    assert desk.redis.pttl(RECORD) == -1
    sender.send()
    assert len(desk.waiting("mail")) == (1 if due else 2)


def test_an_id_that_nobody_uses_twice_is_not_looked_up(desk, sender):
    for state in ("STARTED", "SUCCESS"):
        desk.redis.hset(RECORD, "state", state)
        sender.send(window=0)

    assert ["generation" in fields for fields in desk.waiting("mail")] == [False, False]


def test_twice_in_one_call_it_is_accepted_once_without_a_window(desk, scripts):
    one = ("", "mail", "a", "none", 1, "", "", "", 0, 1, "task", "t")

    assert scripts("publish", "", "", *one, *one) == ["mail", "mail"]
    assert len(desk.waiting("mail")) == 1


@pytest.mark.parametrize("id", ["a", "b"])
def test_a_message_added_by_hand_that_runs_is_not_doubled(desk, sender, scripts, id):
    desk.redis.xadd(f"{ROOT}:queue:mail", {"id": id, "task": "t"})
    scripts("show_started", "me", id)  # writes a record that knows no queue

    assert sender.send(id) == ["mail"]
    assert len(desk.waiting("mail")) == 1


def test_where_it_went_is_answered_whatever_the_topology_says(desk, sender, scripts):
    sender.send()
    scripts("declare_queue", "post", "{}")

    assert sender.send(key="post") == ["mail"]
    assert desk.waiting("post") == []


def test_without_a_record_only_the_window_counts(desk, sender):
    for _ in range(3):
        sender.send(keep=0)

    assert [fields.get("generation") for fields in desk.waiting("mail")] == [None] * 3
    assert desk.record("a") == {}


@pytest.fixture
def fan(scripts, desk):
    scripts("declare_queue", "post", "{}")
    scripts("declare_exchange", "fan", "fanout", "")
    for queue in ("mail", "post"):
        scripts("bind", "fan", "queue", queue, "")


def test_a_fan_out_has_ended_when_all_its_copies_have(desk, sender, fan, outcome):
    assert sender.send(exchange="fan") == ["mail:post"]
    run(desk, outcome, "a@mail")
    assert sender.send(exchange="fan") == ["mail:post"]
    assert desk.waiting("mail") == []
    (entry,) = desk.read("post")
    desk.complete(outcome(entry, "a@post", stream="post"))

    sender.send(exchange="fan")

    for queue in ("mail", "post"):
        (copy,) = desk.waiting(queue)
        assert (copy["id"], copy["generation"]) == (f"a@{queue}", "2")
        assert desk.record(f"a@{queue}")["state"] == "QUEUED"
    record = desk.record("a")
    assert (record["copies"], record["generation"]) == ("mail:post", "2")
    assert "ended" not in record
    assert desk.redis.pttl(RECORD) == -1


def test_a_copy_of_a_generation_before_does_not_count_for_this_one(
    desk, sender, fan, revoke, outcome
):
    sender.send(exchange="fan")
    for copy in ("a@mail", "a@post"):
        revoke(copy)
    sender.send(exchange="fan")
    old, new = desk.read()

    desk.complete(outcome(old, "a@mail"))

    assert "ended" not in desk.record("a")
    assert desk.record("a@mail")["state"] == "QUEUED"
    desk.complete(outcome(new, "a@mail::2", result="5"))
    assert desk.record("a")["ended"] == "1"
    assert desk.record("a@mail")["result"] == "5"


def test_one_queue_today_and_two_tomorrow_and_the_other_way_round(desk, sender, fan, outcome):
    sender.send()
    run(desk, outcome, result="1")
    sender.send(exchange="fan")
    assert desk.record("a")["copies"] == "mail:post"
    assert desk.record("a").keys().isdisjoint({"result", "queue"})
    for queue in ("mail", "post"):
        (entry,) = desk.read(queue)
        desk.complete(outcome(entry, f"a@{queue}::2", stream=queue))
    sender.send()

    record = desk.record("a")
    assert (record["state"], record["queue"], record["generation"]) == ("QUEUED", "mail", "3")
    assert record.keys().isdisjoint({"copies", "ended"})


def test_a_copy_that_was_put_back_counts_for_the_next_generation_of_all(
    desk, sender, fan, outcome, following, scripts
):
    sender.send(exchange="fan")
    (one,), (two,) = desk.read(), desk.read("post")
    desk.complete(outcome(one, "a@mail"))
    desk.settle(following(two, "a@post", "bury", "rejected", "no", stream="post"))
    scripts("revive", "post", "a@post")
    assert sender.send(exchange="fan") == ["mail:post"]  # one of its copies runs again
    assert desk.waiting("mail") == []
    (two,) = desk.read("post")
    desk.complete(outcome(two, "a@post::2", stream="post"))
    sender.send(exchange="fan")

    assert [desk.waiting(queue)[0]["generation"] for queue in ("mail", "post")] == ["3", "3"]


# An older and a newer generation alive


@pytest.fixture
def both(desk, sender, revoke):
    """Two messages of one id in our hands; the older one was revoked when it seemed to wait."""
    sender.send()
    (old,) = desk.read()
    revoke()
    sender.send()
    (new,) = desk.read()
    return old, new


def untouched(desk):
    record = desk.record("a")
    assert (record["state"], record["generation"]) == ("QUEUED", "2")
    assert desk.redis.pttl(RECORD) == -1
    return record.keys().isdisjoint({"finished", "worker", "error", "revoked", "started", "eta"})


@pytest.mark.parametrize("state", ["SUCCESS", "FAILURE", "REVOKED", ""])
def test_the_end_of_the_older_one_is_nothing_to_the_newer_one(desk, both, outcome, state):
    old, new = both
    assert desk.complete(outcome(old, "a", state=state)) == "1"

    assert untouched(desk)
    assert not desk.redis.exists(REVOKED)  # that was the older one's, and has been met
    desk.complete(outcome(new, "a::2", result="5"))
    assert desk.record("a")["result"] == "5"
    assert desk.redis.pttl(RECORD) > 0
    assert desk.pending() == 0


def test_who_waits_hears_of_the_newer_one(desk, both, outcome, scripts):
    old, new = both
    scripts("await", "a", "one")

    desk.complete(outcome(old, "a", result="4"))
    assert not desk.redis.exists(f"{ROOT}:reply:one")
    desk.complete(outcome(new, "a::2", result="5"))

    ((_, news),) = desk.redis.xrange(f"{ROOT}:reply:one")
    assert (news["id"], news["result"]) == ("a", "5")


FOLLOWS = [
    ("bury", "rejected", "no"),
    ("expire", "expired", "it expired"),
    ("later", "+60000", "", "retries", "1"),
    ("later", "+0", "", "refusals", "1"),
    ("revoked",),
]


@pytest.mark.parametrize("words", FOLLOWS, ids=lambda words: "-".join(words))
def test_what_follows_the_older_one_is_nothing_to_the_newer_one(desk, both, following, words):
    old, _ = both
    desk.redis.delete(REVOKED)  # it runs, and nobody has met its revocation

    assert desk.settle(following(old, "a", *words, state="X", error="no")) == "1"

    assert untouched(desk)


def test_each_waits_for_its_own_moment(desk, both, following, revoke):
    old, new = both
    desk.redis.delete(REVOKED)
    for entry, name in ((old, "a"), (new, "a::2")):
        desk.settle(following(entry, name, *AGAIN[:1], "+60000", *AGAIN[2:], state="RETRY"))
    assert desk.redis.zrange(SCHEDULED, 0, -1) == ["a", "a::2"]

    revoke()

    assert desk.redis.zrange(SCHEDULED, 0, -1) == ["a"]
    assert desk.record("a")["state"] == "REVOKED"
    assert not desk.redis.exists(REVOKED)


def test_the_one_that_is_revoked_is_not_tried_again_and_the_other_is(
    desk, both, following, outcome
):
    old, new = both
    desk.settle(following(old, "a", *AGAIN, state="RETRY"))
    # the record of its generation is gone: whoever reads it asks, and hears of the mark
    ((_, again),) = desk.redis.xrange(f"{ROOT}:queue:mail", f"({new}", "+")
    assert "generation" not in again
    assert desk.redis.zscore(REVOKED, "a")

    desk.settle(following(new, "a::2", *AGAIN, state="RETRY"))
    assert desk.record("a")["state"] == "RETRY"


@pytest.mark.parametrize("name", ["a", "a::2"])
def test_when_both_are_due_one_is_queued_for_each(desk, sender, revoke, scripts, name):
    sender.send(due="+60000")
    desk.redis.hset(RECORD, "state", "SUCCESS")  # its record was ended by somebody else
    sender.send(due="+60000")
    desk.redis.zadd(SCHEDULED, {name: 1})

    scripts("promote", 10, HOUR, 10, HOUR)

    (message,) = desk.waiting("mail")
    assert message.get("generation", "1") == (name[3:] or "1")
    assert desk.record("a")["state"] == ("QUEUED" if name == "a::2" else "SCHEDULED")


def test_expiring_before_it_is_due_ends_its_own_generation(desk, sender, scripts):
    for at in (1, 2):
        desk.redis.hset(RECORD, "state", "SUCCESS") if at == 2 else None
        sender.send(due="+60000")
    desk.redis.hset(f"{SCHEDULED}:a", "expires", 1)
    desk.redis.zadd(SCHEDULED, {"a": 1})

    scripts("promote", 10, HOUR, 10, HOUR)
    assert desk.record("a")["state"] == "SCHEDULED"

    desk.redis.hset(f"{SCHEDULED}:a::2", "expires", 1)
    desk.redis.zadd(SCHEDULED, {"a::2": 1})
    scripts("promote", 10, HOUR, 10, HOUR)
    assert desk.record("a")["state"] == "REVOKED"


def test_recovering_the_older_one_leaves_the_record_alone(desk, both):
    old, new = both

    assert desk.recover(old, new, charge="suspects") == [2, 0, 0, 0, 0]

    assert untouched(desk)
    assert [fields.get("generation") for fields in desk.waiting()] == [None, "2"]


@pytest.mark.parametrize(("which", "state"), [(0, "QUEUED"), (1, "FAILURE")])
def test_a_lost_worker_ends_the_generation_that_it_ran(desk, both, which, state):
    desk.start(both[which])

    assert desk.recover()[1] == 1

    assert desk.record("a")["state"] == state
    if which == 0:
        assert untouched(desk)


def test_one_that_crashed_too_often_ends_its_own_generation(desk, both):
    old, _ = both
    assert desk.recover(old, crashes=1) == [1, 0, 1, 0, 0]
    assert untouched(desk)
    assert desk.letters() == ["a"]


def test_handing_both_back_shows_that_the_newer_one_waits(desk, both, scripts):
    old, new = both
    scripts("show_started", "me", "a::2")
    scripts("release", "me", HOUR, "late", "mail", old)
    assert desk.record("a")["state"] == "STARTED"
    scripts("release", "me", HOUR, "late", "mail", new)
    assert untouched(desk)


def test_only_the_newer_one_is_shown_as_started(desk, both, scripts):
    assert scripts("show_started", "me", "a") == 0
    assert untouched(desk)
    assert scripts("show_started", "me", "a", "a::2") == 1
    assert desk.record("a")["state"] == "STARTED"


def test_only_the_newer_one_tells_how_far_it_is(desk, both, scripts):
    assert scripts("progress", "me", "a", "HALFWAY", "{}", "") == 0
    assert untouched(desk)
    assert scripts("progress", "me", "a::2", "HALFWAY", "{}", "") == 1
    assert desk.record("a")["state"] == "HALFWAY"


def test_revoking_concerns_the_newer_one(desk, both, revoke, scripts, following):
    _, new = both
    desk.redis.delete(REVOKED)
    scripts("show_started", "me", "a::2")
    assert revoke(signal="SIGTERM") == "STARTED"

    assert desk.redis.zrange(f"{ROOT}:terminating", 0, -1) == ["SIGTERM a::2"]
    desk.settle(following(new, "a::2", *AGAIN, state="RETRY"))
    assert desk.record("a")["state"] == "REVOKED"
    assert scripts("screen", "a", "", "", "a::2", "", "") == "11"


@pytest.mark.parametrize("waits", ["QUEUED", "RETRY"])
def test_a_revoked_message_that_waits_is_known_by_its_generation(
    desk, both, revoke, scripts, waits
):
    desk.redis.delete(REVOKED)
    desk.redis.hset(RECORD, "state", waits)
    revoke()
    assert desk.redis.zrange(REVOKED, 0, -1) == ["a::2"]
    assert scripts("screen", "a", "", "", "a::2", "", "", "b", "a::2", "") == "1rr"


def test_purging_the_older_one_does_not_end_the_newer_one(desk, sender, revoke, scripts):
    sender.send()
    revoke()
    sender.send()

    assert scripts("purge", "mail", 1, HOUR) == 1
    assert untouched(desk)
    assert scripts("purge", "mail", 1, HOUR) == 1
    assert desk.record("a")["state"] == "REVOKED"


# Dead letters


@pytest.fixture
def letter(desk, sender, following):
    """A letter of the first generation."""
    sender.send()
    (entry,) = desk.read()
    desk.settle(following(entry, "a", "bury", "rejected", "no", error="no"))
    assert desk.letters() == ["a"]


@pytest.mark.parametrize("state", ["QUEUED", "STARTED", "RETRY"])
def test_a_letter_whose_id_is_used_again_is_not_put_back(desk, letter, sender, scripts, state):
    sender.send()
    desk.redis.hset(RECORD, "state", state)
    before = desk.record("a")

    with pytest.raises(Exception, match=f"INUSE {state}"):
        scripts("revive", "mail", "a")

    assert (desk.letters(), len(desk.waiting("mail"))) == (["a"], 1)
    assert desk.record("a") == before


def test_when_that_has_ended_the_letter_begins_a_generation_behind_it(
    desk, letter, sender, scripts, outcome
):
    died = desk.letter("a")["dead_enqueued"]
    sender.send()
    run(desk, outcome, "a::2", result="5")

    assert scripts("revive", "mail", "a") == 1

    (message,) = desk.waiting("mail")
    assert message["generation"] == "3"
    record = desk.record("a")
    assert (record["state"], record["generation"]) == ("QUEUED", "3")
    assert "result" not in record
    assert f'"enqueued":{died}' in record["history"]


def test_the_letter_of_the_newer_one_has_a_place_of_its_own(
    desk, letter, sender, following, scripts
):
    sender.send()
    (entry,) = desk.read()
    desk.settle(following(entry, "a::2", "bury", "rejected", "again", error="again"))
    assert desk.letters() == ["a", "a#2"]
    assert scripts("revive", "mail", "a#2") == 1

    with pytest.raises(Exception, match="INUSE QUEUED"):
        scripts("revive", "mail", "a")
    assert [fields["generation"] for fields in desk.waiting("mail")] == ["3"]


@pytest.mark.parametrize("generation", ["", "7"])
def test_an_imported_letter_of_an_older_one_stays_while_its_id_is_in_use(
    desk, sender, scripts, outcome, generation
):
    at = desk.redis.time()[0] * 1000
    told = ("id", "a", "task", "t", "dead_reason", "odd", "dead_at", at)
    told += ("generation", generation) if generation else ()
    sender.send()

    assert scripts("import_letter", "mail", "a", at, 3, HOUR, *told) == ["kept", 0]
    assert desk.record("a")["state"] == "QUEUED"
    with pytest.raises(Exception, match="INUSE QUEUED"):
        scripts("revive", "mail", "a")
    run(desk, outcome)
    scripts("revive", "mail", "a")
    (message,) = desk.waiting("mail")
    assert message["generation"] == desk.record("a")["generation"] == "2"


def test_brought_to_a_server_that_does_not_know_its_id_a_letter_begins_the_first(desk, scripts):
    at = desk.redis.time()[0] * 1000
    told = ("id", "a", "task", "t", "dead_reason", "odd", "dead_at", at, "generation", "4")
    scripts("import_letter", "mail", "a", at, 3, HOUR, *told)

    scripts("revive", "mail", "a")

    (message,) = desk.waiting("mail")
    assert "generation" not in message
    assert "generation" not in desk.record("a")


# Without a record, and records that are gone


def test_without_a_record_what_was_revoked_does_not_stop_what_is_sent_again(
    desk, sender, revoke, scripts
):
    sender.send(keep=0)
    revoke()
    sender.send(keep=0)

    assert [fields.get("generation") for fields in desk.waiting("mail")] == [None, "2"]
    assert scripts("screen", "a", "", "", "a::2", "", "") == "r1"
    assert desk.record("a") == {}
    assert desk.redis.get(NUMBER) == "2"
    assert desk.redis.pttl(NUMBER) > 0

    assert revoke() == ""
    assert scripts("screen", "a", "", "", "a::2", "", "") == "rr"
    sender.send(keep=0)
    assert desk.waiting("mail")[2]["generation"] == "3"


def test_without_a_record_each_has_a_place_and_revoking_means_all(desk, sender, revoke, scripts):
    for _ in range(3):
        sender.send(keep=0, due="+60000")
    assert desk.redis.zrange(SCHEDULED, 0, -1) == ["a", "a::2", "a::3"]
    desk.redis.zadd(SCHEDULED, {"a": 1})
    scripts("promote", 10, HOUR, 10, HOUR)

    revoke()

    assert desk.redis.zrange(SCHEDULED, 0, -1) == []
    assert scripts("screen", "a", "", "") == "r"


def test_what_keeps_no_record_does_not_leave_the_one_of_before(desk, sender, outcome, revoke):
    sender.send()
    run(desk, outcome, result="5")
    sender.send(keep=0)

    assert desk.record("a") == {}
    assert desk.redis.get(NUMBER) == "2"
    (entry,) = desk.read()
    desk.complete(outcome(entry, "a::2", state="", expires=0))
    sender.send()
    assert desk.record("a")["state"] == "QUEUED"
    assert desk.redis.pttl(RECORD) == -1


def test_a_forgotten_generation_is_written_with_its_number(desk, both, outcome, scripts):
    _, new = both
    scripts("forget", "a")

    desk.complete(outcome(new, "a::2", result="5"))

    record = desk.record("a")
    assert (record["state"], record["generation"]) == ("SUCCESS", "2")


def test_a_task_that_runs_and_is_forgotten_is_not_taken_for_the_next(
    desk, sender, outcome, scripts
):
    sender.send()
    (old,) = desk.read()
    scripts("show_started", "me", "a")
    scripts("forget", "a")
    assert desk.record("a") == {}
    sender.send()
    (new,) = desk.read()

    desk.complete(outcome(old, "a", result="4"))

    assert untouched(desk)
    desk.complete(outcome(new, "a::2", result="5"))
    assert desk.record("a")["result"] == "5"
    scripts("forget", "a")
    assert desk.redis.get(NUMBER) == "2"  # that has ended: nothing to remember


@pytest.mark.parametrize("keep", [0, 1])
def test_a_revocation_whose_record_is_forgotten_stops_nothing_new(
    desk, sender, revoke, scripts, keep
):
    sender.send()
    revoke()
    scripts("forget", "a")
    sender.send(keep=keep)

    assert [fields.get("generation") for fields in desk.waiting("mail")] == [None, "2"]
    assert scripts("screen", "a", "", "", "a::2", "", "") == "r1"


# Added by hand


@pytest.mark.parametrize("state", ["SUCCESS", "FAILURE", "REVOKED"])
@pytest.mark.parametrize("generation", ["", "2"])
def test_a_message_by_hand_under_an_id_that_has_ended_is_tried_again_and_recovered(
    desk, following, state, generation
):
    told = {"state": state, "finished": "5", "revoked": "1", "result": "4"}
    desk.redis.hset(RECORD, mapping=told | ({"generation": generation} if generation else {}))
    before = desk.record("a")
    desk.redis.xadd(f"{ROOT}:queue:mail", {"id": "a", "task": "t"})
    (entry,) = desk.read()

    desk.settle(following(entry, "a", *AGAIN, state="RETRY", error="no"))
    (entry,) = desk.read()
    assert desk.recover(entry) == [1, 0, 0, 0, 0]

    assert [fields["id"] for fields in desk.waiting()] == ["a"]
    assert desk.record("a") == before


@pytest.mark.parametrize("said", ["0", "02", "-1", "1.5", "x", "", "1" * 40])
def test_a_generation_that_is_none_is_the_first(desk, said):
    desk.redis.xadd(f"{ROOT}:queue:mail", {"id": "a", "task": "t", "generation": said})
    desk.redis.hset(RECORD, "state", "STARTED")
    (entry,) = desk.read()

    desk.recover(entry)

    assert desk.record("a")["state"] == "QUEUED"


# Ending without a word


def test_who_ends_without_a_word_tells_those_who_wait(desk, scripts, outcome):
    entry = desk.take("a")
    scripts("await", "a", "one")

    desk.complete(outcome(entry, "a", state=""))

    ((_, news),) = desk.redis.xrange(f"{ROOT}:reply:one")
    assert news["state"] == "QUEUED"
    assert int(news["finished"])
    assert "waiters" not in desk.record("a")
    answer = scripts("await", "a", "two")
    assert "finished" in answer[::2]


def test_what_ended_without_a_word_is_not_touched_any_more(desk, scripts, outcome, revoke):
    entry = desk.take("a")
    desk.complete(outcome(entry, "a", state=""))
    before = desk.record("a")

    assert revoke() == "QUEUED"
    assert scripts("show_started", "me", "a") == 0
    assert scripts("progress", "me", "a", "HALFWAY", "{}", "") == 0

    assert desk.record("a") == before
    assert not desk.redis.exists(REVOKED)


# What somebody else has written


@pytest.mark.parametrize("said", ["inf", "nan", "1e300", "-3", "0", "abc", "", "9" * 15, "9" * 17])
@pytest.mark.parametrize("there", ["record", "leftover", "key"])
def test_a_number_that_no_message_can_say_counts_for_nothing(desk, sender, outcome, said, there):
    if there == "key":
        desk.redis.set(NUMBER, said)
    else:
        state = {"state": "SUCCESS"} if there == "record" else {}
        desk.redis.hset(RECORD, mapping={**state, "generation": said})

    sender.send()

    (fields,) = desk.waiting("mail")
    number = fields.get("generation", "1")
    assert re.fullmatch(r"\d{1,15}", number)
    assert desk.record("a").get("generation", "1") == number
    run(desk, outcome, f"a::{number}" if number != "1" else "a", result="5")
    assert desk.record("a")["result"] == "5"


@pytest.mark.parametrize("said", ["x", "", "9223372036854775807"])
def test_a_count_of_copies_that_is_none_keeps_no_message_from_being_settled(
    desk, sender, fan, outcome, said
):
    sender.send(exchange="fan")
    sender.send("b")
    desk.redis.hset(RECORD, "ended", said)
    one, two = desk.read()

    assert desk.complete(outcome(one, "a@mail"), outcome(two, "b")) == "11"

    assert desk.waiting("mail") == []
    assert desk.record("a@mail")["state"] == desk.record("b")["state"] == "SUCCESS"
    assert sender.send(exchange="fan") == ["mail:post"]  # one of its copies has not ended


def test_an_id_whose_record_is_none_is_refused_before_anything_is_written(desk, sender):
    desk.redis.set(RECORD, "something else")

    with pytest.raises(ResponseError, match=f"^WRONGTYPE {RECORD} is a "):
        sender.send()

    assert desk.waiting("mail") == []
    assert desk.redis.get(RECORD) == "something else"
