"""Many calls in few round trips: each chunk all or nothing, and what is known half-way."""

import threading

import pytest

from streamq import Exchange, PartlyPublished, Queue, Result
from streamq.broker.publisher import CHANNELS
from streamq.errors import ConfigError, EncodeError, QueueFull, Unroutable
from streamq.producer.bulk import CHUNK
from streamq.transport.connection import Connection


@pytest.fixture
def add(app):
    @app.task(name="shop.add")
    def add(x: int, y: int = 0) -> int:
        return x + y

    return add


def calls(redis, command):
    """How often the server ran a command."""
    return redis.info("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0)


def test_a_generator_is_sent_and_run_in_order(app, add, drain, streams):
    results = app.enqueue_many(add.s(i, i) for i in range(1234))

    assert len(results) == len({result.id for result in results}) == 1234
    assert streams(app) == {"default": 1234}
    assert drain(app) == 1234
    assert [result.get(timeout=1) for result in results[::100]] == list(range(0, 2468, 200))


def test_few_round_trips_are_made(app, add, redis):
    add.enqueue(0)
    before = calls(redis, "evalsha")

    app.enqueue_many(add.s(i) for i in range(4 * CHUNK))

    assert calls(redis, "evalsha") - before <= 6


def test_a_queue_with_limits_is_asked_the_short_way_twice_at_most(app, add, redis, streams):
    app.queues = [Queue("jobs", max_priority=3)]
    app.declare()
    before = calls(redis, "evalsha")

    app.enqueue_many(add.s(i) for i in range(5 * CHUNK))

    assert streams(app) == {"jobs": 5 * CHUNK}
    assert calls(redis, "evalsha") - before <= 5 + 2 + 2  # scripts that had to be loaded


@pytest.mark.parametrize("options", [{"max_length": 1_000_000}, None], ids=["limits", "missing"])
def test_as_many_threads_as_there_are_channels_do_not_wait_for_each_other(
    app, add, streams, options
):
    if options:
        app.queues = [Queue("jobs", **options)]
        app.declare()
    ready = threading.Barrier(2 * CHANNELS)

    def send():
        ready.wait()
        app.enqueue_many(add.options(queue="jobs").s(i) for i in range(10))

    threads = [threading.Thread(target=send, daemon=True) for _ in range(2 * CHANNELS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert not any(thread.is_alive() for thread in threads)
    assert streams(app) == {"jobs": 20 * CHANNELS}


def test_nothing_is_sent_for_nothing(app, add, redis):
    assert app.enqueue_many([]) == []
    assert app.enqueue_many(iter(())) == []
    assert redis.keys() == []


def test_calls_of_different_tasks_and_options_go_together(app, add, streams):
    @app.task(queue="mail")
    def send(to: str): ...

    results = app.enqueue_many(
        [
            add.s(1),
            send.s("a"),
            add.options(queue="other").s(2),
            app.signature("by.name", args=(1,), queue="mail"),
        ]
    )

    assert len(results) == 4
    assert streams(app) == {"default": 1, "mail": 2, "other": 1}


def test_large_calls_are_sent_in_smaller_chunks(app, streams):
    app.enqueue_many(app.signature("shop.add", args=("x" * 300_000,)) for _ in range(10))

    assert streams(app) == {"default": 10}


def test_calls_that_go_to_several_queues(app, add, drain):
    exchange = Exchange("ex", type="fanout")
    app.queues = [Queue("one", exchange), Queue("two", exchange)]
    app.declare()

    results = app.enqueue_many(add.options(exchange="ex").s(i) for i in range(3))
    drain(app)

    assert [result.get(timeout=1) for result in results] == [{"one": i, "two": i} for i in range(3)]


def test_missing_topology_is_declared_on_the_way(app, add, streams):
    app.queues = [Queue("demo", Exchange("ex"), routing_key="k")]

    app.enqueue_many(add.options(exchange="ex", routing_key="k").s(i) for i in range(1000))

    assert streams(app) == {"demo": 1000}


def test_a_chunk_with_a_wrong_call_is_sent_not_at_all(app, add, streams):
    with pytest.raises(PartlyPublished) as stopped:
        app.enqueue_many([add.s(1), add.s("too", "many", "args"), add.s(3)])

    assert isinstance(stopped.value.__cause__, TypeError)
    assert stopped.value.accepted == []
    assert [call.args for call in stopped.value.remaining] == [(1,), ("too", "many", "args"), (3,)]
    assert streams(app) == {}


@pytest.mark.parametrize(
    ("wrong", "cause"),
    [
        (lambda add: add.s(object()), EncodeError),
        (lambda add: add.s(1, 2, 3), TypeError),
        (lambda add: add.options(serializer="nope").s(1), ConfigError),
        (lambda add: add.options(exchange="nowhere").s(1), Unroutable),
    ],
)
def test_half_way_it_says_what_was_accepted_and_what_is_left(app, add, streams, wrong, cause):
    signatures = [add.s(i) for i in range(3 * CHUNK)]
    signatures[2 * CHUNK + 10] = wrong(add)

    with pytest.raises(PartlyPublished) as stopped:
        app.enqueue_many(iter(signatures))

    error = stopped.value
    assert isinstance(error.__cause__, cause)
    assert len(error.accepted) == 2 * CHUNK
    assert all(isinstance(result, Result) for result in error.accepted)
    assert error.remaining == signatures[2 * CHUNK :]
    assert streams(app) == {"default": 2 * CHUNK}
    assert "1,000 messages were accepted, 500 were not sent" in str(error)


def test_a_queue_that_gets_full_half_way(app, add, streams):
    app.queues = [Queue("small", max_length=CHUNK + 100)]
    app.declare()
    signatures = [add.s(i) for i in range(3 * CHUNK)]

    with pytest.raises(PartlyPublished) as stopped:
        app.enqueue_many(signatures)

    assert isinstance(stopped.value.__cause__, QueueFull)
    assert len(stopped.value.accepted) == CHUNK
    assert stopped.value.remaining == signatures[CHUNK:]
    assert streams(app) == {"small": CHUNK}


def test_a_generator_that_fails_half_way_loses_nothing(app, add, streams):
    def failing():
        yield from (add.s(i) for i in range(CHUNK + 10))
        raise OSError("the file ended")

    with pytest.raises(PartlyPublished, match="the file ended") as stopped:
        app.enqueue_many(failing())

    assert isinstance(stopped.value.__cause__, OSError)
    assert len(stopped.value.accepted) == CHUNK
    assert [call.args for call in stopped.value.remaining] == [
        (i,) for i in range(CHUNK, CHUNK + 10)
    ]
    assert streams(app) == {"default": CHUNK}


def test_a_generator_that_fails_after_a_stop_hides_nothing(app, add):
    app.queues = [Queue("small", max_length=CHUNK)]
    app.declare()

    def failing():
        yield from (add.s(i) for i in range(3 * CHUNK + 1))
        raise OSError("the file ended")

    with pytest.raises(PartlyPublished, match="full") as stopped:
        app.enqueue_many(failing())

    assert len(stopped.value.accepted) == CHUNK
    assert len(stopped.value.remaining) == 2 * CHUNK + 1


def test_sending_what_remains_completes_the_work(app, add, drain):
    app.queues = [Queue("small", max_length=CHUNK)]
    app.declare()
    done = []
    with pytest.raises(PartlyPublished) as stopped:
        app.enqueue_many(add.s(i) for i in range(CHUNK + 7))
    done += stopped.value.accepted
    drain(app)

    done += app.enqueue_many(stopped.value.remaining)
    drain(app)

    assert [result.get(timeout=1) for result in done] == list(range(CHUNK + 7))


def test_given_ids_are_accepted_once(app, add, streams):
    twice = [app.signature("shop.add", (i,), task_id=f"order-{i % 5}") for i in range(10)]

    results = app.enqueue_many(twice)

    assert [result.id for result in results] == [f"order-{i % 5}" for i in range(10)]
    assert streams(app) == {"default": 5}


def test_the_channel_is_in_order_after_a_failure(app, add, streams):
    with pytest.raises(PartlyPublished):
        app.enqueue_many([*(add.s(i) for i in range(CHUNK)), add.s(object())])

    add.enqueue(1)
    app.enqueue_many(add.s(i) for i in range(5))

    assert streams(app) == {"default": CHUNK + 6}


def test_a_chunk_that_was_interrupted_is_not_sent_in_place_of_the_next_message(
    app, add, redis, monkeypatch
):
    """Ctrl-C, or a soft limit, may come while a chunk is sent; its channel is used again."""
    app.enqueue("warm.up")

    class SendInterrupted(BaseException):
        pass

    def interrupt(*_):
        raise SendInterrupted

    with monkeypatch.context() as patched:
        patched.setattr(Connection, "send", interrupt)
        with pytest.raises(SendInterrupted):
            app.enqueue_many([add.s(1)])
    app.enqueue("any.task")

    entries = redis.xrange(app.broker.keys.queue("default"))
    assert [fields["task"] for _, fields in entries] == ["warm.up", "any.task"]
