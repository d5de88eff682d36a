"""Sending and waiting from asyncio, on the same scripts and decisions."""

import asyncio
import threading
import warnings

import pytest

import streamq
from streamq import Exchange, Queue, as_completed
from streamq.broker import aio
from streamq.errors import BrokerUnavailable, QueueFull, ResultTimeout, Unroutable


@pytest.fixture
def double(app):
    return app.task(name="double")(lambda x: x * 2)


def run(app, main):
    """Run a coroutine in an event loop of its own, and close what it opened."""

    async def tidy():
        try:
            return await main
        finally:
            await app.aclose()

    return asyncio.run(tidy())


def test_a_call_is_sent_run_and_awaited(app, double, working):
    async def main():
        result = await double.aenqueue(4)
        return await result.aget(timeout=5)

    with working(app):
        assert run(app, main()) == 8


def test_every_spelling_sends_the_same_call(app, double, streams):
    async def main():
        await double.aenqueue(1)
        await double.options(queue="default").aenqueue(1)
        await app.aenqueue(double, 1)
        await app.aenqueue("double", 1)
        await app.aenqueue(double.s(1))
        await streamq.aenqueue(double, 1)
        await streamq.aenqueue(double.options(queue="default"), 1)
        await streamq.aenqueue(double.s(), 1)

    run(app, main())

    assert streams(app) == {"default": 8}


def test_two_event_loops_one_after_the_other(app, double, working):
    async def main(n):
        return await (await double.aenqueue(n)).aget(timeout=5)

    with working(app):
        assert [run(app, main(n)) for n in range(3)] == [0, 2, 4]


def test_event_loops_in_threads_do_not_disturb_each_other(app, double, working, clients):
    async def one(n):
        return await (await double.aenqueue(n)).aget(timeout=10)

    async def main():
        return await asyncio.gather(*(one(n) for n in range(50)))

    def in_a_thread():
        for _ in range(3):  # one loop after the other, beside those of the other threads
            values.append(run(app, asyncio.wait_for(main(), 20)))

    values = []
    threads = [threading.Thread(target=in_a_thread, daemon=True) for _ in range(3)]
    with working(app):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

    assert values == [[n * 2 for n in range(50)]] * 9
    assert clients("streamq:asyncio") == []
    assert len(app.broker.loops.of) <= 4, "closed loops are forgotten"


def test_many_calls_at_once_share_few_connections(app, double, working, clients):
    async def one(n):
        return await (await double.aenqueue(n)).aget(timeout=10)

    async def main():
        values = await asyncio.gather(*(one(n) for n in range(200)))
        return values, len(clients("streamq:asyncio"))

    with working(app):
        values, connections = run(app, main())

    assert values == [n * 2 for n in range(200)]
    assert 1 <= connections <= 6


def test_several_await_one_task(app, double, working):
    async def main():
        result = await double.aenqueue(4)
        return await asyncio.gather(*(app.result(result.id).aget(timeout=5) for _ in range(5)))

    with working(app):
        assert run(app, main()) == [8] * 5


def test_a_failure_is_raised(app, working):
    fail = app.task(name="t")(lambda: {}["k"])

    async def main():
        await (await fail.aenqueue()).aget(timeout=5)

    with working(app), pytest.raises(KeyError):
        run(app, main())


def test_big_values_arrive(app, working):
    big = app.task(name="t")(lambda: "x" * 100_000)

    async def main():
        return await (await big.aenqueue()).aget(timeout=5)

    with working(app):
        assert run(app, main()) == "x" * 100_000


def test_a_message_for_several_queues_gives_a_value_for_each(app, working):
    exchange = Exchange("ex", type="fanout")
    app.queues = [Queue("one", exchange), Queue("two", exchange)]
    send = app.task(name="t", exchange="ex")(lambda: streamq.current_task().request.queue)

    async def main():
        result = await send.aenqueue()
        return await result.aget(timeout=5), await app.result(result.id).aget(timeout=5)

    with working(app):
        assert run(app, main()) == ({"one": "one", "two": "two"},) * 2


def test_missing_topology_is_declared(app, double, streams):
    app.queues = [Queue("demo", Exchange("ex"), routing_key="k")]

    async def main():
        await double.options(exchange="ex", routing_key="k").aenqueue(1)
        await double.options(queue="new").aenqueue(1)

    run(app, main())

    assert streams(app) == {"demo": 1, "new": 1}


