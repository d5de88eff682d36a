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
def sender(redis, scripts, consumer):
    return Sender(redis, scripts)


@pytest.fixture
def revoke(scripts):
    def revoke(id="a", signal=""):
        return scripts("revoke", id, HOUR, HOUR, signal, 1000)

    return revoke


def run(consumer, outcome, name="a", **told):
    """Read one message and end it well."""
    (entry,) = consumer.read()
    assert consumer.settle(outcome(entry, name, **told)) == "1"


# The three that were met


def test_a_job_of_every_day_is_tried_again_after_the_day_before_went_well(
    consumer, sender, outcome, following
):
    sender.send()
    run(consumer, outcome)
    sender.send()
    (entry,) = consumer.read()

    consumer.follow(following(entry, "a::2", *AGAIN, state="RETRY", error="no", retries="1"))

    (again,) = consumer.waiting("mail")
    assert (again["id"], again["generation"], again["retries"]) == ("a", "2", "1")
    assert consumer.record("a")["state"] == "RETRY"


def test_what_was_revoked_yesterday_runs_today_when_it_is_due(consumer, sender, revoke, scripts):
    sender.send()
    revoke()
    assert sender.send(due="+1000") == ["mail"]

    consumer.redis.zadd(SCHEDULED, {"a::2": 1})
    scripts("promote", 10, HOUR, 10, HOUR)

    old, new = consumer.waiting("mail")
    assert ("generation" in old, new["generation"]) == (False, "2")
    assert scripts("check_start", "a", "", "", "a::2", "", "") == "r1"
    assert consumer.record("a")["state"] == "QUEUED"


def test_what_was_revoked_while_it_ran_and_is_sent_again_is_recovered(
    consumer, sender, revoke, outcome, scripts
):
    sender.send()
    (entry,) = consumer.read()
    scripts("mark_started", "me", "a")
    revoke()
    consumer.settle(outcome(entry, "a"))
    sender.send()
    (entry,) = consumer.read()
    scripts("mark_started", "me", "a::2")

    assert consumer.recover(entry) == [1, 0, 0, 0, 0]

    (again,) = consumer.waiting()
    assert (again["id"], again["generation"], again["crashes"]) == ("a", "2", "1")
    assert consumer.record("a")["state"] == "QUEUED"


# Accepted once as long as it has not ended, then again


@pytest.mark.parametrize("window", ["none", 1])
@pytest.mark.parametrize("state", ["QUEUED", "SCHEDULED", "STARTED", "RETRY", "HALFWAY"])
def test_an_id_is_accepted_once_as_long_as_its_task_has_not_ended(consumer, sender, window, state):
    sender.send(window=window)
    consumer.redis.hset(RECORD, "state", state)
    before = consumer.record("a")

    assert sender.send(window=window) == ["mail"]

    assert len(consumer.waiting("mail")) == 1
    assert consumer.record("a") == before


ENDED = [
    {"state": "SUCCESS", "result": "5"},
    {"state": "FAILURE", "error": "no", "traceback": "t", "retries": "3"},
    {"state": "REVOKED", "reason": "revoked", "revoked": "1"},
    {"state": "QUEUED", "finished": "5"},
    {"state": "HALFWAY", "meta": "{}", "finished": "5"},
]


@pytest.mark.parametrize("ended", ENDED, ids=lambda ended: ended["state"])
@pytest.mark.parametrize("due", ["", "+60000"])
def test_one_that_has_ended_begins_a_generation_that_keeps_only_history(
    consumer, sender, ended, due
):
    sender.send()
    consumer.redis.hset(RECORD, mapping={**ended, "history": "h", "started": "1", "worker": "w"})
    consumer.redis.expire(RECORD, 60)

    sender.send(due=due)

    record = consumer.record("a")
    assert record.pop("eta", "") != "" if due else "eta" not in record
    assert record.pop("enqueued")
    state = "SCHEDULED" if due else "QUEUED"
    expected = {"state": state, "task": "t", "queue": "mail", "history": "h", "generation": "2"}
    assert record == expected
    assert consumer.redis.pttl(RECORD) == -1
    sender.send()
    assert len(consumer.waiting("mail")) == (1 if due else 2)


