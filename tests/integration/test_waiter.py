"""Waiting without polling: one connection a process, whatever breaks meanwhile."""

import asyncio
import math
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import streamq
from streamq import Exchange, Queue, ResultTimeout
from streamq.broker import waiter as waiting
from streamq.errors import ConfigError
from tests.interruptions import interrupted_at


@pytest.fixture
def double(app):
    return app.task(name="double")(lambda x: x * 2)


@pytest.fixture
def pool():
    with ThreadPoolExecutor(32) as pool:
        yield pool


@pytest.fixture
def blocked(clients, eventually):
    """``blocked(n)`` waits until so many processes block on their replies."""

    def wait(number=1):
        return eventually(
            lambda: [c for c in clients("streamq:waiting") if "b" in c["flags"]][number - 1 :]
        )

    return wait


def commands(redis):
    """How many commands the server has run, but for those that ask this."""
    stats = redis.info("commandstats")
    return sum(v["calls"] for k, v in stats.items() if k not in ("cmdstat_info",))


def test_a_wait_sends_nothing_until_there_is_news(double, pool, blocked, redis, drain, app):
    result = double.enqueue(4)
    waited = pool.submit(result.get, timeout=20)
    blocked()
    before = commands(redis)

    time.sleep(0.5)

    assert commands(redis) == before
    assert not waited.done()
    drain(app)
    assert waited.result(5) == 8


def test_many_threads_wait_on_one_connection(double, pool, blocked, clients, drain, app):
    results = [double.enqueue(n) for n in range(30)]
    waited = [pool.submit(result.get, timeout=20) for result in results]
    blocked()

    assert len(clients("streamq:waiting")) == 1
    drain(app)

    assert [each.result(5) for each in waited] == [n * 2 for n in range(30)]
    assert len(clients("streamq:waiting")) == 1


def test_several_threads_wait_for_one_task(double, pool, blocked, drain, app):
    result = double.enqueue(4)
    waited = [pool.submit(app.result(result.id).get, timeout=20) for _ in range(5)]
    blocked()

    drain(app)

    assert [each.result(5) for each in waited] == [8] * 5


def test_a_wait_survives_the_loss_of_its_connection(
    double, pool, blocked, clients, redis, drain, app
):
    result = double.enqueue(4)
    waited = pool.submit(result.get, timeout=20)
    (client,) = blocked()

    redis.client_kill_filter(_id=client["id"])
    drain(app)

    assert waited.result(5) == 8


def test_a_wait_survives_the_loss_of_every_connection_again_and_again(
    double, pool, blocked, redis, drain, app
):
    result = double.enqueue(4)
    waited = pool.submit(result.get, timeout=20)
    for _ in range(3):
        (client,) = blocked()
        redis.client_kill_filter(_type="normal", skipme=True)
        assert not waited.done()
    drain(app)

    assert waited.result(5) == 8
    assert client


def test_news_that_were_lost_are_found_in_the_record(double, pool, blocked, redis, drain, app):
    result = double.enqueue(4)
    waited = pool.submit(result.get, timeout=20)
    (client,) = blocked()
    redis.hdel(app.broker.keys.task(result.id), "waiters")
    drain(app)
    assert not waited.done()

    redis.client_kill_filter(_id=client["id"])

    assert waited.result(5) == 8


def test_a_wait_survives_forgotten_scripts(double, pool, blocked, redis, drain, app):
    first = pool.submit(double.enqueue(1).get, timeout=20)
    blocked()
    redis.script_flush()
    second = pool.submit(double.enqueue(2).get, timeout=20)
    drain(app)

    assert (first.result(5), second.result(5)) == (2, 4)


@pytest.mark.parametrize("size", [10, 4000, 5000, 300_000])
def test_values_of_any_size_arrive(app, pool, blocked, drain, size):
    result = app.task(name="t")(lambda: "x" * size).enqueue()
    waited = pool.submit(result.get, timeout=20)
    blocked()

    drain(app)

    assert waited.result(5) == "x" * size


def test_a_failure_arrives(app, pool, blocked, drain):
    result = app.task(name="t")(lambda: 1 / 0).enqueue()
    waited = pool.submit(result.get, timeout=20)
    blocked()

    drain(app)

    with pytest.raises(ZeroDivisionError):
        waited.result(5)


def test_one_may_wait_before_the_task_is_sent(app, double, pool, blocked, drain):
    waited = pool.submit(app.result("order-1").get, timeout=20)
    blocked()

    double.options(task_id="order-1").enqueue(4)
    drain(app)

    assert waited.result(5) == 8


def test_forgetting_ends_a_wait(double, pool, blocked):
    result = double.enqueue(4)
    waited = pool.submit(result.get, timeout=20)
    blocked()

    result.forget()

    with pytest.raises(ResultTimeout, match="no such task is known"):
        waited.result(5)


def test_a_record_that_vanishes_ends_the_wait(double, pool, blocked, redis, app):
    result = double.enqueue(4)
    waited = pool.submit(result.get, timeout=10)
    (client,) = blocked()

    redis.delete(app.broker.keys.task(result.id))
    redis.client_kill_filter(_id=client["id"])

    with pytest.raises(ResultTimeout, match="no such task is known"):
        waited.result(5)


