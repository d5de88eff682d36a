"""Census, rows about calls: ``delay``, ``apply_async``, signatures, and their options."""

from datetime import UTC, datetime, timedelta
from unittest import mock

import pytest

from streamq.celery import signature
from streamq.celery.contrib.testing.worker import start_worker
from streamq.celery.result import EagerResult
from streamq.context import NotInThisVersion


@pytest.fixture
def add(app):
    @app.task(name="add")
    def add(x, y=0):
        return x + y

    return add


def test_row_4_delay(app, add, drain):
    result = add.delay(1, y=2)
    drain(app)

    assert result.get(timeout=5) == 3


def test_row_5_apply_async(app, add, drain):
    result = add.apply_async((1, 2))
    drain(app)

    assert result.get(timeout=5) == 3


def test_row_15_apply_async_with_args(app, add, drain):
    results = [add.apply_async(args=given) for given in ([1, 2], (1, 2), range(1, 3))]
    drain(app)

    assert [each.get(timeout=5) for each in results] == [3, 3, 3]


def test_row_18_countdown_eta_and_expires(app, add, drain):
    now = datetime.now(UTC)
    later = add.apply_async((1,), countdown=60)
    also = add.apply_async((1,), eta=now + timedelta(minutes=5))
    naive = add.apply_async((1,), eta=datetime.now() + timedelta(minutes=5))
    late = add.apply_async((1,), expires=now - timedelta(seconds=1))
    past = add.apply_async((1,), countdown=-5)
    soon = add.apply_async((1,), expires=60)

    assert drain(app) >= 2
    assert [each.state for each in (later, also, naive)] == ["PENDING"] * 3
    assert late.state == "REVOKED"
    assert [each.get(timeout=5) for each in (past, soon)] == [1, 1]


def test_row_23_apply_async_with_kwargs(app, add, drain):
    results = [add.apply_async(kwargs={"x": 1, "y": 2}), add.apply_async(None, {"x": 3})]
    drain(app)

    assert [each.get(timeout=5) for each in results] == [3, 3]


def test_row_32_signatures(app, add, drain):
    results = [add.s(1, y=2).delay(), add.s(2).apply_async((1,)), signature("add", (1, 2)).delay()]
    drain(app)

    assert [each.get(timeout=5) for each in results] == [3, 3, 3]
    assert add.s(1)(2) == add.s(1, 2)() == add.subtask((1, 2)).apply().get() == 3


def test_row_32_a_signature_of_a_task_that_only_workers_know(app, streams):
    signature("elsewhere.add", (1, 2)).delay()
    app.signature("elsewhere.add", (1, 2)).set(queue="mail").apply_async()

    assert streams(app) == {"celery": 1, "mail": 1}


def test_row_33_a_call_to_a_queue(app, add, streams):
    add.apply_async((1,), queue="mail")

    assert streams(app) == {"mail": 1}


def test_row_50_immutable_signatures(app, add, drain):
    result = add.si(1, 2).apply_async((9, 9))
    drain(app)

    assert result.get(timeout=5) == 3
    assert add.si(1).immutable


def test_row_52_options_of_ones_own_are_dropped_with_one_warning_each(app, add, caplog, drain):
    results = [
        add.apply_async((1,), MessageGroupId="g", argsrepr="…", producer=object()) for _ in range(3)
    ]
    drain(app)

    assert [each.get(timeout=5) for each in results] == [1, 1, 1]
    assert caplog.text.count("MessageGroupId") == caplog.text.count("argsrepr") == 1
    assert "producer" not in caplog.text


def test_row_54_apply(app, add):
    result = add.apply((1,), {"y": 2})

    assert isinstance(result, EagerResult)
    assert (result.get(), result.state, result.successful()) == (3, "SUCCESS", True)
    assert add.apply(args=[1], kwargs=None, throw=True).result == 1


@pytest.mark.parametrize("kind", [KeyboardInterrupt, pytest.fail.Exception])
def test_row_54_what_is_meant_for_the_caller_passes_through_an_eager_task(app, kind):
    @app.task
    def interrupted():
        raise kind("now")

    app.conf.task_always_eager = True
    for call in (interrupted.apply, interrupted.delay):
        with pytest.raises(kind):
            call()


def test_row_65_send_task(app, add, drain):
    results = [
        app.send_task("add", args=[1, 2]),
        app.send_task("add", (1,), {"y": 2}, queue="celery", countdown=0, task_id="mine"),
    ]
    drain(app)

    assert [each.get(timeout=5) for each in results] == [3, 3]
    assert results[1].id == "mine"


def test_row_66_headers_of_a_call(app, drain):
    @app.task(bind=True)
    def look(self):
        request = self.request
        return [request.headers["tenant"], request.tenant, request.get("none", 0)]

    result = look.apply_async(headers={"tenant": "acme"})
    drain(app)

    assert result.get(timeout=5) == ["acme", "acme", 0]


def test_row_74_options_set_on_a_signature(app, add, streams):
    call = add.s(1).set(queue="mail", headers={"a": "b"}, countdown=None)

    assert (call.options["queue"], call.set(priority=3) is call) == ("mail", True)
    call.delay()
    assert streams(app) == {"mail": 1}
    for combine in (call.link, call.link_error, call.on_error, call.__or__):
        with pytest.raises(NotInThisVersion, match="not in this version"):
            combine(add.s(2))


def test_row_75_the_priority_of_a_call(make, broker, drain):
    app, seen = make(task_queue_max_priority=10), []
    note = app.task(name="note")(seen.append)
    app.declare()
    for priority in (0, 9, 5):
        note.apply_async((priority,), priority=priority)
    drain(app)

    assert seen == [9, 5, 0]  # as on RabbitMQ; Celery on Redis has 0 first


def test_row_77_a_lambda_for_on_commit(app, add, drain):
    later = []
    later.append(lambda: add.delay(1, 2))  # what transaction.on_commit does
    result = later.pop()()
    drain(app)

    assert result.get(timeout=5) == 3


def test_row_79_the_id_of_a_call(app, add):
    assert add.apply_async((1,), task_id="my-id").id == "my-id"
    assert add.AsyncResult("my-id").id == "my-id"


def test_a_worker_in_the_test_sees_mocks_and_delay_can_be_patched(app, add):
    with mock.patch.object(add, "delay") as delay:
        add.delay(1)
    with mock.patch.object(add, "apply_async") as apply_async:
        add.delay(1)
    delay.assert_called_once_with(1)
    apply_async.assert_called_once()
    with start_worker(app):
        assert add.delay(1).get(timeout=5) == 1