def test_an_id_that_nobody_uses_twice_is_not_looked_up(consumer, sender):
    for state in ("STARTED", "SUCCESS"):
        consumer.redis.hset(RECORD, "state", state)
        sender.send(window=0)

    assert ["generation" in fields for fields in consumer.waiting("mail")] == [False, False]


def test_twice_in_one_call_it_is_accepted_once_without_a_window(consumer, scripts):
    one = ("", "mail", "a", "none", 1, "", "", "", 0, 1, "task", "t")

    assert scripts("publish", "", "", *one, *one) == ["mail", "mail"]
    assert len(consumer.waiting("mail")) == 1


@pytest.mark.parametrize("id", ["a", "b"])
def test_a_message_added_by_hand_that_runs_is_not_doubled(consumer, sender, scripts, id):
    consumer.redis.xadd(f"{ROOT}:queue:mail", {"id": id, "task": "t"})
    scripts("mark_started", "me", id)  # writes a record that knows no queue

    assert sender.send(id) == ["mail"]
    assert len(consumer.waiting("mail")) == 1


def test_where_it_went_is_answered_whatever_the_topology_says(consumer, sender, scripts):
    sender.send()
    scripts("declare_queue", "post", "{}")

    assert sender.send(key="post") == ["mail"]
    assert consumer.waiting("post") == []


def test_without_a_record_only_the_window_counts(consumer, sender):
    for _ in range(3):
        sender.send(keep=0)

    assert [fields.get("generation") for fields in consumer.waiting("mail")] == [None] * 3
    assert consumer.record("a") == {}


@pytest.fixture
def fan(scripts, consumer):
    scripts("declare_queue", "post", "{}")
    scripts("declare_exchange", "fan", "fanout", "")
    for queue in ("mail", "post"):
        scripts("bind", "fan", "queue", queue, "")


def test_a_fan_out_has_ended_when_all_its_copies_have(consumer, sender, fan, outcome):
    assert sender.send(exchange="fan") == ["mail:post"]
    run(consumer, outcome, "a@mail")
    assert sender.send(exchange="fan") == ["mail:post"]
    assert consumer.waiting("mail") == []
    (entry,) = consumer.read("post")
    consumer.settle(outcome(entry, "a@post", stream="post"))

    sender.send(exchange="fan")

    for queue in ("mail", "post"):
        (copy,) = consumer.waiting(queue)
        assert (copy["id"], copy["generation"]) == (f"a@{queue}", "2")
        assert consumer.record(f"a@{queue}")["state"] == "QUEUED"
    record = consumer.record("a")
    assert (record["copies"], record["generation"]) == ("mail:post", "2")
    assert "ended" not in record
    assert consumer.redis.pttl(RECORD) == -1


def test_a_copy_of_a_generation_before_does_not_count_for_this_one(
    consumer, sender, fan, revoke, outcome
):
    sender.send(exchange="fan")
    for copy in ("a@mail", "a@post"):
        revoke(copy)
    sender.send(exchange="fan")
    old, new = consumer.read()

    consumer.settle(outcome(old, "a@mail"))

    assert "ended" not in consumer.record("a")
    assert consumer.record("a@mail")["state"] == "QUEUED"
    consumer.settle(outcome(new, "a@mail::2", result="5"))
    assert consumer.record("a")["ended"] == "1"
    assert consumer.record("a@mail")["result"] == "5"


def test_one_queue_today_and_two_tomorrow_and_the_other_way_round(consumer, sender, fan, outcome):
    sender.send()
    run(consumer, outcome, result="1")
    sender.send(exchange="fan")
    assert consumer.record("a")["copies"] == "mail:post"
    assert consumer.record("a").keys().isdisjoint({"result", "queue"})
    for queue in ("mail", "post"):
        (entry,) = consumer.read(queue)
        consumer.settle(outcome(entry, f"a@{queue}::2", stream=queue))
    sender.send()

    record = consumer.record("a")
    assert (record["state"], record["queue"], record["generation"]) == ("QUEUED", "mail", "3")
    assert record.keys().isdisjoint({"copies", "ended"})


