"""Declaring, binding and deleting from Python, for everybody who uses the server."""

import asyncio
import logging

import pytest

from streamq import Binding, Exchange, Queue
from streamq.broker.topology import BIND, DECLARE_QUEUE
from streamq.errors import ConfigError, Unroutable
from streamq.worker.boot import QueueStreams, declare


@pytest.fixture
def topology(app):
    return app.broker.topology


@pytest.fixture
def send(app):
    """``send(exchange, key, **headers)`` returns the queues that took the message."""

    def publish(exchange, key="", **headers):
        options = {"exchange": exchange, "routing_key": key}
        call = app.signature("any.task", **options, headers=headers or None)
        result = app.enqueue(call)
        return set(result.copies) or {result.record()["queue"].decode()}

    return publish


def test_declaring_twice_is_declaring_once(topology, redis):
    queues = [Queue("demo", Exchange("ex"), routing_key="k")]
    topology.declare(queues)
    before = {key: redis.type(key) for key in redis.scan_iter()}

    topology.declare(queues)

    assert {key: redis.type(key) for key in redis.scan_iter()} == before
    assert topology.queues() == {"demo": {}}
    assert topology.exchanges() == {"ex": "direct"}


def test_an_exchange_keeps_its_type(topology):
    topology.declare_exchange(Exchange("ex", type="topic"))

    with pytest.raises(ConfigError) as refused:
        topology.declare_exchange(Exchange("ex", type="fanout"))

    assert "exchange 'ex' exists with another type" in str(refused.value)
    assert "topic" in str(refused.value)
    assert "fanout" in str(refused.value)


def test_the_newest_limits_count_and_the_change_is_logged(topology, caplog):
    topology.declare([Queue("demo", max_length=5)])

    with caplog.at_level(logging.WARNING, "streamq.topology"):
        topology.declare([Queue("demo", max_length=7)])

    assert topology.queues() == {"demo": {"max_length": 7}}
    assert '{"max_length":5} replaced by {"max_length":7}' in caplog.text


def test_declaring_the_same_limits_is_not_logged(topology, caplog):
    for _ in range(2):
        topology.declare([Queue("demo", max_length=5, max_priority=3)])

    assert caplog.text == ""


def test_the_four_types_route_as_they_should(app, send):
    direct, topic = Exchange("direct"), Exchange("topic", type="topic")
    fanout, headers = Exchange("fanout", type="fanout"), Exchange("headers", type="headers")
    app.queues = [
        Queue("one", direct, routing_key="a", bindings=[Binding(topic, "a.*"), Binding(fanout)]),
        Queue(
            "two",
            direct,
            routing_key="b",
            bindings=[
                Binding(topic, "a.#"),
                Binding(fanout),
                Binding(headers, arguments={"x-match": "any", "kind": 1, "red": True}),
            ],
        ),
    ]
    app.declare()

    assert send("direct", "a") == {"one"}
    assert send("topic", "a.b") == {"one", "two"}
    assert send("topic", "a") == {"two"}
    assert send("fanout", "anything") == {"one", "two"}
    assert send("headers", kind=1, red=False) == {"two"}
    for key, headers in (("1", {"kind": "1"}), ("", {"kind": 1.0}), ("", {})):
        with pytest.raises(Unroutable):
            send("headers", key, **headers)


def test_exchanges_bound_to_exchanges_make_no_double_copies(app, send, streams):
    source = Exchange("source", type="topic")
    left = Exchange("left", type="fanout", bindings=[Binding(source, "a.#")])
    right = Exchange("right", type="fanout", bindings=[Binding(source, "#.b")])
    app.queues = [Queue("demo", bindings=[Binding(left), Binding(right)])]
    app.declare()

    assert send("source", "a.b") == {"demo"}
    assert streams(app) == {"demo": 1}


def test_the_alternate_gets_what_leads_nowhere(app, send):
    other = Exchange("other", type="fanout")
    app.queues = [
        Queue("demo", Exchange("ex", alternate="other"), routing_key="k"),
        Queue("rest", other),
    ]
    app.declare()

    assert send("ex", "k") == {"demo"}
    assert send("ex", "unknown") == {"rest"}


def test_unbinding_ends_a_way(topology, send):
    exchange = Exchange("ex")
    topology.declare([Queue("demo", exchange, routing_key="k")])

    assert topology.unbind(Binding(exchange, "k"), "queue", "demo") is True
    assert topology.unbind(Binding(exchange, "k"), "queue", "demo") is False
    with pytest.raises(Unroutable):
        send("ex", "k")


def test_a_deleted_queue_takes_its_bindings_along(topology, send):
    topology.declare([Queue("demo", Exchange("ex"), routing_key="k")])

    assert topology.delete_queue("demo") is True
    assert topology.delete_queue("demo") is False
    with pytest.raises(Unroutable):
        send("ex", "k")
    topology.declare([Queue("demo")])
    with pytest.raises(Unroutable):
        send("ex", "k")


def test_a_queue_that_holds_messages_is_not_just_deleted(app, topology, streams):
    app.enqueue(app.signature("any.task", queue="demo"))

    with pytest.raises(ConfigError, match="queue 'demo' holds 1 message"):
        topology.delete_queue("demo")

    assert streams(app) == {"demo": 1}


