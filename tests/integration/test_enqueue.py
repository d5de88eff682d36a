"""Sending one call: every spelling, what is refused, and that it is accepted once."""

import os
import threading
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum

import pytest

import streamq
from streamq import Exchange, Queue
from streamq.errors import (
    ConfigError,
    ContentDisallowed,
    EncodeError,
    PartlyPublished,
    QueueFull,
    Unroutable,
)
from streamq.transport import scripts as lua


@pytest.fixture
def add(app):
    @app.task(name="shop.add")
    def add(x: int, y: int = 0) -> int:
        return x + y

    return add


def entries(redis, app, queue="default"):
    return [fields for _, fields in redis.xrange(app.broker.keys.queue(queue))]


# spellings


def test_every_spelling_sends_the_same_call(app, add, drain, redis):
    results = [
        add.enqueue(2, 3),
        add.delay(2, 3),
        add.options(queue="default").enqueue(2, 3),
        add.apply_async((2,), {"y": 3}),
        app.enqueue(add, 2, 3),
        app.enqueue(add.options(queue="default"), 2, y=3),
        app.enqueue("shop.add", 2, 3),
        app.enqueue(app.signature("shop.add", queue="default"), 2, 3),
        app.enqueue(add.s(2), 3),
        streamq.enqueue(add, 2, 3),
        streamq.enqueue(add.s(2, 3)),
        *app.enqueue_many([add.s(2, 3)]),
    ]

    assert len({result.id for result in results}) == len(results)
    assert {result.state for result in results} == {"QUEUED"}
    assert drain(app) == len(results)
    assert [result.get(timeout=1) for result in results] == [5] * len(results)


def test_a_message_is_readable_and_says_only_what_differs(app, add, redis):
    result = add.enqueue(2, y=3)

    (fields,) = entries(redis, app)
    assert fields == {"id": result.id, "task": "shop.add", "args": "[2]", "kwargs": '{"y":3}'}
    record = redis.hgetall(app.broker.keys.task(result.id))
    assert record.pop("enqueued").isdigit()
    assert record == {"state": "QUEUED", "task": "shop.add", "queue": "default"}


def test_options_send_it_elsewhere(app, add, streams):
    add.options(queue="mail").enqueue(1)
    add.apply_async((1,), queue="news")
    app.enqueue(app.signature("unknown.here", queue="mail"), "any", key="word")

    assert streams(app) == {"mail": 2, "news": 1}


def test_what_is_no_task_cannot_be_sent(app):
    with pytest.raises(TypeError, match="not a task"):
        app.enqueue(len, [1])


def test_task_routes_decide_where_tasks_go(make_app, streams):
    app = make_app(task_routes={"shop.mail.*": {"queue": "mail"}, "*.news": "news"})

    app.enqueue("shop.mail.send")
    app.enqueue("shop.news")
    app.enqueue("shop.other")
    app.enqueue(app.signature("shop.news", queue="own"))

    assert streams(app) == {"mail": 1, "news": 1, "default": 1, "own": 1}


def test_queues_and_tasks_that_come_later_are_noticed(app, streams):
    app.enqueue("shop.late")
    app.queues = [Queue("only")]
    app.enqueue("shop.late")
    app.task(name="shop.late", queue="own")(lambda: None)
    app.enqueue("shop.late")

    assert streams(app) == {"default": 1, "only": 1, "own": 1}


# refusals


def test_an_unknown_option_names_the_nearest(app, add, streams):
    with pytest.raises(ConfigError, match="did you mean 'queue'"):
        add.options(queeu="mail")

    assert streams(app) == {}


@pytest.mark.parametrize("later", ["link", "link_error", "rate_limit"])
def test_options_of_a_later_version_are_refused_by_name(app, add, streams, later):
    for act in (
        lambda: add.options(**{later: 5}).enqueue(1),
        lambda: add.apply_async((1,), **{later: 5}),
        lambda: app.enqueue(app.signature("shop.add", **{later: 5})),
        lambda: app.task(**{later: 5})(lambda: None),
    ):
        with pytest.raises(ConfigError, match=f"not in this version: {later}"):
            act()

    assert streams(app) == {}


def test_arguments_are_checked_before_anything_is_sent(app, add, streams):
    for act in (
        lambda: add.enqueue(),
        lambda: add.enqueue(1, 2, 3),
        lambda: add.enqueue(1, z=3),
        lambda: app.enqueue("shop.add"),
        lambda: add.apply_async((1, 2, 3)),
    ):
        with pytest.raises(TypeError, match=r"checked against shop\.add"):
            act()

    assert streams(app) == {}


def test_a_name_that_is_not_registered_here_is_sent_unchecked(app, streams):
    app.enqueue("elsewhere.task", 1, 2, 3)

    assert streams(app) == {"default": 1}


