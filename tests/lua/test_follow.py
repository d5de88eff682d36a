"""What follows a message in the same act that settles it, straight at Redis."""

import pytest
from redis.exceptions import ResponseError

from streamq.transport.scripts import Script, load

RETRY = ("later", "+5000", "", "retries", "1")


def test_a_retry_is_acknowledged_recorded_and_kept_for_later_at_once(consumer, following):
    entry = consumer.take("a", args="[1]", priority="3", headers='{"h":1}')

    told = {"state": "RETRY", "error": "no", "error_type": "ValueError", "retries": "1"}
    assert consumer.follow(following(entry, "a", *RETRY, **told)) == "1"

    assert (consumer.pending(), consumer.waiting("mail")) == (0, [])
    record = consumer.record("a")
    assert (record["state"], record["error"], record["retries"]) == ("RETRY", "no", "1")
    kept = consumer.redis.hgetall("{streamq}:scheduled:a")
    assert kept.pop("eta") == record["eta"]
    assert kept == {
        **{"id": "a", "task": "tasks.send", "args": "[1]", "priority": "3", "headers": '{"h":1}'},
        **{"retries": "1", "scheduled_for": "mail"},
    }
    assert consumer.redis.pttl("{streamq}:task:a") == -1


def test_a_retry_without_a_pause_waits_in_its_queue(consumer, following):
    entry = consumer.take("a", "mail:returned")

    words = ("later", "+0", "", "retries", "1")
    consumer.follow(following(entry, "a", *words, stream="mail:returned", state="RETRY"))

    assert consumer.waiting("mail") == [{"id": "a", "task": "tasks.send", "retries": "1"}]
    assert consumer.record("a")["state"] == "RETRY"


def test_a_retry_may_change_arguments_queue_and_expiry(consumer, following, scripts):
    scripts("declare_queue", "post", "{}")
    entry = consumer.take("a", args="[1]")

    words = ("later", "+5000", "post", "retries", "1", "args", "[2]", "expires", "+9000")
    consumer.follow(following(entry, "a", *words, state="RETRY"))

    kept = consumer.redis.hgetall("{streamq}:scheduled:a")
    assert (kept["args"], kept["scheduled_for"]) == ("[2]", "post")
    assert int(kept["expires"]) - int(kept["eta"]) == 4000
    assert consumer.record("a")["queue"] == "post"


def test_a_retry_whose_queue_is_gone_is_not_left_where_nobody_reads(consumer, following, scripts):
    entry = consumer.take("a", args="[1]")
    consumer.start(entry)
    scripts("delete_queue", "mail")

    words = ("later", "+0", "", "retries", "1")
    consumer.follow(following(entry, "a", *words, ack="early", state="RETRY"))
    assert not consumer.redis.exists("{streamq}:queue:mail")
    scripts("promote", 100, 60_000, 3, 60_000)

    assert consumer.letter("a")["dead_reason"] == "queue gone"
    assert consumer.record("a")["state"] == "FAILURE"


def test_an_early_message_may_be_tried_again(consumer, following):
    entry = consumer.take("a", args="[1]")
    consumer.start(entry)

    consumer.follow(following(entry, "a", *RETRY, ack="early", state="RETRY"))

    assert consumer.redis.hget("{streamq}:scheduled:a", "args") == "[1]"
    assert not consumer.redis.exists("{streamq}:started:me")


def test_a_call_sent_again_schedules_nothing_twice(consumer, following):
    entry = consumer.take("a")
    end = following(entry, "a", *RETRY, state="RETRY")

    assert consumer.follow(end, number=7) == consumer.follow(end, number=7) == "1"
    assert consumer.redis.zcard("{streamq}:scheduled") == 1


def test_what_another_has_acknowledged_is_not_tried_again(consumer, following):
    entry = consumer.take("a")
    consumer.redis.xack("{streamq}:queue:mail", "workers", entry)

    assert consumer.follow(following(entry, "a", *RETRY, state="RETRY")) == "0"

    assert consumer.redis.zcard("{streamq}:scheduled") == 0
    assert consumer.record("a") == {"state": "QUEUED"}


def test_the_dead_try_nothing_again(consumer, following):
    entry = consumer.take("a")
    consumer.redis.zrem("{streamq}:leases", "me")

    with pytest.raises(ResponseError, match=r"^FENCED me"):
        consumer.follow(following(entry, "a", *RETRY, state="RETRY"))

    assert consumer.redis.zcard("{streamq}:scheduled") == 0


def test_without_the_question_for_the_lease_the_dead_would(consumer, following):
    entry = consumer.take("a")
    consumer.redis.zrem("{streamq}:leases", "me")
    text = load("follow").text
    guard = "if not redis.call('ZRANK', key_of('leases'), consumer) then"
    assert text.count(guard) == 1
    script = Script("follow", text.replace(guard, "if false then"))
    consumer.redis.script_load(script.text)

    end = following(entry, "a", *RETRY, state="RETRY")
    consumer.redis.execute_command(*script.command("{streamq}", "me", 1, 3, 60_000, *end))

    assert consumer.redis.zcard("{streamq}:scheduled") == 1