def test_a_deleted_exchange_is_gone(topology, send):
    topology.declare([Queue("demo", Exchange("ex"), routing_key="k")])

    assert topology.delete_exchange("ex") is True
    assert topology.delete_exchange("ex") is False
    with pytest.raises(Unroutable, match="there is no exchange 'ex'"):
        send("ex", "k")
    assert topology.exchanges() == {}


def test_binding_what_is_not_there_is_refused(topology):
    topology.declare([Queue("demo")])

    with pytest.raises(ConfigError, match="no exchange 'nowhere'"):
        topology.bind(Binding("nowhere", "k"), "queue", "demo")
    topology.declare_exchange(Exchange("ex"))
    with pytest.raises(ConfigError, match="no queue 'nowhere'"):
        topology.bind(Binding("ex", "k"), "queue", "nowhere")


def test_nothing_is_bound_to_the_default_exchange(topology):
    topology.declare([Queue("demo")])

    with pytest.raises(ConfigError, match="nothing is bound to the default exchange"):
        topology.bind(Binding("", "k"), "queue", "demo")


def test_arguments_are_for_headers_exchanges_only(topology):
    with pytest.raises(ConfigError, match="has arguments, but that exchange is of type direct"):
        topology.declare([Queue("demo", bindings=[Binding(Exchange("ex"), "k", {"a": 1})])])


def test_a_route_is_explained(topology):
    topology.declare([Queue("demo", Exchange("ex", type="topic"), routing_key="a.#")])

    assert b"demo" in str(topology.explain("ex", "a.b")).encode()
    with pytest.raises(ConfigError, match="there is no exchange 'nowhere'"):
        topology.explain("nowhere", "a")


def test_restoring_keeps_the_settings_that_are_there(topology, redis, app):
    topology.declare([Queue("demo", max_length=5)])
    redis.delete(app.broker.keys.queue("demo"))

    topology.restore("demo", Queue("demo"))
    topology.restore("new", Queue("new", max_length=3))

    assert topology.queues() == {"demo": {"max_length": 5}, "new": {"max_length": 3}}
    assert [group["name"] for group in redis.xinfo_groups(app.broker.keys.queue("demo"))] == [
        "workers"
    ]


@pytest.mark.parametrize("name", ["default", "other"])
def test_settings_that_nobody_can_read_keep_no_worker_from_starting(app, redis, name):
    redis.hset(app.broker.keys.queues, name, "garbage")

    assert declare(app, [Queue("default", max_priority=3)]) == [QueueStreams("default", 3)]

    others = {"other": {"unreadable": "garbage"}} if name == "other" else {}
    assert app.broker.topology.queues() == {"default": {"max_priority": 3}} | others


def test_what_is_no_text_in_the_script_of_the_namespace_is_told_as_it_is(app, topology, redis):
    redis.hset(app.broker.keys.script("publish"), mapping={"sha": b"\xff", "protocol": b"\xfe"})

    with pytest.raises(ConfigError, match=r"used with protocol \\xfe"):
        topology.publish_interface()


def test_a_namespace_of_the_version_before_is_refused_with_both_protocols(app, topology, redis):
    redis.hset(app.broker.keys.script("publish"), mapping={"sha": "5f3e", "protocol": "2"})

    with pytest.raises(ConfigError, match="used with protocol 2, this streamq speaks 3"):
        topology.publish_interface()
    assert redis.hgetall(app.broker.keys.script("publish")) == {"sha": "5f3e", "protocol": "2"}


def test_adding_a_queue_replaces_one_of_that_name(app):
    app.queues = [Queue("a"), Queue("b")]
    app.add_queue(Queue("a", max_length=3))

    assert {queue.name: queue.max_length for queue in app.queues} == {"a": 3, "b": None}


def test_the_list_of_queues_may_be_changed_in_place_also_after_a_call(app, streams):
    app.enqueue("any.task")

    app.queues.append(Queue("a"))
    app.enqueue("any.task")  # to the only queue that is declared
    app.queues += [Queue("b")]
    app.enqueue("any.task")

    assert streams(app) == {"default": 2, "a": 1}


@pytest.mark.parametrize("way", ["enqueue", "aenqueue"])
def test_a_queue_whose_name_is_no_text_gets_its_messages_like_others(app, topology, redis, way):
    """Another language has declared it: what was accepted there was not refused."""
    topology.declare_exchange(Exchange("news", type="fanout"))
    topology.run(DECLARE_QUEUE, b"caf\xe9", "{}")
    topology.run(BIND, "news", "queue", b"caf\xe9", "")

    async def asend(signature):
        try:
            return await app.aenqueue(signature)
        finally:
            await app.aclose()

    call = app.signature("any.task", exchange="news", routing_key="")
    result = app.enqueue(call) if way == "enqueue" else asyncio.run(asend(call))

    assert redis.xlen(app.broker.keys.queue("caf").encode() + b"\xe9") == 1
    assert result.state == "QUEUED"


def test_namespaces_do_not_see_each_other(make_app, streams):
    one, other = make_app(namespace="one"), make_app(namespace="other")

    one.enqueue("any.task")

    assert (streams(one), streams(other)) == ({"default": 1}, {})