def test_what_leads_nowhere_is_unroutable_and_writes_nothing(app, add, redis):
    app.queues = [Queue("demo", Exchange("ex"), routing_key="demo")]
    app.declare()
    before = set(redis.keys())

    with pytest.raises(Unroutable, match=r"exchange 'ex' leads to no queue for the key 'other'"):
        add.options(exchange="ex", routing_key="other").enqueue(1)
    with pytest.raises(LookupError, match="no exchange 'nowhere'"):
        add.options(exchange="nowhere").enqueue(1)

    assert set(redis.keys()) == before


def test_settings_that_nobody_can_read_are_told_with_their_queue(app, add, redis, streams):
    app.declare()
    redis.hset(app.broker.keys.queues, "default", "garbage")

    with pytest.raises(
        ConfigError, match="the settings of queue 'default' cannot be read"
    ) as caught:
        add.enqueue(1)
    with pytest.raises(PartlyPublished, match="the settings of queue 'default' cannot be read"):
        app.enqueue_many([add.s(1), add.s(2)])

    assert "start a worker for it" in str(caught.value)
    assert sum(streams(app).values()) == 0


def test_an_exchange_that_nobody_declared_is_unroutable(app, add, redis):
    with pytest.raises(Unroutable, match="there is no exchange 'nowhere'"):
        add.options(exchange="nowhere", routing_key="k").enqueue(1)

    assert redis.keys() == []


def test_topology_that_the_app_declares_is_declared_when_it_is_missing(app, add, redis, streams):
    app.queues = [Queue("demo", Exchange("ex", type="topic"), routing_key="a.#")]
    send = add.options(exchange="ex", routing_key="a.b")

    send.enqueue(1)
    redis.flushall()
    send.enqueue(1)

    assert streams(app) == {"demo": 1}


def test_the_only_declared_queue_is_the_default(app, add, streams):
    app.queues = [Queue("demo")]

    add.enqueue(1)

    assert streams(app) == {"demo": 1}


def test_a_queue_nobody_declared_is_made(app, add, redis):
    add.options(queue="new").enqueue(1)

    assert redis.hget(app.broker.keys.queues, "new") == "{}"


def test_a_missing_queue_is_not_made_where_that_is_switched_off(make_app, redis):
    app = make_app(task_create_missing_queues=False)

    with pytest.raises(Unroutable, match="there is no queue 'new'"):
        app.enqueue(app.signature("shop.add", queue="new"))

    assert redis.keys() == []


def test_a_process_that_declared_nothing_publishes_to_a_declared_exchange(make_app, streams):
    declaring, other = make_app(), make_app()
    declaring.queues = [Queue("demo", Exchange("ex"), routing_key="k")]
    declaring.declare()

    other.enqueue(other.signature("shop.add", exchange="ex", routing_key="k"))

    assert streams(other) == {"demo": 1}


def test_a_full_queue_refuses_and_nothing_is_written(app, add, streams):
    app.queues = [Queue("small", max_length=2)]
    add.enqueue(1)
    add.enqueue(2)

    with pytest.raises(QueueFull, match="queue 'small' is full"):
        add.enqueue(3)

    assert streams(app) == {"small": 2}


def test_a_message_over_the_limit_is_refused(make_app, streams):
    app = make_app(message_limit="1KiB")

    with pytest.raises(EncodeError, match="over the limit"):
        app.enqueue("shop.add", "x" * 1100)
    with pytest.raises(EncodeError, match="over the limit"):
        app.enqueue("shop.add", "x" * 600, more="y" * 600)
    app.enqueue("shop.add", "x" * 900)

    assert streams(app) == {"default": 1}


# accepted once


def test_the_same_id_is_accepted_once(app, add, drain, streams):
    first = add.options(task_id="order-1").enqueue(1)
    second = add.options(task_id="order-1").enqueue(1)

    assert first == second
    assert streams(app) == {"default": 1}
    assert drain(app) == 1
    assert add.options(task_id="order-1").enqueue(1).get(timeout=1) == 1
    assert streams(app) == {}


def test_the_same_id_gives_the_same_answer_whatever_the_topology_says_by_then(app, add, streams):
    exchange = Exchange("ex", type="fanout")
    app.queues = [Queue("one", exchange), Queue("two", exchange)]
    app.declare()
    send = add.options(exchange="ex", task_id="order-1")
    first = send.enqueue(1)

    app.broker.topology.delete_exchange("ex")
    app.queues = []
    second = send.enqueue(1)

    assert set(first.copies) == set(second.copies) == {"one", "two"}
    assert streams(app) == {"one": 1, "two": 1}


@pytest.mark.parametrize("window", ["1ms", 0])
def test_after_the_window_an_id_is_new_once_its_task_has_ended(
    make_app, streams, redis, eventually, window
):
    app = make_app(dedup_window=window)
    for accepted in (1, 2, 3):
        for _ in range(2):
            app.enqueue(app.signature("shop.add", task_id="order-1"))
            eventually(lambda: not redis.exists(app.broker.keys.dedup("order-1")), seconds=5)
            assert streams(app) == {"default": accepted}
        redis.hset(app.broker.keys.task("order-1"), "state", "SUCCESS")


