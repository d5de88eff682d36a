"""What each error of Redis does to a producer: waited for, said at once, or said to be unknown."""

import asyncio
import threading
import time

import pytest

from streamq import Exchange, Queue
from streamq.broker.publish_retry import PublishRetry
from streamq.errors import (
    BrokerFull,
    BrokerUnavailable,
    ConfigError,
    PartlyPublished,
    PublishUnknown,
)
from streamq.transport.replies import Denied, Failover, Transient, WritesRefused, meaning
from tests.faults import (
    BUSY,
    CLIENTS,
    CLUSTERDOWN,
    LOADING,
    MASTERDOWN,
    MISCONF,
    MOVED,
    NOAUTH,
    NOPERM,
    NOREPLICAS,
    NOSCRIPT,
    OOM,
    READONLY,
    UNBLOCKED,
    WRONGPASS,
    WRONGTYPE,
    code_of,
    known,
)
from tests.proxy import calls_of

PUBLISHING = calls_of("publish", "publish_plain")

WAITED_FOR = [LOADING, BUSY, READONLY, MASTERDOWN, UNBLOCKED, CLUSTERDOWN, MOVED, NOSCRIPT, CLIENTS]
ODD = "ERR something that nobody has heard of"
FULL = "QUEUEFULL 0 default 1"
STALE = "STALE 1 2"
SAID_AT_ONCE = {
    MISCONF: WritesRefused,
    NOREPLICAS: WritesRefused,
    OOM: BrokerFull,
    NOAUTH: Denied,
    WRONGPASS: Denied,
    NOPERM: Denied,
    WRONGTYPE: ConfigError,
}


def short_way(app, call):
    return app.enqueue(call)


def long_way(app, call):
    return app.enqueue(app.signature(call.name, priority=1))


def many(app, call):
    return app.enqueue_many([call])[0]


def from_asyncio(app, call):
    async def main():
        try:
            return await app.aenqueue(call)
        finally:
            await app.aclose()

    return asyncio.run(main())


@pytest.fixture(params=[short_way, long_way, many, from_asyncio], ids=lambda way: way.__name__)
def publish(request, app):
    """One way to send a call of a task; what went wrong, however it was wrapped."""

    def send():
        try:
            return request.param(app, app.signature("any.task"))
        except Exception as error:
            raise (error.__cause__ if request.param is many else error) from None

    return send


@pytest.fixture
def app(make_app, proxy):
    app = make_app(url=proxy.url, publish_timeout="3s")
    app.enqueue("warm.up")
    app.enqueue(app.signature("warm.up", priority=1))
    return app


@pytest.fixture
def sent(app, streams):
    return lambda: streams(app).get("default", 0) - 2


@pytest.mark.parametrize("error", WAITED_FOR, ids=code_of)
def test_an_error_that_passes_is_waited_for(publish, proxy, sent, error):
    rule = proxy.answer(error, PUBLISHING, times=3)

    publish()

    assert rule.hits == 3
    assert sent() == 1


@pytest.mark.parametrize(("error", "kind"), SAID_AT_ONCE.items(), ids=code_of)
def test_an_error_that_stays_is_said_at_once(publish, proxy, sent, error, kind):
    rule = proxy.answer(error, PUBLISHING, times=None)
    began = time.monotonic()

    with pytest.raises(kind) as said:
        publish()

    assert time.monotonic() - began < 1
    assert rule.hits == 1
    assert "  → " in str(said.value)
    assert not isinstance(said.value, PublishUnknown)
    proxy.heal()
    assert sent() == 0
    publish()
    assert sent() == 1


@pytest.mark.parametrize("error", [MISCONF, NOREPLICAS, OOM], ids=code_of)
def test_who_is_refused_is_told_that_nothing_was_written(publish, proxy, error):
    proxy.answer(error, PUBLISHING)

    with pytest.raises(BrokerUnavailable, match="nothing was written"):
        publish()


@pytest.mark.parametrize("error", [READONLY, LOADING, MOVED, BUSY], ids=code_of)
def test_an_error_that_does_not_pass_in_time_says_that_nothing_was_done(
    make_app, proxy, streams, error
):
    app = make_app(url=proxy.url, publish_timeout="300ms")
    app.enqueue("warm.up")
    proxy.answer(error, PUBLISHING, times=None)

    with pytest.raises(Transient, match="did nothing") as said:
        app.enqueue("any.task")

    assert not isinstance(said.value, PublishUnknown)
    assert streams(app) == {"default": 1}


