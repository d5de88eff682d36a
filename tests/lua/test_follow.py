"""What follows a message in the same act that settles it, straight at Redis."""

import pytest
from redis.exceptions import ResponseError

from streamq.transport.scripts import Script, load

RETRY = ("later", "+5000", "", "retries", "1")


def test_a_retry_is_acknowledged_recorded_and_kept_for_later_at_once(desk, following):
    entry = desk.take("a", args="[1]", priority="3", headers='{"h":1}')

    told = {"state": "RETRY", "error": "no", "error_type": "ValueError", "retries": "1"}
    assert desk.settle(following(entry, "a", *RETRY, **told)) == "1"

    assert (desk.pending(), desk.waiting("mail")) == (0, [])
    record = desk.record("a")
    assert (record["state"], record["error"], record["retries"]) == ("RETRY", "no", "1")
    kept = desk.redis.hgetall("{streamq}:scheduled:a")
    assert kept.pop("eta") == record["eta"]
    assert kept == {
        **{"id": "a", "task": "tasks.send", "args": "[1]", "priority": "3", "headers": '{"h":1}'},
        **{"retries": "1", "scheduled_for": "mail"},
    }
    assert desk.redis.pttl("{streamq}:task:a") == -1


def test_a_retry_without_a_pause_waits_in_its_queue(desk, following):
    entry = desk.take("a", "mail:returned")

    words = ("later", "+0", "", "retries", "1")
    desk.settle(following(entry, "a", *words, stream="mail:returned", state="RETRY"))

    assert desk.waiting("mail") == [{"id": "a", "task": "tasks.send", "retries": "1"}]
    assert desk.record("a")["state"] == "RETRY"


def test_a_retry_may_change_arguments_queue_and_expiry(desk, following, scripts):
    scripts("declare_queue", "post", "{}")
    entry = desk.take("a", args="[1]")

    words = ("later", "+5000", "post", "retries", "1", "args", "[2]", "expires", "+9000")
    desk.settle(following(entry, "a", *words, state="RETRY"))

    kept = desk.redis.hgetall("{streamq}:scheduled:a")
    assert (kept["args"], kept["scheduled_for"]) == ("[2]", "post")
    assert int(kept["expires"]) - int(kept["eta"]) == 4000
    assert desk.record("a")["queue"] == "post"


def test_a_retry_whose_queue_is_gone_is_not_left_where_nobody_reads(desk, following, scripts):
    entry = desk.take("a", args="[1]")
    desk.start(entry)
    scripts("delete_queue", "mail")

    words = ("later", "+0", "", "retries", "1")
    desk.settle(following(entry, "a", *words, ack="early", state="RETRY"))
    assert not desk.redis.exists("{streamq}:queue:mail")
    scripts("promote", 100, 60_000, 3, 60_000)

    assert desk.letter("a")["dead_reason"] == "queue gone"
    assert desk.record("a")["state"] == "FAILURE"


def test_an_early_message_may_be_tried_again(desk, following):
    entry = desk.take("a", args="[1]")
    desk.start(entry)

    desk.settle(following(entry, "a", *RETRY, ack="early", state="RETRY"))

    assert desk.redis.hget("{streamq}:scheduled:a", "args") == "[1]"
    assert not desk.redis.exists("{streamq}:started:me")


def test_a_call_sent_again_schedules_nothing_twice(desk, following):
    entry = desk.take("a")
    end = following(entry, "a", *RETRY, state="RETRY")

    assert desk.settle(end, number=7) == desk.settle(end, number=7) == "1"
    assert desk.redis.zcard("{streamq}:scheduled") == 1


def test_what_another_has_acknowledged_is_not_tried_again(desk, following):
    entry = desk.take("a")
    desk.redis.xack("{streamq}:queue:mail", "workers", entry)

    assert desk.settle(following(entry, "a", *RETRY, state="RETRY")) == "0"

    assert desk.redis.zcard("{streamq}:scheduled") == 0
    assert desk.record("a") == {"state": "QUEUED"}


def test_the_dead_try_nothing_again(desk, following):
    entry = desk.take("a")
    desk.redis.zrem("{streamq}:leases", "me")

    with pytest.raises(ResponseError, match=r"^FENCED me"):
        desk.settle(following(entry, "a", *RETRY, state="RETRY"))

    assert desk.redis.zcard("{streamq}:scheduled") == 0


def test_without_the_question_for_the_lease_the_dead_would(desk, following):
    entry = desk.take("a")
    desk.redis.zrem("{streamq}:leases", "me")
    text = load("settle").text
    guard = "if not redis.call('ZRANK', key_of('leases'), consumer) then"
    assert text.count(guard) == 1
    script = Script("settle", text.replace(guard, "if false then"))
    desk.redis.script_load(script.text)

    end = following(entry, "a", *RETRY, state="RETRY")
    desk.redis.execute_command(*script.command("{streamq}", "me", 1, 3, 60_000, *end))

    assert desk.redis.zcard("{streamq}:scheduled") == 1