def test_a_copy_that_was_put_back_counts_for_the_next_generation_of_all(
    consumer, sender, fan, outcome, following, scripts
):
    sender.send(exchange="fan")
    (one,), (two,) = consumer.read(), consumer.read("post")
    consumer.settle(outcome(one, "a@mail"))
    consumer.follow(following(two, "a@post", "dead_letter", "rejected", "no", stream="post"))
    scripts("retry_dead", "post", "a@post")
    assert sender.send(exchange="fan") == ["mail:post"]  # one of its copies runs again
    assert consumer.waiting("mail") == []
    (two,) = consumer.read("post")
    consumer.settle(outcome(two, "a@post::2", stream="post"))
    sender.send(exchange="fan")

    assert [consumer.waiting(queue)[0]["generation"] for queue in ("mail", "post")] == ["3", "3"]


# An older and a newer generation alive


@pytest.fixture
def both(consumer, sender, revoke):
    """Two messages of one id in our hands; the older one was revoked when it seemed to wait."""
    sender.send()
    (old,) = consumer.read()
    revoke()
    sender.send()
    (new,) = consumer.read()
    return old, new


def untouched(consumer):
    record = consumer.record("a")
    assert (record["state"], record["generation"]) == ("QUEUED", "2")
    assert consumer.redis.pttl(RECORD) == -1
    return record.keys().isdisjoint({"finished", "worker", "error", "revoked", "started", "eta"})


@pytest.mark.parametrize("state", ["SUCCESS", "FAILURE", "REVOKED", ""])
def test_the_end_of_the_older_one_is_nothing_to_the_newer_one(consumer, both, outcome, state):
    old, new = both
    assert consumer.settle(outcome(old, "a", state=state)) == "1"

    assert untouched(consumer)
    assert not consumer.redis.exists(REVOKED)  # that was the older one's, and has been met
    consumer.settle(outcome(new, "a::2", result="5"))
    assert consumer.record("a")["result"] == "5"
    assert consumer.redis.pttl(RECORD) > 0
    assert consumer.pending() == 0


def test_who_waits_hears_of_the_newer_one(consumer, both, outcome, scripts):
    old, new = both
    scripts("await_result", "a", "one")

    consumer.settle(outcome(old, "a", result="4"))
    assert not consumer.redis.exists(f"{ROOT}:reply:one")
    consumer.settle(outcome(new, "a::2", result="5"))

    ((_, news),) = consumer.redis.xrange(f"{ROOT}:reply:one")
    assert (news["id"], news["result"]) == ("a", "5")


FOLLOWS = [
    ("dead_letter", "rejected", "no"),
    ("expire", "expired", "it expired"),
    ("later", "+60000", "", "retries", "1"),
    ("later", "+0", "", "refusals", "1"),
    ("revoked",),
]


@pytest.mark.parametrize("words", FOLLOWS, ids=lambda words: "-".join(words))
def test_what_follows_the_older_one_is_nothing_to_the_newer_one(consumer, both, following, words):
    old, _ = both
    consumer.redis.delete(REVOKED)  # it runs, and nobody has met its revocation

    assert consumer.follow(following(old, "a", *words, state="X", error="no")) == "1"

    assert untouched(consumer)


def test_each_waits_for_its_own_moment(consumer, both, following, revoke):
    old, new = both
    consumer.redis.delete(REVOKED)
    for entry, name in ((old, "a"), (new, "a::2")):
        consumer.follow(following(entry, name, *AGAIN[:1], "+60000", *AGAIN[2:], state="RETRY"))
    assert consumer.redis.zrange(SCHEDULED, 0, -1) == ["a", "a::2"]

    revoke()

    assert consumer.redis.zrange(SCHEDULED, 0, -1) == ["a"]
    assert consumer.record("a")["state"] == "REVOKED"
    assert not consumer.redis.exists(REVOKED)


