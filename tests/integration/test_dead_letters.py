"""Dead letters through the store: pages, filters, putting back, and results meanwhile."""

import asyncio
import threading
import time

import pytest

from streamq import Exchange, Queue, Reject, current_task
from streamq.admin.dead_letter import DeadLetterFilter, from_line
from streamq.admin.dead_letters import DeadLetters, QueueNotDeclared
from streamq.errors import BrokerFull

BOUNDS = {"most": 100_000, "life": 3600.0}


@pytest.fixture
def dead(app):
    app.add_queue(Queue("mail"))
    app.add_queue(Queue("post"))
    app.declare()
    return DeadLetters(app.broker.client, app.broker.keys)


@pytest.fixture
def make_dead(app, dead, redis):
    """``make_dead(3)`` makes letters `a0` … `a2` of `mail`, one a second, the last one now."""

    def make_dead(count, *, queue="mail", prefix="a", task="shop.mail", reason="odd", **fields):
        seconds, micros = redis.time()
        now = seconds * 1000 + micros // 1000
        names = [f"{prefix}{number}" for number in range(count)]
        pipeline = redis.pipeline(transaction=False)
        for number, name in enumerate(names):
            at = now - 1000 * (count - 1 - number)
            told = {"id": name, "task": task, "dead_reason": reason, "dead_at": at, **fields}
            pipeline.hset(app.broker.keys.dead_letter(queue, name), mapping=told)
            pipeline.zadd(app.broker.keys.dead(queue), {name: at})
        pipeline.sadd(app.broker.keys.queues_with_dead, queue)
        pipeline.execute()
        return names

    return make_dead


@pytest.fixture
def refuse(app, drain):
    """``refuse()`` sends a task that is rejected once, and runs it; its Result."""
    seen = []

    @app.task(name="shop.later", queue="mail")
    def later(number: int) -> int:
        if number not in seen:
            seen.append(number)
            raise Reject("not yet")
        return number + 1

    def refuse(number=1, **options):
        result = later.options(**options).enqueue(number)
        assert drain(app) == 1
        return result

    return refuse


