"""What each error of Redis does to who reads and settles: nothing that a pause does not mend."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from streamq.broker.consumer import ConsumerFenced
from streamq.errors import Reject
from tests.faults import EVERY, LOADING, NOGROUP, NOSCRIPT, WRONGTYPE, code_of
from tests.integration.conftest import pool_of
from tests.proxy import calls_of, sent_by

#: Seconds for which a fault is watched, and how often Redis may be tried in that time: the
#: pauses are 50, 100, 200, 400 ms.
WATCHED, TRIES = 0.5, 4


@pytest.fixture
def app(make_app, proxy):
    return make_app(url=proxy.url, lease="30s")


@pytest.fixture
def ran(app):
    """What the task has run with."""
    ran = []

    @app.task(name="work")
    def work(number):
        ran.append(number)

    return ran


def keeps_calm(rule, proxy, *, each=1):
    """Whether a fault that lasts is met with few tries; it has been met before."""
    rule.wait()
    before, tries = proxy.seen.total(), rule.hits
    time.sleep(WATCHED)
    assert rule.hits > tries, "it is tried again"
    assert rule.hits - tries <= TRIES * each
    assert proxy.seen.total() - before <= 12 * TRIES


@pytest.mark.parametrize("error", [each for each in EVERY if each != NOSCRIPT], ids=code_of)
def test_reading_survives(app, ran, proxy, working, eventually, streams, error):
    with working(app):
        app.enqueue("work", 1)
        eventually(lambda: ran == [1])
        rule = proxy.answer(error, "XREADGROUP", times=None)
        app.enqueue("work", 2)  # ends the read that waits
        keeps_calm(rule, proxy)
        proxy.heal()
        app.enqueue("work", 3)
        eventually(lambda: sorted(ran) == [1, 2, 3])
        eventually(lambda: streams(app) == {})


@pytest.mark.parametrize("error", EVERY, ids=code_of)
def test_settling_survives_and_runs_nothing_twice(
    app, ran, proxy, working, eventually, streams, error
):
    with working(app):
        rule = proxy.answer(error, calls_of("settle", "follow"), times=None)
        result = app.enqueue("work", 1)
        keeps_calm(rule, proxy, each=2 if error == NOSCRIPT else 1)  # loaded, and called again
        proxy.heal()
        assert result.get(timeout=10) is None
        eventually(lambda: streams(app) == {})
        assert ran == [1]


@pytest.mark.parametrize("lost", ["XREADGROUP", calls_of("settle")], ids=["read", "settle"])
@pytest.mark.parametrize(
    "hang",
    [pytest.param(False, id="broken"), pytest.param(True, id="silent")],
)
def test_a_lost_reply_loses_and_doubles_nothing(
    app, ran, proxy, working, eventually, streams, lost, hang
):
    with working(app):
        app.enqueue("work", 0)
        eventually(lambda: ran)
        rule = proxy.drop_reply(lost, times=1, hang=hang)
        for number in range(1, 6):
            app.enqueue("work", number)
        eventually(lambda: len(ran) == 6, seconds=25)
        eventually(lambda: streams(app) == {})

    assert rule.hits == 1
    assert sorted(ran) == list(range(6))


def test_the_fault_would_be_a_hot_loop_without_the_pause(
    app, ran, proxy, working, eventually, monkeypatch
):
    """The control: the bound on tries is one that can be broken."""
    monkeypatch.setattr("streamq.runner.pauses.Pauses.LONGEST", 0.001)
    with working(app):
        app.enqueue("work", 1)
        eventually(lambda: ran == [1])
        rule = proxy.answer(NOGROUP, "XREADGROUP", times=None)
        app.enqueue("work", 2)
        with pytest.raises(AssertionError):
            keeps_calm(rule, proxy)
        proxy.heal()
        eventually(lambda: sorted(ran) == [1, 2])


def test_the_error_is_said_once_and_its_end_too(app, ran, proxy, working, eventually, caplog):
    with working(app):
        app.enqueue("work", 1)
        eventually(lambda: ran == [1])
        rule = proxy.answer("MISCONF Errors writing to the AOF file", "XREADGROUP", times=None)
        app.enqueue("work", 2)
        rule.wait(4)
        proxy.heal()
        eventually(lambda: ran == [1, 2])

    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [text.partition(":")[0] for text in said[:1]] == [
        "Redis takes no writes; nothing was written"
    ]
    assert len(said) == 2
    assert said[1].startswith("Redis is back after")


# A runner that is declared dead while it starts


@pytest.mark.parametrize(
    "hindered",
    [
        lambda proxy: proxy.answer(LOADING, calls_of("declare_queue"), times=None),
        lambda proxy: proxy.drop_reply(calls_of("register"), times=None),
    ],
    ids=["refused", "lost"],
)
def test_who_is_declared_dead_while_it_starts_takes_no_other_lease(
    app, ran, proxy, redis, tmp_path, hindered
):
    pool = pool_of(app, tmp_path, burst=True)
    app.enqueue("work", 1)
    rule = hindered(proxy)
    with ThreadPoolExecutor() as threads:
        end = threads.submit(pool.run)
        rule.wait()
        assert redis.zrem(app.broker.keys.leases, pool.prefetch.consumer.name)
        rule.end()
        with pytest.raises(ConsumerFenced):
            end.result(10)
    pool.prefetch.consumer.connection.drop()

    assert redis.zcard(app.broker.keys.leases) == 0
    assert ran == []


@pytest.mark.parametrize("error", [LOADING, WRONGTYPE], ids=code_of)
def test_who_was_refused_a_lease_asks_for_its_first(app, ran, proxy, drain, error):
    app.enqueue("work", 1)
    rule = proxy.answer(error, calls_of("register"), times=2)

    assert drain(app) == 1

    assert rule.hits == 2
    assert ran == [1]


# Keys that are not ours


@pytest.fixture
def two(make_app, proxy, redis):
    """An app that reads two queues."""
    from streamq import Queue

    app = make_app(url=proxy.url, lease="1s")
    app.queues = [Queue("good"), Queue("bad")]
    app.declare()
    return app


@pytest.mark.parametrize("stream", ["bad", "bad:returned"])
def test_a_foreign_key_is_an_alarm_once_and_stops_no_other_queue(
    two, redis, proxy, working, eventually, caplog, stream
):
    ran, key = [], two.broker.keys.queue(stream)
    two.task(name="work")(ran.append)
    with working(two):
        two.enqueue(two.signature("work", (1,), queue="good"))
        eventually(lambda: ran == [1])
        redis.delete(key)
        redis.set(key, "not a stream")
        for number in range(2, 30):
            two.enqueue(two.signature("work", (number,), queue="good"))
        eventually(lambda: sorted(ran) == list(range(1, 30)))
        eventually(lambda: "is no stream" in caplog.text)
        redis.delete(key)
        two.declare()
        two.enqueue(two.signature("work", (0,), queue="bad"))
        eventually(lambda: 0 in ran)

    alarms = [record for record in caplog.records if "is no stream" in record.getMessage()]
    assert len(alarms) == 1
    assert alarms[0].levelname == "ERROR"
    assert key in alarms[0].getMessage()
    assert "queue bad is read again" in caplog.text


def test_a_runner_that_starts_beside_a_foreign_key_reads_the_others(
    two, redis, working, eventually
):
    ran, key = [], two.broker.keys.queue("bad")
    two.task(name="work")(ran.append)
    two.enqueue(two.signature("work", (1,), queue="good"))
    with working(two, before=lambda: (redis.delete(key), redis.set(key, "x"))):
        eventually(lambda: ran == [1])


def test_a_key_that_turns_foreign_while_it_is_declared_again_ends_no_runner(
    two, redis, proxy, working, eventually
):
    ran, key = [], two.broker.keys.queue("bad")
    two.task(name="work")(ran.append)
    declaring = proxy.answer(WRONGTYPE, calls_of("declare_queue"), times=0)
    with working(two):
        declaring.left = 1
        redis.delete(key)
        two.enqueue(two.signature("work", (1,), queue="good"))
        eventually(lambda: ran == [1])
        declaring.wait()
        two.enqueue(two.signature("work", (2,), queue="good"))
        eventually(lambda: ran == [1, 2])


@pytest.mark.parametrize("settings", [b"garbage", b'{"max_priority": 77}', b"\xff"])
def test_settings_that_nobody_can_read_end_no_runner_and_are_replaced(
    two, redis, working, eventually, caplog, settings
):
    ran, key = [], two.broker.keys.queue("bad")
    two.task(name="work")(ran.append)
    with working(two):
        redis.hset(two.broker.keys.queues, "bad", settings)
        redis.delete(key)
        two.enqueue(two.signature("work", (1,), queue="good"))
        eventually(lambda: ran == [1])
        eventually(lambda: redis.exists(key))
        two.enqueue(two.signature("work", (2,), queue="bad"))
        eventually(lambda: ran == [1, 2])

    assert "queue bad: settings " in caplog.text


def test_one_wrong_answer_leaves_no_queue_out(app, ran, proxy, working, eventually):
    with working(app) as pool:
        app.enqueue("work", 1)
        eventually(lambda: ran == [1])
        proxy.answer(WRONGTYPE, sent_by("streamq:runner", "XREADGROUP"))
        app.enqueue("work", 2)
        app.enqueue("work", 3)
        eventually(lambda: ran == [1, 2, 3])
        assert pool.prefetch.read_order.skipped == set()


def test_a_key_that_turns_foreign_while_a_task_runs_keeps_no_other_from_its_end(
    two, redis, working, eventually
):
    key, ran = two.broker.keys.queue("bad"), []

    @two.task(name="spoil")
    def spoil():
        redis.delete(key)
        redis.set(key, "x")

    two.task(name="work")(ran.append)
    with working(two) as pool:
        two.enqueue(two.signature("spoil", queue="bad"))
        eventually(lambda: pool.prefetch.settlements.parked)
        results = [
            two.enqueue(two.signature("work", (number,), queue="good")) for number in range(3)
        ]
        eventually(lambda: [result.state for result in results] == ["SUCCESS"] * 3)
        assert ran == [0, 1, 2]


def test_what_turns_foreign_during_a_task_of_more_than_a_lease_keeps_no_other_from_its_end(
    two, redis, working, eventually
):
    key, ran = two.broker.keys.queue("bad"), []
    two.task(name="work")(ran.append)

    @two.task(name="spoil")
    def spoil():
        redis.delete(key)
        redis.set(key, "x")
        pool.prefetch.compared_at -= 2 * pool.prefetch.lease

    with working(two) as pool:
        first = two.enqueue(two.signature("spoil", queue="good"))
        two.enqueue(two.signature("work", (1,), queue="good"))
        eventually(lambda: ran == [1])
        eventually(lambda: first.state == "SUCCESS")


@pytest.mark.parametrize("kind", ["foreign", "gone"])
def test_a_message_that_cannot_go_back_to_its_queue_keeps_no_other_from_its_run(
    two, redis, working, eventually, caplog, kind
):
    key, ran = two.broker.keys.queue("bad"), []
    two.task(name="work")(ran.append)

    @two.task(name="spoil")
    def spoil():
        ran.append("spoil")
        redis.delete(key)
        if kind == "foreign":
            redis.set(key, "x")
        raise Reject(requeue=True)

    with working(two):
        id = two.enqueue(two.signature("spoil", queue="bad")).id
        eventually(lambda: ran == ["spoil"])
        two.enqueue(two.signature("work", (1,), queue="good"))
        eventually(lambda: ran == ["spoil", 1])

    assert f"spoil[{id}] cannot go back to its queue: " in caplog.text


def test_what_could_not_go_back_to_its_queue_is_run_again_by_who_holds_it(
    two, redis, working, eventually
):
    key, ran = two.broker.keys.queue("bad:returned"), []

    @two.task(name="spoil")
    def spoil():
        ran.append(1)
        if len(ran) == 1:
            redis.delete(key)
            redis.set(key, "x")
        if len(ran) < 3:
            raise Reject(requeue=True)
        return "done"

    with working(two) as pool:
        result = two.enqueue(two.signature("spoil", queue="bad"))
        eventually(lambda: pool.prefetch.read_order.skipped)
        redis.delete(key)
        eventually(lambda: result.state == "SUCCESS")


def test_a_key_of_all_that_turns_foreign_is_named_and_redis_was_never_away(
    app, ran, redis, working, eventually, caplog
):
    key = app.broker.keys.revoked
    redis.set(key, "x")
    with working(app):
        app.enqueue("work", 1)
        eventually(lambda: f"{key} holds something that is not streamq's" in caplog.text)
        redis.delete(key)
        eventually(lambda: ran == [1])

    assert "work goes on after" in caplog.text
    assert "Redis is back" not in caplog.text


def test_two_queues_that_turn_foreign_are_said_each_time(two, redis, working, eventually, caplog):
    """Each time what has ended there cannot be settled."""
    key = two.broker.keys.queue("bad")
    kept = f"{key}:kept"  # in the same slot
    two.task(name="work")(lambda: None)

    @two.task(name="spoil")
    def spoil():
        redis.rename(key, kept)
        redis.set(key, "x")

    def said():
        return caplog.text.count(f"cannot be settled, and are tried again: WRONGTYPE {key} is a")

    with working(two) as pool:
        for times in (1, 2):
            result = two.enqueue(two.signature("spoil", queue="bad"))
            eventually(lambda times=times: said() == times)
            redis.rename(kept, key)
            waiting = pool.prefetch.settlements.parked.waiting
            waiting.append((0.0, waiting.pop()[1]))
            two.enqueue(two.signature("work", queue="good"))  # ends its wait for messages
            eventually(lambda result=result: result.state == "SUCCESS")


def test_an_early_message_that_a_stopping_runner_gave_up_is_handed_back(
    make_app, proxy, working, redis
):
    app, ran = make_app(url=proxy.url, shutdown_timeout="1s"), []
    app.task(name="work", acks_late=False)(ran.append)
    with working(app) as pool:
        refused = proxy.answer(LOADING, calls_of("settle"), times=None)
        persist = pool.persist

        def back_in_time(act):
            if act == pool.settle_and_hand_back:
                refused.end()
            persist(act)

        pool.persist = back_in_time
        app.enqueue("work", 1)
        refused.wait()

    assert ran == []
    assert redis.xlen(app.broker.keys.queue("default:returned")) == 1
    assert not redis.exists(app.broker.keys.started(pool.prefetch.consumer.name))