@pytest.mark.parametrize(
    "error",
    [MISCONF, NOREPLICAS, OOM, NOAUTH, NOPERM, READONLY, WRONGTYPE, ODD, FULL],
    ids=code_of,
)
def test_after_a_lost_answer_no_refusal_says_that_nothing_was_written(
    publish, app, proxy, sent, error
):
    app.conf.publish_timeout = 0.3
    lost = proxy.drop_reply(PUBLISHING)
    proxy.answer(error, PUBLISHING, times=None)

    with pytest.raises(PublishUnknown, match="the same task_id") as said:
        publish()

    assert lost.hits == 1
    assert "last error" in str(said.value)
    assert sent() == 1


def test_after_a_lost_answer_the_records_show_what_the_channel_has_lost(publish, proxy, sent):
    """Another process, or a copy of this machine, has published on our channel meanwhile."""
    proxy.drop_reply(PUBLISHING)
    refused = proxy.answer(STALE, PUBLISHING)

    publish()

    assert refused.hits == 1
    assert sent() == 1


def test_without_records_it_is_said_that_nobody_can_tell(app, proxy, sent):
    proxy.drop_reply(PUBLISHING)
    proxy.answer(STALE, PUBLISHING)

    with pytest.raises(PublishUnknown, match="the same task_id"):
        app.enqueue(app.signature("any.task", ignore_result=True))

    assert sent() == 1


@pytest.mark.parametrize("error", [MISCONF, NOREPLICAS, OOM], ids=code_of)
def test_after_a_lost_answer_a_redis_that_takes_no_writes_is_asked_again(
    publish, proxy, sent, error
):
    """It may take some before the deadline, and then it tells what became of the first try."""
    proxy.drop_reply(PUBLISHING)
    refused = proxy.answer(error, PUBLISHING, times=2)

    publish()

    assert refused.hits == 2
    assert sent() == 1


def test_of_many_those_are_named_of_which_nothing_is_known(app, proxy, streams):
    app.conf.publish_timeout = 0.3
    first = proxy.drop_reply(PUBLISHING)
    calls = [app.signature("any.task", (number,)) for number in range(1200)]

    def cut():
        for number, call in enumerate(calls):
            if number == 500:
                first.wait()
                proxy.answer(OOM, PUBLISHING, times=None)
            yield call

    with pytest.raises(PartlyPublished, match="the first 500 of these") as said:
        app.enqueue_many(cut())

    assert (len(said.value.accepted), said.value.remaining) == (0, calls)
    assert said.value.unknown == calls[:500]
    assert streams(app) == {"default": 502}


def test_of_many_that_were_refused_none_is_in_doubt(app, proxy, streams):
    proxy.answer(OOM, PUBLISHING, times=None)

    with pytest.raises(PartlyPublished) as said:
        app.enqueue_many(app.signature("any.task") for _ in range(10))

    assert (len(said.value.remaining), said.value.unknown) == (10, [])
    assert streams(app) == {"default": 2}


def test_the_next_try_after_a_failover_is_made_on_a_new_connection(app, proxy, clients):
    before = {client["id"] for client in clients("streamq:producer")}
    proxy.answer(READONLY, PUBLISHING)

    app.enqueue("any.task")

    assert not before & {client["id"] for client in clients("streamq:producer")}


def test_asyncio_connects_anew_after_a_failover_as_well(app, proxy, clients):
    async def main():
        await app.aenqueue("any.task")
        before = {client["id"] for client in clients("streamq:asyncio")}
        rule = proxy.answer(READONLY, PUBLISHING)
        await app.aenqueue("any.task")
        after = {client["id"] for client in clients("streamq:asyncio")}
        await app.aclose()
        return before, after, rule.hits

    before, after, hits = asyncio.run(main())

    assert before
    assert not before & after
    assert hits == 1


def test_a_server_that_loads_when_the_first_connection_is_made_is_waited_for(
    make_app, proxy, streams
):
    """A connection that is refused for that is not one that was never there."""
    app = make_app(url=proxy.url, publish_timeout="10s")
    loading = proxy.answer(LOADING, "CLIENT", times=None)
    later = threading.Timer(2.0, loading.end)
    later.start()

    app.enqueue("any.task")

    later.join()

    assert streams(app) == {"default": 1}