def test_the_one_that_is_revoked_is_not_tried_again_and_the_other_is(
    consumer, both, following, outcome
):
    old, new = both
    consumer.follow(following(old, "a", *AGAIN, state="RETRY"))
    # the record of its generation is gone: whoever reads it asks, and hears of the mark
    ((_, again),) = consumer.redis.xrange(f"{ROOT}:queue:mail", f"({new}", "+")
    assert "generation" not in again
    assert consumer.redis.zscore(REVOKED, "a")

    consumer.follow(following(new, "a::2", *AGAIN, state="RETRY"))
    assert consumer.record("a")["state"] == "RETRY"


@pytest.mark.parametrize("name", ["a", "a::2"])
def test_when_both_are_due_one_is_queued_for_each(consumer, sender, revoke, scripts, name):
    sender.send(due="+60000")
    consumer.redis.hset(RECORD, "state", "SUCCESS")  # its record was ended by somebody else
    sender.send(due="+60000")
    consumer.redis.zadd(SCHEDULED, {name: 1})

    scripts("promote", 10, HOUR, 10, HOUR)

    (message,) = consumer.waiting("mail")
    assert message.get("generation", "1") == (name[3:] or "1")
    assert consumer.record("a")["state"] == ("QUEUED" if name == "a::2" else "SCHEDULED")


def test_expiring_before_it_is_due_ends_its_own_generation(consumer, sender, scripts):
    for at in (1, 2):
        consumer.redis.hset(RECORD, "state", "SUCCESS") if at == 2 else None
        sender.send(due="+60000")
    consumer.redis.hset(f"{SCHEDULED}:a", "expires", 1)
    consumer.redis.zadd(SCHEDULED, {"a": 1})

    scripts("promote", 10, HOUR, 10, HOUR)
    assert consumer.record("a")["state"] == "SCHEDULED"

    consumer.redis.hset(f"{SCHEDULED}:a::2", "expires", 1)
    consumer.redis.zadd(SCHEDULED, {"a::2": 1})
    scripts("promote", 10, HOUR, 10, HOUR)
    assert consumer.record("a")["state"] == "REVOKED"


def test_recovering_the_older_one_leaves_the_record_alone(consumer, both):
    old, new = both

    assert consumer.recover(old, new, blame="suspected") == [2, 0, 0, 0, 0]

    assert untouched(consumer)
    assert [fields.get("generation") for fields in consumer.waiting()] == [None, "2"]


@pytest.mark.parametrize(("which", "state"), [(0, "QUEUED"), (1, "FAILURE")])
def test_a_lost_worker_ends_the_generation_that_it_ran(consumer, both, which, state):
    consumer.start(both[which])

    assert consumer.recover()[1] == 1

    assert consumer.record("a")["state"] == state
    if which == 0:
        assert untouched(consumer)


def test_one_that_crashed_too_often_ends_its_own_generation(consumer, both):
    old, _ = both
    assert consumer.recover(old, crashes=1) == [1, 0, 1, 0, 0]
    assert untouched(consumer)
    assert consumer.letters() == ["a"]


def test_handing_both_back_shows_that_the_newer_one_waits(consumer, both, scripts):
    old, new = both
    scripts("mark_started", "me", "a::2")
    scripts("release", "me", HOUR, "late", "mail", old)
    assert consumer.record("a")["state"] == "STARTED"
    scripts("release", "me", HOUR, "late", "mail", new)
    assert untouched(consumer)


def test_only_the_newer_one_is_shown_as_started(consumer, both, scripts):
    assert scripts("mark_started", "me", "a") == 0
    assert untouched(consumer)
    assert scripts("mark_started", "me", "a", "a::2") == 1
    assert consumer.record("a")["state"] == "STARTED"


def test_only_the_newer_one_tells_how_far_it_is(consumer, both, scripts):
    assert scripts("update_state", "me", "a", "HALFWAY", "{}", "") == 0
    assert untouched(consumer)
    assert scripts("update_state", "me", "a::2", "HALFWAY", "{}", "") == 1
    assert consumer.record("a")["state"] == "HALFWAY"


def test_revoking_concerns_the_newer_one(consumer, both, revoke, scripts, following):
    _, new = both
    consumer.redis.delete(REVOKED)
    scripts("mark_started", "me", "a::2")
    assert revoke(signal="SIGTERM") == "STARTED"

    assert consumer.redis.zrange(f"{ROOT}:terminating", 0, -1) == ["SIGTERM a::2"]
    consumer.follow(following(new, "a::2", *AGAIN, state="RETRY"))
    assert consumer.record("a")["state"] == "REVOKED"
    assert scripts("check_start", "a", "", "", "a::2", "", "") == "11"