def test_how_a_task_ends_hides_why_it_was_tried_again(consumer, following, outcome):
    entry = consumer.take("a")
    told = {"state": "RETRY", "error": "no", "error_type": "E", "traceback": "t", "retries": "1"}
    words = ("later", "+0", "", "retries", "1")
    consumer.follow(following(entry, "a", *words, **told))

    (again,) = consumer.read()
    consumer.settle(outcome(again, "a", result="5"))

    record = consumer.record("a")
    assert (record["state"], record["result"], record["retries"]) == ("SUCCESS", "5", "1")
    assert not {"error", "error_type", "traceback", "eta"} & record.keys()


def test_a_message_that_expired_leaves_no_letter(consumer, following):
    entry = consumer.take("a")

    end = following(
        entry, "a", "expire", "expired", "it expired", state="REVOKED", reason="expired"
    )
    consumer.follow(end)

    assert consumer.record("a")["state"] == "REVOKED"
    assert consumer.letters() == []


@pytest.fixture
def dead_letter_exchange_name(consumer, scripts):
    """The queue `mail`, whose dead letters go through an exchange to `morgue`."""
    scripts("declare_exchange", "dlx", "topic", "")
    scripts("declare_queue", "morgue", "{}")
    scripts("bind", "dlx", "queue", "morgue", "dead.#")
    settings = '{"dead_letter_exchange":"dlx","dead_letter_routing_key":"dead.mail"}'
    scripts("declare_queue", "mail", settings)


@pytest.mark.parametrize("verb", ["dead_letter", "expire"])
def test_a_dead_letter_exchange_gets_a_copy_that_is_a_task_of_its_own(
    dead_letter_exchange_name, consumer, following, verb
):
    entry = consumer.take("a", args="[1]", crashes="2", retries="1", expires="5")

    consumer.follow(following(entry, "a", verb, "rejected", "no"))

    (copy,) = consumer.waiting("morgue")
    assert copy == {
        **{"id": "a@morgue", "task": "tasks.send", "args": "[1]", "exchange": "dlx"},
        **{"routing_key": "dead.mail", "deaths": "1", "death_queue": "mail"},
        **{"death_reason": "rejected"},
    }
    assert consumer.record("a@morgue")["state"] == "QUEUED"
    assert consumer.record("a")["state"] == "FAILURE"
    assert consumer.record("a")["dead_lettered_to"] == "morgue"
    assert consumer.letters() == []


def test_a_second_letter_of_an_id_begins_a_generation_of_the_record(
    dead_letter_exchange_name, consumer, following, outcome
):
    for name, result in (("a@morgue", "5"), ("a@morgue::2", "6"), ("a@morgue::3", "7")):
        entry = consumer.take("a")
        consumer.follow(following(entry, "a", "dead_letter", "rejected", "no"))
        assert consumer.record("a@morgue")["state"] == "QUEUED"
        (copy,) = consumer.read("morgue")
        (fields,) = consumer.waiting("morgue")
        consumer.settle(outcome(copy, name, stream="morgue", result=result))

        record = consumer.record("a@morgue")
        assert (record["state"], record["result"]) == ("SUCCESS", result)
        assert record.get("generation") == fields.get("generation") == (name[10:] or None)
        assert consumer.redis.pttl("{streamq}:task:a@morgue") > 0
        consumer.redis.delete("{streamq}:task:a")


def test_a_letter_that_somebody_waits_for_has_a_record_that_stays(
    dead_letter_exchange_name, consumer, following, scripts
):
    scripts("await_result", "a@morgue", "one")

    consumer.follow(following(consumer.take("a"), "a", "dead_letter", "rejected", "no"))

    assert consumer.record("a@morgue")["state"] == "QUEUED"
    assert consumer.redis.pttl("{streamq}:task:a@morgue") == -1


def test_a_dead_letter_that_leads_nowhere_is_kept_here(
    dead_letter_exchange_name, consumer, following, scripts
):
    scripts("unbind", "dlx", "queue", "morgue", "dead.#")
    entry = consumer.take("a")

    consumer.follow(following(entry, "a", "dead_letter", "rejected", "no"))

    assert consumer.letter("a")["dead_reason"] == "rejected"


def test_a_signed_dead_letter_is_kept_where_its_signature_fits(
    dead_letter_exchange_name, consumer, following
):
    entry = consumer.take("a", signature="k1:1")

    consumer.follow(following(entry, "a", "dead_letter", "rejected", "no"))

    assert consumer.letters() == ["a"]
    assert consumer.waiting("morgue") == []


def test_a_dead_letter_keeps_the_key_it_came_with_unless_the_queue_has_one(
    consumer, following, scripts
):
    scripts("declare_exchange", "dlx", "direct", "")
    scripts("declare_queue", "morgue", "{}")
    scripts("bind", "dlx", "queue", "morgue", "orders")
    scripts("declare_queue", "mail", '{"dead_letter_exchange":"dlx"}')
    entry = consumer.take("a", exchange="shop", routing_key="orders")

    consumer.follow(following(entry, "a", "dead_letter", "rejected", "no"))

    assert consumer.waiting("morgue")[0]["routing_key"] == "orders"