def test_how_a_task_ends_hides_why_it_was_tried_again(desk, following, outcome):
    entry = desk.take("a")
    told = {"state": "RETRY", "error": "no", "error_type": "E", "traceback": "t", "retries": "1"}
    words = ("later", "+0", "", "retries", "1")
    desk.settle(following(entry, "a", *words, **told))

    (again,) = desk.read()
    desk.complete(outcome(again, "a", result="5"))

    record = desk.record("a")
    assert (record["state"], record["result"], record["retries"]) == ("SUCCESS", "5", "1")
    assert not {"error", "error_type", "traceback", "eta"} & record.keys()


def test_a_message_that_expired_leaves_no_letter(desk, following):
    entry = desk.take("a")

    end = following(
        entry, "a", "expire", "expired", "it expired", state="REVOKED", reason="expired"
    )
    desk.settle(end)

    assert desk.record("a")["state"] == "REVOKED"
    assert desk.letters() == []


@pytest.fixture
def afterlife(desk, scripts):
    """The queue `mail`, whose dead letters go through an exchange to `morgue`."""
    scripts("declare_exchange", "dlx", "topic", "")
    scripts("declare_queue", "morgue", "{}")
    scripts("bind", "dlx", "queue", "morgue", "dead.#")
    settings = '{"dead_letter_exchange":"dlx","dead_letter_routing_key":"dead.mail"}'
    scripts("declare_queue", "mail", settings)


@pytest.mark.parametrize("verb", ["bury", "expire"])
def test_a_dead_letter_exchange_gets_a_copy_that_is_a_task_of_its_own(
    afterlife, desk, following, verb
):
    entry = desk.take("a", args="[1]", crashes="2", retries="1", expires="5")

    desk.settle(following(entry, "a", verb, "rejected", "no"))

    (copy,) = desk.waiting("morgue")
    assert copy == {
        **{"id": "a@morgue", "task": "tasks.send", "args": "[1]", "exchange": "dlx"},
        **{"routing_key": "dead.mail", "deaths": "1", "death_queue": "mail"},
        **{"death_reason": "rejected"},
    }
    assert desk.record("a@morgue")["state"] == "QUEUED"
    assert desk.record("a")["state"] == "FAILURE"
    assert desk.record("a")["dead_lettered_to"] == "morgue"
    assert desk.letters() == []


def test_a_second_letter_of_an_id_begins_a_generation_of_the_record(
    afterlife, desk, following, outcome
):
    for name, result in (("a@morgue", "5"), ("a@morgue::2", "6"), ("a@morgue::3", "7")):
        entry = desk.take("a")
        desk.settle(following(entry, "a", "bury", "rejected", "no"))
        assert desk.record("a@morgue")["state"] == "QUEUED"
        (copy,) = desk.read("morgue")
        (fields,) = desk.waiting("morgue")
        desk.complete(outcome(copy, name, stream="morgue", result=result))

        record = desk.record("a@morgue")
        assert (record["state"], record["result"]) == ("SUCCESS", result)
        assert record.get("generation") == fields.get("generation") == (name[10:] or None)
        assert desk.redis.pttl("{streamq}:task:a@morgue") > 0
        desk.redis.delete("{streamq}:task:a")


def test_a_letter_that_somebody_waits_for_has_a_record_that_stays(
    afterlife, desk, following, scripts
):
    scripts("await", "a@morgue", "one")

    desk.settle(following(desk.take("a"), "a", "bury", "rejected", "no"))

    assert desk.record("a@morgue")["state"] == "QUEUED"
    assert desk.redis.pttl("{streamq}:task:a@morgue") == -1


def test_a_dead_letter_that_leads_nowhere_is_kept_here(afterlife, desk, following, scripts):
    scripts("unbind", "dlx", "queue", "morgue", "dead.#")
    entry = desk.take("a")

    desk.settle(following(entry, "a", "bury", "rejected", "no"))

    assert desk.letter("a")["dead_reason"] == "rejected"


def test_a_signed_dead_letter_is_kept_where_its_signature_fits(afterlife, desk, following):
    entry = desk.take("a", signature="k1:1")

    desk.settle(following(entry, "a", "bury", "rejected", "no"))

    assert desk.letters() == ["a"]
    assert desk.waiting("morgue") == []


def test_a_dead_letter_keeps_the_key_it_came_with_unless_the_queue_has_one(
    desk, following, scripts
):
    scripts("declare_exchange", "dlx", "direct", "")
    scripts("declare_queue", "morgue", "{}")
    scripts("bind", "dlx", "queue", "morgue", "orders")
    scripts("declare_queue", "mail", '{"dead_letter_exchange":"dlx"}')
    entry = desk.take("a", exchange="shop", routing_key="orders")

    desk.settle(following(entry, "a", "bury", "rejected", "no"))

    assert desk.waiting("morgue")[0]["routing_key"] == "orders"