def test_a_server_that_takes_no_more_clients_is_waited_for(make_app, redis, server_url, streams):
    app = make_app(publish_timeout="10s")
    redis.ping()
    before = redis.config_get("maxclients")["maxclients"]
    redis.config_set("maxclients", len(redis.client_list()))

    def more():
        redis.config_set("maxclients", before)

    later = threading.Timer(0.4, more)
    began = time.monotonic()
    later.start()
    app.enqueue("any.task")
    took = time.monotonic() - began
    later.join()

    assert took >= 0.4
    assert streams(app) == {"default": 1}


def test_a_server_without_enough_replicas_refuses_at_once(make_app, redis, streams):
    """The real thing, for the error that the proxy makes up elsewhere."""
    app = make_app()
    app.enqueue("warm.up")
    redis.config_set("min-replicas-to-write", 1)
    try:
        for call in ("any.task", app.signature("any.task", priority=1)):
            with pytest.raises(WritesRefused, match=r"nothing was written[\s\S]*replicas"):
                app.enqueue(call)
    finally:
        redis.config_set("min-replicas-to-write", 0)

    assert streams(app) == {"default": 1}


def test_a_user_who_may_not_run_scripts_is_told_so(make_app, redis, server_url):
    redis.acl_setuser("shop", enabled=True, passwords=["+pw"], keys="*", commands=["+ping"])
    try:
        app = make_app(url=server_url.replace("unix://", "unix://shop:pw@"))
        with pytest.raises(Denied, match="NOPERM"):
            app.enqueue("any.task")
        redis.acl_setuser("shop", commands=["+evalsha", "+script", "-xadd", "+get", "+set"])
        with pytest.raises(Denied, match="ACL"):
            app.enqueue("any.task")
        app.close()
    finally:
        redis.acl_deluser("shop")


@pytest.mark.parametrize("way", [short_way, long_way], ids=lambda way: way.__name__)
def test_a_key_that_is_not_ours_is_named_as_the_reason(make_app, redis, way):
    app = make_app()
    app.enqueue("warm.up")
    redis.delete(app.broker.keys.queue("default"))
    redis.set(app.broker.keys.queue("default"), "something else")

    with pytest.raises(ConfigError, match=r"not streamq's[\s\S]*WRONGTYPE"):
        way(app, app.signature("any.task"))


# the decisions, without a server


@pytest.mark.parametrize("error", [MISCONF, NOREPLICAS], ids=code_of)
def test_what_needs_somebodys_help_is_not_tried_again(error):
    with pytest.raises(WritesRefused):
        PublishRetry(100, known(), now=0).pause(meaning(error), 0)


def test_a_failover_is_tried_again_until_the_deadline():
    attempt = PublishRetry(100, known(), now=0)

    assert attempt.pause(meaning(READONLY), 50)
    with pytest.raises(Failover, match="let the URL name the master") as failed:
        attempt.pause(meaning(READONLY), 101)
    assert failed.value.__notes__ == ["  tried 2 times in 101.0 s"]


# A message for several queues


@pytest.fixture
def fan(make_app, proxy):
    app = make_app(url=proxy.url)
    app.queues = [Queue(name, Exchange("news", type="fanout")) for name in ("a", "b", "c")]
    app.declare()
    app.enqueue(app.signature("any.task", exchange="news"))
    return app


def test_three_lost_answers_leave_one_entry_in_each_queue(fan, proxy, streams):
    lost = proxy.drop_reply(PUBLISHING, times=3)

    result = fan.enqueue(fan.signature("any.task", exchange="news"))

    assert lost.hits == 3
    assert streams(fan) == {"a": 2, "b": 2, "c": 2}
    assert set(result.copies) == {"a", "b", "c"}


def test_memory_that_ends_within_a_fan_out_ends_it_for_all_or_none(fan, redis, streams):
    """The server looks at its memory before the first write of a script, and not again."""
    before = streams(fan)
    signature = fan.signature("any.task", ("x" * 500_000,), exchange="news")
    room, outcomes = 0, set()
    try:
        while outcomes != {True, False}:
            redis.config_set("maxmemory", redis.info("memory")["used_memory"] + room)
            room += 100_000
            assert room < 100_000_000
            try:
                fan.enqueue(signature)
            except BrokerFull:
                outcomes.add(False)
                assert streams(fan) == before
            else:
                outcomes.add(True)
                assert streams(fan) == {name: count + 1 for name, count in before.items()}
    finally:
        redis.config_set("maxmemory", 0)
