"""Signed messages between producers and workers: what nobody with a key has sent never runs."""

import asyncio
import logging
import pickle
import time

import pytest

from streamq import Binding, Exchange, Queue
from streamq.errors import ConfigError, SignatureInvalid
from streamq.serialization.signing import Signer
from streamq.transport.scripts import load

KEYS = {"k1": "1" * 32, "k2": "2" * 32}
PICKLE = "application/x-python-serialize"

ran = []


def note(*args):
    ran.append(args)
    return list(args)


@pytest.fixture(autouse=True)
def _nothing_ran():
    ran.clear()


def known(app, **options):
    """The app, knowing the task ``note``."""
    app.task(name="t.note", **options)(note)
    return app


@pytest.fixture
def sealed(make_app):
    """Makes apps that sign, and require it."""

    def make(**settings):
        return known(make_app(**{"signing": "required", "signing_keys": KEYS, **settings}))

    return make


def stream_of(app, queue="default"):
    return app.broker.keys.queue(queue)


def waiting(redis, app, queue="default"):
    """The fields of the only message that waits."""
    ((_, fields),) = redis.xrange(stream_of(app, queue))
    return fields


def dead(redis, app, result, queue="default"):
    return redis.hgetall(app.broker.keys.dead_letter(queue, result.id))


def is_refused(redis, app, result, queue="default"):
    """Check that it did not run, is not tried again, and lies among the dead letters."""
    with pytest.raises(SignatureInvalid):
        result.get(timeout=5)
    assert result.state == "FAILURE"
    assert dead(redis, app, result, queue)["dead_reason"] == "signature"
    assert redis.xlen(stream_of(app, queue)) == 0
    assert redis.xlen(app.broker.keys.returned(queue)) == 0


def test_what_is_sent_with_a_key_runs_whichever_way_it_is_sent(sealed, drain):
    app = sealed()
    task = app.tasks["t.note"]
    app.declare()
    app.add_queue(Queue("default"))
    app.declare()

    async def send():
        result = await task.aenqueue(2)
        await app.aclose()
        return result

    results = [
        task.enqueue(1),
        asyncio.run(send()),
        *app.enqueue_many(task.s(n) for n in range(3, 1200)),
        task.options(task_id="mine", priority=3, headers={"a": 1}).enqueue(1200),
        task.options(serializer="json", compression="zlib").enqueue(1201),
    ]

    assert drain(app) == 1201
    assert [result.get(timeout=5) for result in results] == [[n] for n in range(1, 1202)]


def test_a_message_without_a_signature_never_runs(make_app, sealed, drain, redis):
    producer, worker = known(make_app()), sealed()
    worker.add_queue(Queue("default"))
    worker.declare()
    result = producer.tasks["t.note"].enqueue("unsigned")

    drain(worker)

    is_refused(redis, worker, result)
    assert ran == []
    assert "not signed" in dead(redis, worker, result)["dead_error"]


def test_control_a_worker_that_does_not_look_runs_it(make_app, drain, sealed):
    producer, worker = known(make_app()), sealed(signing="off")
    worker.declare()
    producer.tasks["t.note"].enqueue("unsigned")

    drain(worker)

    assert ran == [("unsigned",)]


def test_a_message_typed_by_hand_is_refused_with_a_hint(sealed, drain, redis):
    app = sealed()
    app.add_queue(Queue("default"))
    app.declare()
    entry = redis.xadd(stream_of(app), {"task": "t.note", "args": "[1]"})

    drain(app)

    result = app.result(f"default-{entry}")
    is_refused(redis, app, result)
    with pytest.raises(SignatureInvalid, match="XADD"):
        result.get(timeout=5)
    assert ran == []


@pytest.fixture
def caught(sealed, redis):
    """A genuine message, taken out of its queue before it ran: the app, and its fields."""
    app = sealed()
    app.queues = [Queue("default"), Queue("other")]
    app.declare()
    app.tasks["t.note"].enqueue("genuine")
    fields = waiting(redis, app)
    redis.delete(stream_of(app))
    app.declare()
    return app, fields