@pytest.mark.parametrize("waits", ["QUEUED", "RETRY"])
def test_a_revoked_message_that_waits_is_known_by_its_generation(
    consumer, both, revoke, scripts, waits
):
    consumer.redis.delete(REVOKED)
    consumer.redis.hset(RECORD, "state", waits)
    revoke()
    assert consumer.redis.zrange(REVOKED, 0, -1) == ["a::2"]
    assert scripts("check_start", "a", "", "", "a::2", "", "", "b", "a::2", "") == "1rr"


def test_purging_the_older_one_does_not_end_the_newer_one(consumer, sender, revoke, scripts):
    sender.send()
    revoke()
    sender.send()

    assert scripts("purge", "mail", 1, HOUR) == 1
    assert untouched(consumer)
    assert scripts("purge", "mail", 1, HOUR) == 1
    assert consumer.record("a")["state"] == "REVOKED"


# Dead letters


@pytest.fixture
def letter(consumer, sender, following):
    """A letter of the first generation."""
    sender.send()
    (entry,) = consumer.read()
    consumer.follow(following(entry, "a", "dead_letter", "rejected", "no", error="no"))
    assert consumer.letters() == ["a"]


@pytest.mark.parametrize("state", ["QUEUED", "STARTED", "RETRY"])
def test_a_letter_whose_id_is_used_again_is_not_put_back(consumer, letter, sender, scripts, state):
    sender.send()
    consumer.redis.hset(RECORD, "state", state)
    before = consumer.record("a")

    with pytest.raises(Exception, match=f"INUSE {state}"):
        scripts("retry_dead", "mail", "a")

    assert (consumer.letters(), len(consumer.waiting("mail"))) == (["a"], 1)
    assert consumer.record("a") == before


def test_when_that_has_ended_the_letter_begins_a_generation_behind_it(
    consumer, letter, sender, scripts, outcome
):
    died = consumer.letter("a")["dead_enqueued"]
    sender.send()
    run(consumer, outcome, "a::2", result="5")

    assert scripts("retry_dead", "mail", "a") == 1

    (message,) = consumer.waiting("mail")
    assert message["generation"] == "3"
    record = consumer.record("a")
    assert (record["state"], record["generation"]) == ("QUEUED", "3")
    assert "result" not in record
    assert f'"enqueued":{died}' in record["history"]


def test_the_letter_of_the_newer_one_has_a_place_of_its_own(
    consumer, letter, sender, following, scripts
):
    sender.send()
    (entry,) = consumer.read()
    consumer.follow(following(entry, "a::2", "dead_letter", "rejected", "again", error="again"))
    assert consumer.letters() == ["a", "a#2"]
    assert scripts("retry_dead", "mail", "a#2") == 1

    with pytest.raises(Exception, match="INUSE QUEUED"):
        scripts("retry_dead", "mail", "a")
    assert [fields["generation"] for fields in consumer.waiting("mail")] == ["3"]


@pytest.mark.parametrize("generation", ["", "7"])
def test_an_imported_letter_of_an_older_one_stays_while_its_id_is_in_use(
    consumer, sender, scripts, outcome, generation
):
    at = consumer.redis.time()[0] * 1000
    told = ("id", "a", "task", "t", "dead_reason", "odd", "dead_at", at)
    told += ("generation", generation) if generation else ()
    sender.send()

    assert scripts("import_letter", "mail", "a", at, 3, HOUR, *told) == ["kept", 0]
    assert consumer.record("a")["state"] == "QUEUED"
    with pytest.raises(Exception, match="INUSE QUEUED"):
        scripts("retry_dead", "mail", "a")
    run(consumer, outcome)
    scripts("retry_dead", "mail", "a")
    (message,) = consumer.waiting("mail")
    assert message["generation"] == consumer.record("a")["generation"] == "2"


