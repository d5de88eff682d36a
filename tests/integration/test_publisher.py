"""Accepted once: what happens when an answer, or Redis itself, is lost on the way."""

import asyncio
import socket
import sys
import threading
import time
from contextlib import contextmanager
from typing import Any

import pytest

from streamq import Queue
from streamq.broker import publish_retry as attempts
from streamq.broker.publish_retry import Disconnected, FirstContact, PublishRetry, Transient
from streamq.errors import BrokerFull, BrokerUnavailable, PublishUnknown, Unroutable
from streamq.transport.address import NoMaster
from streamq.transport.connection import Connection
from tests.faults import known


@pytest.fixture
def app(make_app, proxy):
    """An app behind the proxy, whose scripts are loaded."""
    app = make_app(url=proxy.url, publish_timeout="5s")
    app.enqueue("warm.up")
    app.enqueue(app.signature("warm.up", priority=1))
    return app


@pytest.fixture
def sent(redis, streams, app):
    """How many messages wait, without those that warmed up."""
    return lambda: streams(app).get("default", 0) - 2


def test_a_lost_answer_does_not_send_a_message_twice(app, proxy, sent):
    lost = proxy.drop_reply("EVALSHA")

    result = app.enqueue("any.task")

    assert lost.hits == 1
    assert sent() == 1
    assert result.state == "QUEUED"


def test_the_longer_way_of_publishing_is_as_safe(app, proxy, sent):
    lost = proxy.drop_reply("EVALSHA", times=2)

    app.enqueue(app.signature("any.task", priority=3))

    assert lost.hits == 2
    assert sent() == 1


def test_without_the_channel_it_would_have_been_sent_twice(app, proxy, sent):
    """The control of the two before: the channel recognises the repetition."""
    channel = app.broker.publisher.channels.borrow()
    channel.name = ""
    app.broker.publisher.channels.give_back(channel)
    lost = proxy.drop_reply("EVALSHA")

    app.enqueue(app.signature("any.task", priority=3))

    assert lost.hits == 1
    assert sent() == 2


def test_a_lost_answer_to_a_chunk_does_not_send_it_twice(app, proxy, sent):
    signatures = [app.signature("any.task", (n,)) for n in range(1200)]
    lost = proxy.drop_reply("EVALSHA", times=2)

    results = app.enqueue_many(signatures)

    assert lost.hits == 2
    assert len(results) == sent() == 1200


def test_asyncio_does_not_send_twice_either(app, proxy, sent):
    async def main():
        await app.aenqueue("any.task")
        lost = proxy.drop_reply("EVALSHA")
        try:
            await app.aenqueue("any.task")
        finally:
            await app.aclose()
        return lost

    lost = asyncio.run(main())

    assert lost.hits == 1
    assert sent() == 2


def test_the_next_message_is_not_taken_for_the_one_before(app, proxy, sent):
    for _ in range(5):
        proxy.drop_reply("EVALSHA")
        app.enqueue("any.task")
        app.enqueue("any.task")

    assert sent() == 10


def test_where_no_answer_ever_comes_the_outcome_is_said_to_be_unknown(make_app, proxy, streams):
    app = make_app(url=proxy.url, publish_timeout="300ms")
    call = app.signature("any.task", task_id="order-1")
    app.enqueue("warm.up")
    app.enqueue(app.signature("warm.up", priority=1))
    proxy.drop_reply("EVALSHA", times=None)

    with pytest.raises(PublishUnknown, match="the same task_id") as unknown:
        app.enqueue(call)
    proxy.heal()
    app.enqueue(call)

    assert isinstance(unknown.value, ConnectionError)
    assert streams(app) == {"default": 3}


def test_a_redis_that_was_never_there_is_an_error_soon(make_app):
    began = time.monotonic()

    with pytest.raises(BrokerUnavailable, match="cannot reach Redis") as lost:
        make_app(url="redis://localhost:1").enqueue("any.task")

    assert time.monotonic() - began < 5
    assert not isinstance(lost.value, PublishUnknown)


def test_a_redis_that_goes_for_a_moment_is_waited_for(app, proxy, sent):
    proxy.stop()
    back = threading.Timer(0.3, proxy.start)
    back.start()

    app.enqueue("any.task")

    back.join()
    assert sent() == 1


def on_another_channel(app):
    channels = app.broker.publisher.channels
    busy = channels.borrow()
    try:
        app.enqueue("any.task")
    finally:
        channels.give_back(busy)


def from_asyncio(app):
    async def main():
        try:
            await app.aenqueue("any.task")
        finally:
            await app.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("send", [on_another_channel, from_asyncio], ids=lambda send: send.__name__)
def test_who_has_reached_redis_once_is_patient_in_every_way(app, proxy, sent, monkeypatch, send):
    monkeypatch.setattr(attempts, "FIRST_CONTACT", 0.0)
    proxy.stop()
    back = threading.Timer(0.3, proxy.start)
    back.start()

    send(app)

    back.join()
    assert sent() == 1