def test_an_unknown_id_is_not_waited_for_for_ever(app, monkeypatch):
    monkeypatch.setattr(waiting, "RECHECK", 0.2)
    monkeypatch.setattr(waiting, "LONGEST_BLOCK", 0.1)

    with pytest.raises(ResultTimeout, match="no such task is known"):
        app.result("nobody-sent-this").get()


@pytest.mark.parametrize("timeout", [math.nan, math.inf, -math.inf, "soon", True])
def test_a_wait_that_is_no_number_of_seconds_is_refused(app, double, timeout):
    result = double.enqueue(1)

    with pytest.raises(ConfigError, match="timeout is not a duration"):
        result.get(timeout)
    with pytest.raises(ConfigError, match="timeout is not a duration"):
        asyncio.run(result.aget(timeout))
    with pytest.raises(ConfigError, match="timeout is not a duration"):
        next(streamq.as_completed([result], timeout))


def test_who_waits_in_vain_for_a_task_that_is_for_later_is_told_where_to_see_it(double):
    result = double.options(countdown="1h").enqueue(1)

    with pytest.raises(ResultTimeout, match=rf"when is it due\?  streamq result {result.id}"):
        result.get("10ms")


def test_an_end_that_is_not_heard_is_found_when_the_time_is_over(
    app, double, pool, drain, eventually, monkeypatch
):
    waits = app.broker.results.waiter
    monkeypatch.setattr(waits, "listen", time.sleep)  # as with a server that takes no more clients
    waited = pool.submit(double.enqueue(4).get, timeout=0.8)
    eventually(lambda: waits.waiting)

    drain(app)

    assert waited.result(5) == 8


def test_an_end_that_is_not_heard_is_found_under_asyncio_too(app, double, drain, monkeypatch):
    async def listen():
        await asyncio.sleep(0.1)

    async def main():
        monkeypatch.setattr(app.broker.results.asyncio, "listen", listen)
        result = await double.aenqueue(4)
        waited = asyncio.create_task(result.aget(timeout=0.8))
        while not app.broker.results.asyncio.waiting:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(drain, app)
        try:
            return await waited
        finally:
            await app.aclose()

    assert asyncio.run(main()) == 8


def test_a_timeout_leaves_nothing_behind(app, double):
    result = double.enqueue(4)

    with pytest.raises(ResultTimeout):
        result.get(timeout=0.02)

    assert app.broker.results.waiter.waiting == {}


def test_a_timeout_of_one_does_not_end_the_wait_of_another(double, pool, blocked, drain, app):
    patient = pool.submit(double.enqueue(1).get, timeout=20)
    blocked()
    hasty = pool.submit(double.enqueue(2).get, timeout=0.05)

    with pytest.raises(ResultTimeout):
        hasty.result(5)
    drain(app)

    assert patient.result(5) == 2


def test_who_leads_hands_over_when_it_has_its_answer(app, double, pool, blocked, drain):
    other = app.task(name="other", queue="later")(lambda: "other")
    first = pool.submit(double.enqueue(1).get, timeout=20)
    blocked()
    second = pool.submit(other.enqueue().get, timeout=20)

    drain(app)

    assert first.result(5) == 2
    assert second.result(5) == "other"


def test_several_processes_wait_for_one_task(make_app, double, app, blocked, pool, drain):
    result = double.enqueue(4)
    waited = [
        pool.submit(make_app().result(result.id).get, timeout=20),
        pool.submit(result.get, timeout=20),
    ]
    blocked(2)

    drain(app)

    assert [each.result(5) for each in waited] == [8, 8]


def test_parent_and_child_both_wait_after_a_fork(app, double, pool, clients, eventually, working):
    results = [double.enqueue(n) for n in range(10)]

    def wait_in_vain():
        with pytest.raises(ResultTimeout):
            results[0].get(timeout=0.05)
        return clients("streamq:waiting")

    eventually(wait_in_vain, "there is a connection that a child could share")
    pid = os.fork()
    if not pid:
        code = 1
        try:
            if [result.get(timeout=10) for result in results] == [n * 2 for n in range(10)]:
                code = 0
        finally:
            os._exit(code)
    waited = [pool.submit(result.get, timeout=10) for result in results]
    eventually(lambda: len(clients("streamq:waiting")) == 2, "each has its own", seconds=8)

    with working(app):
        assert [each.result(10) for each in waited] == [n * 2 for n in range(10)]

    assert os.waitpid(pid, 0)[1] == 0


def test_nobody_pays_for_waiting_but_who_waits(app, double, drain, redis):
    results = [double.enqueue(n) for n in range(10)]
    drain(app)
    assert [result.get(timeout=5) for result in results] == [n * 2 for n in range(10)]

    assert redis.keys(app.broker.keys.reply("*")) == []