@pytest.mark.parametrize("window", ["1ms", 0])
def test_without_a_record_only_the_window_counts(make_app, streams, redis, eventually, window):
    app = make_app(dedup_window=window)
    for accepted in (1, 2):
        app.enqueue(app.signature("shop.add", task_id="order-1", ignore_result=True))
        eventually(lambda: not redis.exists(app.broker.keys.dedup("order-1")), seconds=5)
        assert streams(app) == {"default": accepted}


def test_ids_in_a_bulk_are_accepted_once_as_well(make_app, streams):
    app = make_app(dedup_window=0)
    calls = [app.signature("shop.add", task_id=f"order-{n % 2}") for n in range(6)]

    app.enqueue_many(calls)
    app.enqueue_many(calls)

    assert streams(app) == {"default": 2}


# what arguments become


class Colour(Enum):
    RED = "red"


@dataclass
class Order:
    number: int
    price: Decimal


NOW = datetime(2024, 2, 29, 12, 30, tzinfo=UTC)
KEY = uuid.UUID(int=5)


@pytest.mark.parametrize("serializer", ["json", "pickle", "msgpack", "yaml"])
@pytest.mark.parametrize("compression", [None, "zlib", "zstd"])
def test_values_arrive_through_every_serializer_and_compression(
    make_app, drain, serializer, compression
):
    app = make_app(
        accept_content=["json", serializer],
        task_serializer=serializer,
        result_serializer=serializer,
        task_compression=compression,
        result_compression=compression,
    )

    @app.task
    def echo(value: dict, *, more: list) -> list:
        return [value, more]

    result = echo.enqueue({"a": [1, 2.5, None, True, "ü"]}, more=["x" * 2000])

    assert drain(app) == 1
    assert result.get(timeout=1) == [{"a": [1, 2.5, None, True, "ü"]}, ["x" * 2000]]


def test_annotations_turn_values_back(app, drain):
    seen = []

    @app.task
    def take(
        at: datetime, day: date, hour: time, key: uuid.UUID, price: Decimal, colour: Colour,
        order: Order, data: bytes, some: set[int], pair: tuple[int, str],
    ) -> datetime:  # fmt: skip
        seen.append((at, day, hour, key, price, colour, order, data, some, pair))
        return at

    sent = (
        *(NOW, date(2024, 2, 29), time(1, 2), KEY, Decimal("1.10"), Colour.RED),
        *(Order(7, Decimal("9.90")), b"\0\xff", {1, 2}, (1, "a")),
    )
    result = take.enqueue(*sent)
    drain(app)

    assert result.get(timeout=1) == NOW
    assert seen == [sent]
    assert [type(value) for value in seen[0]] == [type(value) for value in sent]


def test_a_content_type_that_is_not_accepted_becomes_a_dead_letter(make_app, drain, redis):
    sender = make_app(task_serializer="pickle")
    worker = make_app()
    ran = []
    worker.task(name="shop.run")(lambda value: ran.append(value))

    result = sender.enqueue("shop.run", 1)
    drain(worker)

    with pytest.raises(ContentDisallowed):
        result.get(timeout=1)
    assert ran == []
    assert redis.keys(f"{worker.broker.keys.dead('default')}*")


# threads and forks


def test_many_threads_share_one_app(app, add, streams, redis):
    ids, errors = [], []

    def send():
        try:
            ids.extend([add.enqueue(n).id for n in range(200)])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    assert len(set(ids)) == 1600
    assert {fields["id"] for fields in entries(redis, app)} == set(ids)
    producers = [c for c in redis.client_list() if c["name"] == "streamq:producer"]
    assert 1 <= len(producers) <= 4


def test_parent_and_child_both_send_after_a_fork(app, add, redis):
    add.enqueue(0)
    pid = os.fork()
    if not pid:
        code = 1
        try:
            for _ in range(50):
                add.enqueue(1)
            code = 0
        finally:
            os._exit(code)
    for _ in range(50):
        add.enqueue(2)

    assert os.waitpid(pid, 0)[1] == 0
    sent = [fields["args"] for fields in entries(redis, app)]
    assert (sent.count("[0]"), sent.count("[1]"), sent.count("[2]")) == (1, 50, 50)


def test_scripts_that_the_server_forgot_are_loaded_again(app, add, redis, streams):
    add.enqueue(1)
    redis.script_flush()

    add.enqueue(1)
    add.options(priority=3).enqueue(1)

    assert streams(app) == {"default": 3}


def test_the_publish_script_itself_is_the_one_of_this_checkout(app, add, redis):
    add.options(priority=3).enqueue(1)

    assert redis.script_exists(lua.load("publish").sha) == [True]