def test_brought_to_a_server_that_does_not_know_its_id_a_letter_begins_the_first(consumer, scripts):
    at = consumer.redis.time()[0] * 1000
    told = ("id", "a", "task", "t", "dead_reason", "odd", "dead_at", at, "generation", "4")
    scripts("import_letter", "mail", "a", at, 3, HOUR, *told)

    scripts("retry_dead", "mail", "a")

    (message,) = consumer.waiting("mail")
    assert "generation" not in message
    assert "generation" not in consumer.record("a")


# Without a record, and records that are gone


def test_without_a_record_what_was_revoked_does_not_stop_what_is_sent_again(
    consumer, sender, revoke, scripts
):
    sender.send(keep=0)
    revoke()
    sender.send(keep=0)

    assert [fields.get("generation") for fields in consumer.waiting("mail")] == [None, "2"]
    assert scripts("check_start", "a", "", "", "a::2", "", "") == "r1"
    assert consumer.record("a") == {}
    assert consumer.redis.get(NUMBER) == "2"
    assert consumer.redis.pttl(NUMBER) > 0

    assert revoke() == ""
    assert scripts("check_start", "a", "", "", "a::2", "", "") == "rr"
    sender.send(keep=0)
    assert consumer.waiting("mail")[2]["generation"] == "3"


def test_without_a_record_each_has_a_place_and_revoking_means_all(
    consumer, sender, revoke, scripts
):
    for _ in range(3):
        sender.send(keep=0, due="+60000")
    assert consumer.redis.zrange(SCHEDULED, 0, -1) == ["a", "a::2", "a::3"]
    consumer.redis.zadd(SCHEDULED, {"a": 1})
    scripts("promote", 10, HOUR, 10, HOUR)

    revoke()

    assert consumer.redis.zrange(SCHEDULED, 0, -1) == []
    assert scripts("check_start", "a", "", "") == "r"


def test_what_keeps_no_record_does_not_leave_the_one_of_before(consumer, sender, outcome, revoke):
    sender.send()
    run(consumer, outcome, result="5")
    sender.send(keep=0)

    assert consumer.record("a") == {}
    assert consumer.redis.get(NUMBER) == "2"
    (entry,) = consumer.read()
    consumer.settle(outcome(entry, "a::2", state="", expires=0))
    sender.send()
    assert consumer.record("a")["state"] == "QUEUED"
    assert consumer.redis.pttl(RECORD) == -1


def test_a_forgotten_generation_is_written_with_its_number(consumer, both, outcome, scripts):
    _, new = both
    scripts("forget_result", "a")

    consumer.settle(outcome(new, "a::2", result="5"))

    record = consumer.record("a")
    assert (record["state"], record["generation"]) == ("SUCCESS", "2")


def test_a_task_that_runs_and_is_forgotten_is_not_taken_for_the_next(
    consumer, sender, outcome, scripts
):
    sender.send()
    (old,) = consumer.read()
    scripts("mark_started", "me", "a")
    scripts("forget_result", "a")
    assert consumer.record("a") == {}
    sender.send()
    (new,) = consumer.read()

    consumer.settle(outcome(old, "a", result="4"))

    assert untouched(consumer)
    consumer.settle(outcome(new, "a::2", result="5"))
    assert consumer.record("a")["result"] == "5"
    scripts("forget_result", "a")
    assert consumer.redis.get(NUMBER) == "2"  # that has ended: nothing to remember


@pytest.mark.parametrize("keep", [0, 1])
def test_a_revocation_whose_record_is_forgotten_stops_nothing_new(
    consumer, sender, revoke, scripts, keep
):
    sender.send()
    revoke()
    scripts("forget_result", "a")
    sender.send(keep=keep)

    assert [fields.get("generation") for fields in consumer.waiting("mail")] == [None, "2"]
    assert scripts("check_start", "a", "", "", "a::2", "", "") == "r1"


# Added by hand