def test_letters_that_go_in_a_circle_come_to_rest(desk, following, scripts):
    scripts("declare_exchange", "dlx", "fanout", "")
    scripts("declare_queue", "mail", '{"dead_letter_exchange":"dlx"}')
    scripts("bind", "dlx", "queue", "mail", "")
    desk.add("a")

    lives = 0
    while entries := desk.read():
        lives += 1
        assert lives < 50
        ((_, fields),) = desk.redis.xrange("{streamq}:queue:mail")
        desk.settle(following(entries[0], fields["id"], "bury", "rejected", "no"))

    assert lives == 11
    assert len(desk.letters()) == 1


def test_a_crash_too_many_goes_to_the_dead_letter_exchange_too(afterlife, desk):
    entry = desk.take("a", crashes="2")

    assert desk.recover(entry) == [0, 0, 1, 0, 0]

    assert desk.waiting("morgue")[0]["death_reason"] == "crashed 3 times"
    assert desk.record("a")["state"] == "FAILURE"


def test_headers_of_a_letter_are_routed_as_they_were(desk, following, scripts):
    scripts("declare_exchange", "dlx", "headers", "")
    scripts("declare_queue", "morgue", "{}")
    scripts("bind", "dlx", "queue", "morgue", "", "kind", "s:pdf", "pages", "i:3")
    scripts("declare_queue", "mail", '{"dead_letter_exchange":"dlx"}')
    entry = desk.take("a", headers='{"kind":"pdf","pages":3,"urgent":true}')

    desk.settle(following(entry, "a", "bury", "rejected", "no"))

    assert [fields["id"] for fields in desk.waiting("morgue")] == ["a@morgue"]


def test_what_was_run_and_is_tried_again_has_not_waited_in_vain(desk, following):
    entry = desk.take("a", stale="5", expires="9000000000000")

    desk.settle(following(entry, "a", *RETRY, state="RETRY"))

    kept = desk.redis.hgetall("{streamq}:scheduled:a")
    assert "stale" not in kept
    assert kept["expires"] == "9000000000000"


@pytest.mark.parametrize(("name", "made"), [(":slow", True), ("slow", False)])
def test_a_retry_makes_the_queue_that_it_goes_to_if_it_may(desk, following, name, made):
    entry = desk.take("a")

    assert desk.settle(following(entry, "a", *RETRY[:2], name)) == "1"

    assert desk.redis.hget("{streamq}:scheduled:a", "scheduled_for") == "slow"
    assert desk.redis.hexists("{streamq}:queues", "slow") == made
    assert desk.redis.exists("{streamq}:queue:slow", "{streamq}:queue:slow:returned") == 2 * made


def test_a_retry_leaves_the_settings_of_a_queue_that_is_there(desk, following, scripts):
    scripts("declare_queue", "slow", '{"max_length": 3}')

    desk.settle(following(desk.take("a"), "a", *RETRY[:2], ":slow"))

    assert desk.redis.hget("{streamq}:queues", "slow") == '{"max_length": 3}'


# A task that its consumer does not have


@pytest.fixture
def worker(desk):
    """Describe a worker, which lives for a minute from now."""

    def worker(node, *tasks, queues="other mail", lives=60_000):
        seconds, micros = desk.redis.time()
        until = seconds * 1000 + micros // 1000 + lives
        desk.redis.zadd("{streamq}:workers", {node: until})
        about = {"queues": queues, **{f"task:{task}": 1 for task in tasks}}
        desk.redis.hset(f"{{streamq}}:worker:{node}", mapping=about)

    return worker


def test_a_task_that_another_worker_has_is_offered_again(desk, following, worker):
    entry = desk.take("a")
    worker("old", "tasks.other")
    worker("new", "tasks.send")

    offer = ("offer", "+5000", "3", "unknown task", "no such task")
    assert desk.settle(following(entry, "a", *offer, error="no such task")) == "1"

    assert desk.letters() == []
    assert desk.redis.hget("{streamq}:scheduled:a", "refusals") == "3"
    assert desk.record("a")["state"] == "QUEUED"


@pytest.mark.parametrize(
    "about",
    [
        {"tasks": ["tasks.sen", "tasks.send2"]},
        {"tasks": ["tasks.send"], "queues": "other e-mail"},
        {"tasks": ["tasks.send"], "lives": -1},
    ],
    ids=["other tasks", "other queues", "dead"],
)
def test_a_task_that_no_other_worker_has_is_a_dead_letter(desk, following, worker, about):
    entry = desk.take("a")
    worker("new", *about.pop("tasks"), **about)

    offer = ("offer", "+5000", "3", "unknown task", "no such task")
    assert desk.settle(following(entry, "a", *offer, error="no such task")) == "1"

    assert desk.letter("a")["dead_reason"] == "unknown task"
    assert desk.record("a")["state"] == "FAILURE"
    assert desk.redis.zcard("{streamq}:scheduled") == 0