CHANGED = {
    "args": '["forged"]',
    "kwargs": '{"a":1}',
    "task": "t.other",
    "id": "another",
    "ignore_result": "1",
    "content_type": "application/json",
    "exchange": "ex",
    "expires": "99999999999999",
    "acks_late": "0",
    "headers": "{}",
    "signature": "k1:" + "0" * 64,
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_message_that_was_changed_never_runs(caught, redis, drain, name):
    app, fields = caught
    app.task(name="t.other")(note)
    redis.xadd(stream_of(app), {**fields, name: CHANGED[name]})

    drain(app)

    is_refused(redis, app, app.result({**fields, name: CHANGED[name]}["id"]))
    assert ran == []


def test_control_unchanged_it_runs(caught, redis, drain):
    app, fields = caught
    redis.xadd(stream_of(app), fields)

    drain(app)

    assert ran == [("genuine",)]


def test_control_without_the_check_the_changed_one_runs(caught, redis, drain, monkeypatch):
    app, fields = caught
    monkeypatch.setattr(Signer, "check", lambda *_: True)
    redis.xadd(stream_of(app), {**fields, "args": '["forged"]'})

    drain(app)

    assert ran == [("forged",)]


def test_the_signature_of_one_key_does_not_do_for_another(caught, redis, drain):
    app, fields = caught
    redis.xadd(stream_of(app), {**fields, "signature": fields["signature"].replace("k1", "k2")})

    drain(app)

    is_refused(redis, app, app.result(fields["id"]))
    assert ran == []


def test_a_message_that_was_moved_to_another_queue_never_runs(caught, redis, drain):
    app, fields = caught
    redis.xadd(stream_of(app, "other"), fields)

    drain(app)

    is_refused(redis, app, app.result(fields["id"]), "other")
    assert ran == []


def test_a_message_from_another_namespace_never_runs(caught, redis, drain, sealed):
    _, fields = caught
    app = sealed(namespace="elsewhere")
    app.add_queue(Queue("default"))
    app.declare()
    redis.xadd(stream_of(app), fields)

    drain(app)

    is_refused(redis, app, app.result(fields["id"]))
    assert ran == []


def test_copies_of_a_fan_out_run_each_in_its_own_queue(sealed, redis, drain):
    app = sealed()
    fan = Exchange("fan", type="fanout")
    app.queues = [Queue("one", bindings=[Binding(fan)]), Queue("two", bindings=[Binding(fan)])]
    app.declare()
    send = app.tasks["t.note"].options(exchange="fan").enqueue
    result = send("copy")
    stolen = waiting(redis, app, "one")

    drain(app)
    assert result.get(timeout=5) == {"one": ["copy"], "two": ["copy"]}
    redis.xadd(stream_of(app, "two"), stolen)  # a copy in the queue of another one
    redis.xadd(stream_of(app, "two"), {**stolen, "id": "fresh@two"})
    drain(app)

    assert len(ran) == 2
    assert app.result("fresh@two").failed()
    assert dead(redis, app, app.result(stolen["id"]), "two")["dead_reason"] == "signature"
    assert dead(redis, app, app.result("fresh@two"), "two")["dead_reason"] == "signature"


def test_a_genuine_message_that_a_thief_puts_back_runs_again(sealed, redis, drain):
    """What no signature can keep from happening; only the record of its first end stays."""
    app = sealed()
    result = app.tasks["t.note"].enqueue("paid")
    caught = waiting(redis, app)

    for _ in range(3):
        drain(app)
        redis.xadd(stream_of(app), caught)
    drain(app)

    assert ran == [("paid",)] * 4
    assert result.get(timeout=5) == ["paid"]


def test_a_genuine_message_that_has_expired_does_not_run_when_it_is_put_back(
    sealed, redis, drain, eventually
):
    app = sealed()
    result = app.tasks["t.note"].options(expires="300ms").enqueue("paid")
    caught = waiting(redis, app)
    drain(app)
    assert result.get(timeout=5) == ["paid"]
    eventually(lambda: float(caught["expires"]) / 1000 < redis.time()[0])

    redis.xadd(stream_of(app), caught)
    drain(app)

    assert ran == [("paid",)]


@pytest.fixture
def moves(drain):
    """Sends a task that is tried again in the queue ``other``, and lets that happen."""

    def run(app, **options):
        @app.task(name="t.moves", bind=True)
        def moves(self):
            return self.request.queue if self.request.retries else self.retry(**elsewhere)

        elsewhere = {"queue": "other", "countdown": 0}
        app.queues = [
            *(Queue(name, Exchange("fan", type="fanout")) for name in ("one", "two")),
            Queue("other"),
        ]
        app.declare()
        result = moves.options(**options).enqueue()
        drain(app)
        app.broker.client.call(load("promote"), app.broker.keys.root, 100, 60_000, 100, 60_000)
        drain(app)
        return result

    return run


def test_a_copy_of_a_fan_out_is_not_tried_again_in_another_queue(sealed, redis, moves):
    app = sealed()

    result = moves(app, exchange="fan")

    for copy in result.copies.values():
        with pytest.raises(ConfigError, match=r"copy of a fan-out[\s\S]*retry without queue="):
            copy.get(timeout=5)
        assert not dead(redis, app, copy, "other")


def test_what_is_no_copy_is_signed_anew_for_the_queue_where_it_is_tried_again(sealed, moves):
    assert moves(sealed(), queue="one").get(timeout=5) == "other"


def test_a_copy_that_nobody_signed_is_tried_again_in_another_queue(make_app, moves):
    result = moves(make_app(), exchange="fan")

    assert result.get(timeout=5) == {"one": "other", "two": "other"}


def test_a_message_through_an_exchange_to_one_queue_runs(sealed, drain):
    app = sealed()
    app.queues = [Queue("mail", Exchange("post"), routing_key="letters")]
    app.declare()
    result = (
        app.tasks["t.note"].options(exchange="post", routing_key="letters").enqueue("by exchange")
    )

    drain(app)

    assert result.get(timeout=5) == ["by exchange"]


def test_nothing_is_decoded_before_it_is_known_to_be_genuine(sealed, redis, drain, tmp_path):
    app = sealed(accept_content=("json", "pickle"))
    app.add_queue(Queue("default"))
    app.declare()
    trap = tmp_path / "trap"
    data = pickle.dumps(Touch(str(trap)))
    fields = {"id": "x", "task": "t.note", "content_type": PICKLE, "args": data}
    redis.xadd(stream_of(app), {**fields, "signature": "k1:" + "0" * 64})

    drain(app)

    is_refused(redis, app, app.result("x"))
    assert not trap.exists()


class Touch:
    """A pickle that leaves a file behind where it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_an_unsigned_message_to_be_acknowledged_early_never_runs_either(sealed, redis, drain):
    app = sealed()
    app.add_queue(Queue("default"))
    app.declare()
    redis.xadd(stream_of(app), {"id": "x", "task": "t.note", "acks_late": "0"})

    drain(app)

    is_refused(redis, app, app.result("x"))
    assert ran == []


def test_keys_are_changed_one_after_the_other(make_app, sealed, drain):
    old = sealed(signing_keys={"k1": KEYS["k1"]})
    both = sealed(signing_key="k2")
    both.add_queue(Queue("default"))
    both.declare()
    first, second = old.tasks["t.note"].enqueue(1), both.tasks["t.note"].enqueue(2)

    drain(both)
    assert (first.get(timeout=5), second.get(timeout=5)) == ([1], [2])
    late = old.tasks["t.note"].enqueue(3)
    new = sealed(signing_keys={"k2": KEYS["k2"]})
    new.declare()
    drain(new)

    with pytest.raises(SignatureInvalid, match="not known here"):
        late.get(timeout=5)


def test_permissive_runs_what_is_unsigned_with_one_warning(make_app, sealed, drain, redis, caplog):
    producer, worker = known(make_app()), sealed(signing="permissive")
    worker.add_queue(Queue("default"))
    worker.declare()
    producer.enqueue_many(producer.tasks["t.note"].s(n) for n in range(50))
    entry = redis.xadd(
        stream_of(worker), {"task": "t.note", "args": "[7]", "signature": "k1:" + "0" * 64}
    )

    with caplog.at_level(logging.WARNING, "streamq.worker"):
        drain(worker)

    assert ran == [(n,) for n in range(50)]
    is_refused(redis, worker, worker.result(f"default-{entry}"))
    assert len([r for r in caplog.records if "permissive" in r.getMessage()]) == 1


def test_a_flood_of_forged_messages_does_not_fill_the_log(sealed, redis, drain, caplog):
    app = sealed()
    app.add_queue(Queue("default"))
    app.declare()
    for _ in range(300):
        redis.xadd(stream_of(app), {"task": "t.note\n\x1b[2Jforged"})

    with caplog.at_level(logging.ERROR, "streamq.worker"):
        assert drain(app) == 300

    lines = [record.getMessage() for record in caplog.records]
    assert 1 <= len(lines) <= 20
    assert "\x1b" not in "".join(lines)
    assert redis.zcard(app.broker.keys.dead("default")) == 300
    assert ran == []


def test_signing_without_a_key_is_said_before_anything_is_sent(make_app, redis):
    app = known(make_app(signing="required"))

    with pytest.raises(ConfigError, match="no signing_keys"):
        app.tasks["t.note"].enqueue(1)

    assert redis.keys("*") == []


def test_a_moment_of_the_servers_clock_is_asked_for_each_time(app, redis):
    seconds, micros = redis.time()
    now = seconds * 1000 + micros / 1000

    async def ask():
        moment = await app.broker.asyncio.moment(60, time.monotonic())
        await app.aclose()
        return moment

    assert now + 60_000 - 1 <= app.broker.client.moment(60) <= now + 65_000
    assert now + 60_000 - 1 <= asyncio.run(ask()) <= now + 65_000


def test_running_in_place_needs_no_signature(sealed):
    app = sealed()

    assert app.tasks["t.note"].apply((1,)).get() == [1]