@pytest.mark.parametrize("state", ["SUCCESS", "FAILURE", "REVOKED"])
@pytest.mark.parametrize("generation", ["", "2"])
def test_a_message_by_hand_under_an_id_that_has_ended_is_tried_again_and_recovered(
    consumer, following, state, generation
):
    told = {"state": state, "finished": "5", "revoked": "1", "result": "4"}
    consumer.redis.hset(RECORD, mapping=told | ({"generation": generation} if generation else {}))
    before = consumer.record("a")
    consumer.redis.xadd(f"{ROOT}:queue:mail", {"id": "a", "task": "t"})
    (entry,) = consumer.read()

    consumer.follow(following(entry, "a", *AGAIN, state="RETRY", error="no"))
    (entry,) = consumer.read()
    assert consumer.recover(entry) == [1, 0, 0, 0, 0]

    assert [fields["id"] for fields in consumer.waiting()] == ["a"]
    assert consumer.record("a") == before


@pytest.mark.parametrize("said", ["0", "02", "-1", "1.5", "x", "", "1" * 40])
def test_a_generation_that_is_none_is_the_first(consumer, said):
    consumer.redis.xadd(f"{ROOT}:queue:mail", {"id": "a", "task": "t", "generation": said})
    consumer.redis.hset(RECORD, "state", "STARTED")
    (entry,) = consumer.read()

    consumer.recover(entry)

    assert consumer.record("a")["state"] == "QUEUED"


# Ending without a word


def test_who_ends_without_a_word_tells_those_who_wait(consumer, scripts, outcome):
    entry = consumer.take("a")
    scripts("await_result", "a", "one")

    consumer.settle(outcome(entry, "a", state=""))

    ((_, news),) = consumer.redis.xrange(f"{ROOT}:reply:one")
    assert news["state"] == "QUEUED"
    assert int(news["finished"])
    assert "waiters" not in consumer.record("a")
    answer = scripts("await_result", "a", "two")
    assert "finished" in answer[::2]


def test_what_ended_without_a_word_is_not_touched_any_more(consumer, scripts, outcome, revoke):
    entry = consumer.take("a")
    consumer.settle(outcome(entry, "a", state=""))
    before = consumer.record("a")

    assert revoke() == "QUEUED"
    assert scripts("mark_started", "me", "a") == 0
    assert scripts("update_state", "me", "a", "HALFWAY", "{}", "") == 0

    assert consumer.record("a") == before
    assert not consumer.redis.exists(REVOKED)


# What somebody else has written


@pytest.mark.parametrize("said", ["inf", "nan", "1e300", "-3", "0", "abc", "", "9" * 15, "9" * 17])
@pytest.mark.parametrize("there", ["record", "leftover", "key"])
def test_a_number_that_no_message_can_say_counts_for_nothing(
    consumer, sender, outcome, said, there
):
    if there == "key":
        consumer.redis.set(NUMBER, said)
    else:
        state = {"state": "SUCCESS"} if there == "record" else {}
        consumer.redis.hset(RECORD, mapping={**state, "generation": said})

    sender.send()

    (fields,) = consumer.waiting("mail")
    number = fields.get("generation", "1")
    assert re.fullmatch(r"\d{1,15}", number)
    assert consumer.record("a").get("generation", "1") == number
    run(consumer, outcome, f"a::{number}" if number != "1" else "a", result="5")
    assert consumer.record("a")["result"] == "5"


@pytest.mark.parametrize("said", ["x", "", "9223372036854775807"])
def test_a_count_of_copies_that_is_none_keeps_no_message_from_being_settled(
    consumer, sender, fan, outcome, said
):
    sender.send(exchange="fan")
    sender.send("b")
    consumer.redis.hset(RECORD, "ended", said)
    one, two = consumer.read()

    assert consumer.settle(outcome(one, "a@mail"), outcome(two, "b")) == "11"

    assert consumer.waiting("mail") == []
    assert consumer.record("a@mail")["state"] == consumer.record("b")["state"] == "SUCCESS"
    assert sender.send(exchange="fan") == ["mail:post"]  # one of its copies has not ended


def test_an_id_whose_record_is_none_is_refused_before_anything_is_written(consumer, sender):
    consumer.redis.set(RECORD, "something else")

    with pytest.raises(ResponseError, match=f"^WRONGTYPE {RECORD} is a "):
        sender.send()

    assert consumer.waiting("mail") == []
    assert consumer.redis.get(RECORD) == "something else"