def test_what_waiting_leaves_in_redis_expires(double, pool, blocked, drain, app, redis):
    waited = pool.submit(double.enqueue(4).get, timeout=20)
    blocked()
    drain(app)
    waited.result(5)

    (reply,) = redis.keys(app.broker.keys.reply("*"))
    assert 0 < redis.pttl(reply) <= 600_000


# as_completed


def test_results_come_as_they_end(app, pool, blocked, working):
    quick = app.task(name="quick")(lambda: "quick")
    results = [quick.options(task_id=f"q{n}").s() for n in range(3)]
    order = pool.submit(
        lambda: [r.id for r in streamq.as_completed(map(app.result, ["q2", "q1", "q0"]), 20)]
    )
    blocked()

    with working(app):
        for signature in results:
            app.enqueue(signature).get(timeout=5)

    assert order.result(5) == ["q0", "q1", "q2"]


def test_what_has_ended_and_what_is_ignored_comes_at_once(app, double, drain):
    results = [double.enqueue(n) for n in range(5)]
    ignored = double.options(ignore_result=True).enqueue(1)
    drain(app)

    assert set(streamq.as_completed([*results, ignored], timeout=1)) == {*results, ignored}
    assert list(streamq.as_completed([])) == []


def test_a_result_that_was_given_twice_comes_once(double, drain, app):
    result = double.enqueue(1)
    drain(app)

    assert list(streamq.as_completed([result, result], timeout=1)) == [result]


def test_copies_come_when_all_have_ended(app, drain):
    exchange = Exchange("ex", type="fanout")
    app.queues = [Queue("one", exchange), Queue("two", exchange)]
    app.declare()
    result = app.task(name="t", exchange="ex")(lambda: 1).enqueue()
    drain(app)

    assert list(streamq.as_completed([result], timeout=1)) == [result]


def test_copies_of_a_result_from_elsewhere_come_too(app, drain, make_app):
    exchange = Exchange("ex", type="fanout")
    app.queues = [Queue("one", exchange), Queue("two", exchange)]
    app.declare()
    sent = app.task(name="t", exchange="ex")(lambda: 1).enqueue()
    drain(app)
    result = make_app().result(sent.id)

    assert list(streamq.as_completed([result], timeout=1)) == [result]
    assert result.ready()


def test_a_call_to_several_queues_comes_when_its_last_copy_has_ended(app, pool, drain, blocked):
    exchange = Exchange("ex", type="fanout")
    app.queues = [Queue("one", exchange), Queue("two", exchange)]
    app.declare()
    sent = app.task(name="t", exchange="ex")(lambda: 1).enqueue()

    with pytest.raises(ResultTimeout, match="1 of the results"):
        list(streamq.as_completed([app.result(sent.id)], timeout=0.2))
    result = app.result(sent.id)
    came = pool.submit(lambda: list(streamq.as_completed([result, *sent.copies.values()], 20)))
    blocked()
    drain(app)

    assert set(came.result(5)) == {result, *sent.copies.values()}
    assert result.successful()
    assert app.broker.results.waiter.waiting == {}


def test_results_of_several_apps_come_as_they_end(make_app, working):
    here, there = make_app(), make_app(namespace=f"{make_app().conf.namespace}-b")
    for app in (here, there):
        app.task(name="quick")(lambda: "quick")
    first, second = here.enqueue("quick"), there.enqueue("quick")
    coming = streamq.as_completed([first, second], timeout=20)

    with working(there):
        assert next(coming) == second
    with working(here):
        assert next(coming) == first
    assert list(coming) == []


def test_a_timeout_counts_the_missing_results_of_all_apps(make_app):
    apps = (make_app(), make_app(namespace=f"{make_app().conf.namespace}-b"))
    late = [app.enqueue("never") for app in apps]

    with pytest.raises(ResultTimeout, match="2 of the results"):
        list(streamq.as_completed(late, timeout=0.3))


def test_a_failed_result_comes_too(app, drain):
    result = app.task(name="t")(lambda: 1 / 0).enqueue()
    drain(app)

    assert [each.failed() for each in streamq.as_completed([result], timeout=1)] == [True]


def test_a_timeout_says_how_many_are_missing(double, drain, app):
    done = double.enqueue(1)
    drain(app)
    late = [double.enqueue(n) for n in range(3)]
    came = []

    with pytest.raises(ResultTimeout, match=r"3 of the results did not come within 0\.5 s"):
        came.extend(streamq.as_completed([done, *late], timeout=0.5))

    assert app.broker.results.waiter.waiting == {}


@pytest.mark.parametrize("somebody_leads", [False, True], ids=["leading", "sleeping"])
def test_who_is_interrupted_anywhere_neither_leads_nor_sleeps_any_more(app, somebody_leads):
    waits = app.broker.results.waiter
    for step in range(1000):
        wait = waits.begin([f"x{step}"])
        leader = waits.leader = waiting.PendingResult() if somebody_leads else None

        def get(wait=wait):
            waits.next(wait, time.monotonic() + 0.02)

        came = interrupted_at(step, waiting, get)
        waits.end(wait)

        assert (waits.leader, waits.sleepers) == (leader, set()), step
        if not came:
            break
    assert step > 10