def test_letters_that_go_in_a_circle_come_to_rest(consumer, following, scripts):
    scripts("declare_exchange", "dlx", "fanout", "")
    scripts("declare_queue", "mail", '{"dead_letter_exchange":"dlx"}')
    scripts("bind", "dlx", "queue", "mail", "")
    consumer.add("a")

    lives = 0
    while entries := consumer.read():
        lives += 1
        assert lives < 50
        ((_, fields),) = consumer.redis.xrange("{streamq}:queue:mail")
        consumer.follow(following(entries[0], fields["id"], "dead_letter", "rejected", "no"))

    assert lives == 11
    assert len(consumer.letters()) == 1


def test_a_crash_too_many_goes_to_the_dead_letter_exchange_too(dead_letter_exchange_name, consumer):
    entry = consumer.take("a", crashes="2")

    assert consumer.recover(entry) == [0, 0, 1, 0, 0]

    assert consumer.waiting("morgue")[0]["death_reason"] == "crashed 3 times"
    assert consumer.record("a")["state"] == "FAILURE"


def test_headers_of_a_letter_are_routed_as_they_were(consumer, following, scripts):
    scripts("declare_exchange", "dlx", "headers", "")
    scripts("declare_queue", "morgue", "{}")
    scripts("bind", "dlx", "queue", "morgue", "", "kind", "s:pdf", "pages", "i:3")
    scripts("declare_queue", "mail", '{"dead_letter_exchange":"dlx"}')
    entry = consumer.take("a", headers='{"kind":"pdf","pages":3,"urgent":true}')

    consumer.follow(following(entry, "a", "dead_letter", "rejected", "no"))

    assert [fields["id"] for fields in consumer.waiting("morgue")] == ["a@morgue"]


def test_what_was_run_and_is_tried_again_has_not_waited_in_vain(consumer, following):
    entry = consumer.take("a", stale="5", expires="9000000000000")

    consumer.follow(following(entry, "a", *RETRY, state="RETRY"))

    kept = consumer.redis.hgetall("{streamq}:scheduled:a")
    assert "stale" not in kept
    assert kept["expires"] == "9000000000000"


@pytest.mark.parametrize(("name", "made"), [(":slow", True), ("slow", False)])
def test_a_retry_makes_the_queue_that_it_goes_to_if_it_may(consumer, following, name, made):
    entry = consumer.take("a")

    assert consumer.follow(following(entry, "a", *RETRY[:2], name)) == "1"

    assert consumer.redis.hget("{streamq}:scheduled:a", "scheduled_for") == "slow"
    assert consumer.redis.hexists("{streamq}:queues", "slow") == made
    assert (
        consumer.redis.exists("{streamq}:queue:slow", "{streamq}:queue:slow:returned") == 2 * made
    )


def test_a_retry_leaves_the_settings_of_a_queue_that_is_there(consumer, following, scripts):
    scripts("declare_queue", "slow", '{"max_length": 3}')

    consumer.follow(following(consumer.take("a"), "a", *RETRY[:2], ":slow"))

    assert consumer.redis.hget("{streamq}:queues", "slow") == '{"max_length": 3}'


# A task that its consumer does not have


@pytest.fixture
def worker(consumer):
    """Describe a worker, which lives for a minute from now."""

    def worker(node, *tasks, queues="other mail", lives=60_000):
        seconds, micros = consumer.redis.time()
        until = seconds * 1000 + micros // 1000 + lives
        consumer.redis.zadd("{streamq}:workers", {node: until})
        about = {"queues": queues, **{f"task:{task}": 1 for task in tasks}}
        consumer.redis.hset(f"{{streamq}}:worker:{node}", mapping=about)

    return worker


def test_a_task_that_another_worker_has_is_offered_again(consumer, following, worker):
    entry = consumer.take("a")
    worker("old", "tasks.other")
    worker("new", "tasks.send")

    offer = ("offer", "+5000", "3", "unknown task", "no such task")
    assert consumer.follow(following(entry, "a", *offer, error="no such task")) == "1"

    assert consumer.letters() == []
    assert consumer.redis.hget("{streamq}:scheduled:a", "refusals") == "3"
    assert consumer.record("a")["state"] == "QUEUED"


@pytest.mark.parametrize(
    "about",
    [
        {"tasks": ["tasks.sen", "tasks.send2"]},
        {"tasks": ["tasks.send"], "queues": "other e-mail"},
        {"tasks": ["tasks.send"], "lives": -1},
    ],
    ids=["other tasks", "other queues", "dead"],
)
def test_a_task_that_no_other_worker_has_is_a_dead_letter(consumer, following, worker, about):
    entry = consumer.take("a")
    worker("new", *about.pop("tasks"), **about)

    offer = ("offer", "+5000", "3", "unknown task", "no such task")
    assert consumer.follow(following(entry, "a", *offer, error="no such task")) == "1"

    assert consumer.letter("a")["dead_reason"] == "unknown task"
    assert consumer.record("a")["state"] == "FAILURE"
    assert consumer.redis.zcard("{streamq}:scheduled") == 0