def calls_of(redis, command):
    return redis.info("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0)


def named(names):
    return [name.decode() for name in names]


# Looking


def test_a_page_of_many_letters_reads_no_more_than_it_shows(dead, make_dead, redis):
    make_dead(10_000)
    redis.config_resetstat()

    page = dead.newest("mail", 50)

    assert [letter.letter for letter in page.letters] == [f"a{n}" for n in range(9999, 9949, -1)]
    assert page.older == 9950
    assert calls_of(redis, "hgetall") == 50
    assert redis.info("commandstats")["cmdstat_zrange"]["calls"] == 1


def test_a_page_of_a_task_looks_no_further_than_it_must(dead, make_dead, redis):
    make_dead(1000)
    make_dead(30, prefix="b", task="shop.audit", reason="unknown task")
    redis.config_resetstat()

    page = dead.newest("mail", 10, DeadLetterFilter(task="*.audit"))

    assert [letter.letter for letter in page.letters] == [f"b{n}" for n in range(29, 19, -1)]
    assert 0 < page.older <= 1020
    assert calls_of(redis, "hgetall") == 10
    assert calls_of(redis, "hmget") <= 100


def test_a_page_that_finds_little_has_looked_at_everything(dead, make_dead):
    make_dead(250)
    make_dead(1, prefix="b", reason="unknown task")

    page = dead.newest("mail", 10, DeadLetterFilter(reason="unknown"))

    assert ([letter.letter for letter in page.letters], page.older) == (["b0"], 0)


def test_letters_are_chosen_by_age_on_the_servers_clock(dead, make_dead):
    make_dead(10)

    assert named(dead.names("mail", DeadLetterFilter(older=6.5))) == ["a0", "a1", "a2"]
    assert named(dead.names("mail", DeadLetterFilter(newer=1.5))) == ["a8", "a9"]
    old = dead.newest("mail", 9, DeadLetterFilter(older=7.5)).letters
    assert [letter.letter for letter in old] == ["a1", "a0"]


def test_every_name_is_found_once_however_many_died_at_the_same_time(dead, make_dead, app, redis):
    make_dead(2500)
    redis.zadd(app.broker.keys.dead("mail"), {f"a{number}": 1000 for number in range(2500)})

    names = dead.names("mail", DeadLetterFilter(task="shop.*"))

    assert sorted(names) == sorted(f"a{number}".encode() for number in range(2500))


def test_what_has_expired_is_not_shown(dead, make_dead, app, redis):
    make_dead(3)
    redis.delete(app.broker.keys.dead_letter("mail", "a2"))

    assert [letter.letter for letter in dead.newest("mail", 2).letters] == ["a1", "a0"]
    assert dead.get("mail", "a2") is None
    assert dead.names("mail") == [b"a0", b"a1"]


def test_queues_are_counted_deleted_ones_too(dead, make_dead, app):
    make_dead(3)
    make_dead(2, queue="gone")

    assert dead.queues() == {"gone": 2, "mail": 3, "post": 0}


def test_names_of_any_bytes_are_handled(dead, app, redis):
    key, name = app.broker.keys.dead("mail"), b"\xff\x00"
    redis.hset(dead.key("mail", name), mapping={"id": name, "task": "t", "dead_at": "5"})
    redis.zadd(key, {name: 5})

    assert dead.names("mail", DeadLetterFilter(task="t")) == [name]
    assert [letter.letter for letter in dead.newest("mail", 1).letters] == ["\\xff\x00"]
    assert dead.delete("mail", [name]) == 1
    assert dead.queues()["mail"] == 0


# Putting back


def test_letters_are_put_back_in_the_order_in_which_they_died(dead, make_dead, app, redis):
    make_dead(250)

    assert dead.retry("mail", dead.names("mail")).waiting == 250

    entries = redis.xrange(app.broker.keys.queue("mail"))
    assert [fields["id"] for _, fields in entries] == [f"a{number}" for number in range(250)]
    assert dead.queues()["mail"] == 0


def test_two_who_put_the_same_letters_back_do_it_once(dead, make_dead, app, make_app, redis):
    make_dead(300)
    other = make_app()
    names, done = dead.names("mail"), []
    both = [dead, DeadLetters(other.broker.client, other.broker.keys)]
    threads = [
        threading.Thread(target=lambda one=one: done.append(one.retry("mail", names).waiting))
        for one in both
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(done) == 300
    assert redis.xlen(app.broker.keys.queue("mail")) == 300


def test_what_cannot_be_put_back_stays_and_is_named(dead, make_dead, app, redis):
    make_dead(2)
    many = {f"f{number}": "x" for number in range(5000)}
    redis.hset(app.broker.keys.dead_letter("mail", "a0"), mapping=many)

    done = dead.retry("mail", [b"a0", b"a1", b"never"])

    assert (done.waiting, done.too_large) == (1, ("a0",))
    assert len(dead.read("mail", [b"a0"])[0].fields) == 5002
    assert dead.delete("mail", [b"a0", b"never"]) == 1


def test_nothing_is_put_into_a_queue_that_nobody_declared(dead, make_dead, app, redis):
    make_dead(2, queue="gone")

    with pytest.raises(QueueNotDeclared, match="'gone' is not declared"):
        dead.retry("gone", dead.names("gone"))

    assert not redis.exists(app.broker.keys.queue("gone"))
    assert dead.queues()["gone"] == 2


# Results


def test_a_result_that_has_failed_is_queued_again_after_its_letter_was_put_back(
    app, dead, refuse, drain
):
    result = refuse()
    with pytest.raises(Reject, match="not yet"):
        result.get(timeout=5)
    assert (result.state, result.failed()) == ("FAILURE", True)

    dead.retry("mail", dead.names("mail"))
    assert (result.state, result.ready(), result.traceback) == ("QUEUED", False, None)

    drain(app)
    assert (result.get(timeout=5), result.state) == (2, "SUCCESS")
    record = app.broker.results.record(result.id)
    assert (record["generation"], record["history"].count(b"\n")) == (b"2", 0)
    assert b"not yet" in record["history"]


def test_a_get_waits_through_a_retry(app, dead, refuse, drain, eventually):
    result, values = refuse(), []
    assert result.state == "FAILURE"
    dead.retry("mail", dead.names("mail"))
    thread = threading.Thread(target=lambda: values.append(result.get(timeout=10)))
    thread.start()
    eventually(lambda: app.broker.results.record(result.id).get("waiters"))

    drain(app)
    thread.join(10)

    assert values == [2]


def test_asyncio_sees_a_retry_too(app, dead, refuse, drain):
    result = refuse()

    async def twice():
        with pytest.raises(Reject, match="not yet"):
            await result.aget(timeout=5)
        dead.retry("mail", dead.names("mail"))
        drain(app)
        value = await result.aget(timeout=5)
        await app.aclose()
        return value

    assert asyncio.run(twice()) == 2


def test_a_failure_is_remembered_when_its_record_has_expired(app, refuse, redis):
    result = refuse()
    assert result.state == "FAILURE"
    redis.delete(app.broker.keys.task(result.id))

    assert result.state == "FAILURE"
    with pytest.raises(Reject, match="not yet"):
        result.get(timeout=1)


def test_one_letter_tells_everything_that_is_known(app, dead, refuse):
    before = time.time()
    result = refuse()

    letter = dead.get("mail", result.id)

    assert letter is not None
    assert (letter.task, letter.reason) == ("shop.later", "rejected")
    assert "not yet" in letter.error
    assert before - 1 < letter.enqueued <= letter.at < time.time() + 1
    assert letter.fields["args"] == "[1]"


def test_the_first_sending_is_known_after_a_second_death(app, dead, make_dead, redis):
    make_dead(1)
    redis.hset(app.broker.keys.task("a0"), mapping={"state": "FAILURE", "enqueued": "1000"})
    dead.retry("mail", [b"a0"])
    (entry, fields), = redis.xrange(app.broker.keys.queue("mail"))  # fmt: skip
    redis.xdel(app.broker.keys.queue("mail"), entry)
    make_dead(1, **fields)

    letter = dead.get("mail", "a0")

    assert letter.enqueued == 1.0
    assert [death["reason"] for death in letter.history] == ["odd"]


# Moving


def test_letters_go_to_another_namespace_and_back_as_they_were(
    dead, make_dead, app, make_app, redis
):
    make_dead(120, args=b"\xff\x00[1]", history="h")
    other = make_app(namespace="elsewhere")
    there = DeadLetters(other.broker.client, other.broker.keys)
    lines = list(dead.export("mail", dead.names("mail")))

    fates = there.import_letters([from_line(line) for line in lines], **BOUNDS)

    assert fates == [("kept", 0)] * 120
    assert list(there.export("mail", there.names("mail"))) == lines
    assert there.import_letters([from_line(line) for line in lines], **BOUNDS) == [
        ("known", 0)
    ] * 120  # fmt: skip
    assert redis.zrange(other.broker.keys.dead("mail"), 0, -1, withscores=True) == redis.zrange(
        app.broker.keys.dead("mail"), 0, -1, withscores=True
    )
    assert dead.queues()["mail"] == 120


def test_a_server_without_memory_lets_letters_go_but_takes_none(dead, make_dead, app, redis):
    make_dead(3)
    lines = list(dead.export("mail", [b"a0"]))
    redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(BrokerFull):
            dead.retry("mail", [b"a0", b"a1"])
        with pytest.raises(BrokerFull):
            dead.import_letters([from_line(line) for line in lines], **BOUNDS)
        assert dead.delete("mail", [b"a2"]) == 1
    finally:
        redis.config_set("maxmemory", 0)

    assert redis.xlen(app.broker.keys.queue("mail")) == 0
    assert dead.names("mail") == [b"a0", b"a1"]


def test_a_fanned_out_message_ends_anew_with_the_copy_that_was_put_back(app, dead, drain, redis):
    both, closed = Exchange("both", type="fanout"), [True]
    for name in ("mail", "post"):
        app.add_queue(Queue(name, both))

    @app.task
    def deliver() -> str:
        if closed and current_task().request.queue == "post":
            raise Reject("closed")
        return "there"

    app.declare()
    result = deliver.options(exchange=both).enqueue()
    drain(app)
    assert result.state == "FAILURE"
    assert redis.pttl(app.broker.keys.task(result.id)) > 0

    dead.retry("post", dead.names("post"))
    assert result.state == "QUEUED"
    assert redis.pttl(app.broker.keys.task(result.id)) == -1
    closed.clear()
    drain(app)

    assert result.get(timeout=5) == {"mail": "there", "post": "there"}
    assert redis.pttl(app.broker.keys.task(result.id)) > 0