@pytest.mark.skipif(
    not hasattr(socket.socket, "hub"), reason="gevent has patched nothing: see `make test-green`"
)
def test_gevents_own_threads_send_and_wait_beside_its_greenlets(app, sent):
    """What one of them has opened waits in a loop that the others do not have."""
    gevent: Any = sys.modules["gevent"]
    app.enqueue("any.task")
    threads = [gevent.get_hub().threadpool.spawn(app.enqueue, "any.task") for _ in range(10)]
    greenlets = [gevent.spawn(app.enqueue, "any.task") for _ in range(10)]

    for each in threads + greenlets:
        assert each.get(timeout=5).state == "QUEUED"

    assert sent() == 21


def test_connections_that_were_killed_are_replaced(app, redis, sent):
    redis.client_kill_filter(_type="normal", skipme=True)

    app.enqueue("any.task")
    app.enqueue_many([app.signature("any.task")])

    assert sent() == 2


@contextmanager
def full(redis):
    redis.config_set("maxmemory", 1)
    try:
        yield
    finally:
        redis.config_set("maxmemory", 0)


def test_a_full_redis_refuses_whole(app, redis, sent):
    keys = set(redis.keys())
    with full(redis):
        for act in (
            lambda: app.enqueue("any.task"),
            lambda: app.enqueue(app.signature("any.task", priority=1)),
        ):
            with pytest.raises(BrokerFull, match="out of memory"):
                act()

    assert set(redis.keys()) == keys
    assert sent() == 0
    app.enqueue("any.task")
    assert sent() == 1


# the decisions, without a server


def lost(*, sent, cause=None):
    error = Disconnected("lost")
    error.sent, error.__cause__ = sent, cause
    return error


def test_pauses_grow_up_to_a_bound():
    attempt = PublishRetry(100, known(), now=0)

    pauses = [attempt.pause(lost(sent=False), 0) for _ in range(8)]

    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]


def test_who_never_reached_redis_gives_up_early():
    attempt = PublishRetry(100, FirstContact("redis://h"), now=0)

    assert attempt.pause(lost(sent=False), 0)
    with pytest.raises(Disconnected):
        attempt.pause(lost(sent=False), 2)


@pytest.mark.parametrize(
    ("url", "cause", "patient"),
    [
        ("redis://h", ConnectionRefusedError(), False),
        ("sentinel://h/shop", ConnectionRefusedError(), True),
        ("sentinel://h/shop", NoMaster("nobody knows the service"), False),
    ],
    ids=["no Sentinel", "Sentinels know it", "no Sentinel knows it"],
)
def test_who_hears_of_it_from_a_sentinel_is_patient(url, cause, patient):
    attempt = PublishRetry(100, FirstContact(url), now=0)
    attempt.pause(lost(sent=False, cause=cause), 0)

    if patient:
        assert attempt.pause(lost(sent=False, cause=cause), 50)
    else:
        with pytest.raises(Disconnected):
            attempt.pause(lost(sent=False, cause=cause), 2)


def test_who_reached_it_before_is_patient():
    attempt = PublishRetry(100, known(), now=0)

    assert attempt.pause(lost(sent=False), 50)
    with pytest.raises(Disconnected):
        attempt.pause(lost(sent=False), 101)


def test_a_server_that_answers_it_cannot_is_waited_for():
    attempt = PublishRetry(100, FirstContact("redis://h"), now=0)

    assert attempt.pause(Transient("LOADING"), 50)
    with pytest.raises(Transient):
        attempt.pause(Transient("LOADING"), 101)


def test_once_it_may_have_been_sent_the_outcome_is_unknown():
    attempt = PublishRetry(100, FirstContact("redis://h"), now=0)
    attempt.pause(lost(sent=True), 0)

    with pytest.raises(PublishUnknown):
        attempt.pause(lost(sent=False), 101)


def test_what_trying_again_cannot_help_is_raised_at_once():
    with pytest.raises(BrokerFull):
        PublishRetry(100, known(), now=0).pause(BrokerFull("full"), 0)


def test_a_publish_that_was_interrupted_answers_no_other(app, monkeypatch):
    """Ctrl-C between sending and reading leaves a reply that belongs to nobody."""
    app.broker.topology.declare([Queue("mail")])
    send = app.signature("tasks.send", queue="mail")
    app.enqueue(send)

    class ReadInterrupted(BaseException):
        pass

    def interrupt(*_, **__):
        raise ReadInterrupted

    with monkeypatch.context() as patched:
        patched.setattr(Connection, "read", interrupt)
        with pytest.raises(ReadInterrupted):
            app.enqueue(send)

    with pytest.raises(Unroutable):
        app.enqueue(app.signature("tasks.send", exchange="nowhere", routing_key="x"))