def test_refusals_are_the_same(app, double, streams):
    app.queues = [Queue("small", max_length=1)]

    async def main():
        with pytest.raises(Unroutable):
            await double.options(exchange="nowhere").aenqueue(1)
        with pytest.raises(TypeError, match="before sending"):
            await double.aenqueue(1, 2)
        await double.aenqueue(1)
        with pytest.raises(QueueFull):
            await double.aenqueue(2)

    run(app, main())

    assert streams(app) == {"small": 1}


def test_the_same_id_is_accepted_once(app, double, streams):
    async def main():
        call = double.options(task_id="order-1")
        await asyncio.gather(*(call.aenqueue(1) for _ in range(10)))

    run(app, main())

    assert streams(app) == {"default": 1}


def test_a_timeout_says_where_the_task_is(app, double):
    async def main():
        await (await double.aenqueue(1)).aget(timeout=0.05)

    with pytest.raises(ResultTimeout, match="no worker reads default"):
        run(app, main())


def test_forgetting_ends_a_wait(app, double, eventually):
    async def main():
        result = await double.aenqueue(1)
        waits = asyncio.create_task(result.aget(timeout=20))
        record = app.broker.keys.task(result.id)
        while not await app.broker.asyncio.client.ask("HGET", record, "waiters"):
            await asyncio.sleep(0.01)
        await asyncio.to_thread(result.forget)
        await asyncio.wait_for(waits, 5)

    with pytest.raises(ResultTimeout, match="no such task is known"):
        run(app, main())


def test_an_unknown_id_is_not_waited_for_for_ever(app, monkeypatch):
    monkeypatch.setattr(aio, "RECHECK", 0.2)
    monkeypatch.setattr(aio, "LONGEST_BLOCK", 0.1)

    async def main():
        await asyncio.wait_for(app.result("nobody-sent-this").aget(), 5)

    with pytest.raises(ResultTimeout, match="no such task is known"):
        run(app, main())


def test_a_wait_survives_the_loss_of_its_connections(
    app, double, drain, redis, clients, eventually
):
    async def main():
        result = await double.aenqueue(4)
        waits = asyncio.create_task(result.aget(timeout=20))
        while not any("b" in c["flags"] for c in clients("streamq:asyncio")):
            await asyncio.sleep(0.01)
        redis.client_kill_filter(_type="normal", skipme=True)
        await asyncio.to_thread(drain, app)
        return await asyncio.wait_for(waits, 8)

    assert run(app, main()) == 8


def test_sending_survives_the_loss_of_its_connections(app, double, redis, streams):
    async def main():
        await double.aenqueue(1)
        redis.client_kill_filter(_type="normal", skipme=True)
        redis.script_flush()
        await double.aenqueue(2)

    run(app, main())

    assert streams(app) == {"default": 2}


def test_a_redis_that_is_not_there_is_an_error_soon(make_app):
    app = make_app(url="redis://localhost:1")

    async def main():
        await app.aenqueue("double", 1)

    with pytest.raises(BrokerUnavailable, match="cannot reach Redis at redis://localhost:1"):
        run(app, main())


def test_an_ignored_result_is_none_at_once(app):
    task = app.task(name="t", ignore_result=True)(lambda: 5)

    async def main():
        return await (await task.aenqueue()).aget(timeout=0)

    assert run(app, main()) is None


def test_waiting_inside_a_task_is_refused_here_too(app, drain):
    waits = app.task(name="waits")(lambda: asyncio.run(app.result("any").aget(timeout=1)))
    result = waits.enqueue()
    drain(app)

    with pytest.raises(RuntimeError, match="inside a task"):
        result.get(timeout=1)


def test_a_wait_that_stops_the_event_loop_warns_once_and_one_elsewhere_does_not(app, double, drain):
    async def main():
        results = [double.enqueue(n) for n in range(4)]
        await asyncio.to_thread(drain, app)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("default")
            for result in results[:2]:
                result.get(timeout=5)
            results[0].get()  # it is known by now
            await asyncio.to_thread(results[2].get, 5)
            assert len(list(as_completed(results, timeout=5))) == 4
        return said

    said = run(app, main())

    assert [each.category for each in said] == [RuntimeWarning] * 2
    assert [each.filename for each in said] == [__file__] * 2
    assert "await result.aget(timeout=…)" in str(said[0].message)
    assert "as_completed()" in str(said[1].message)
