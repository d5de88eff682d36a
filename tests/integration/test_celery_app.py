"""An app of streamq.celery, and a worker of its tasks in a thread of the test."""

import threading
from datetime import UTC, date, datetime
from decimal import Decimal
from unittest import mock
from uuid import UUID

import pytest

from streamq.celery import AsyncResult, Celery, Task, current_app, current_task, shared_task, states
from streamq.celery.app.options import warned
from streamq.celery.contrib.testing.worker import start_worker
from streamq.celery.current import CurrentApp
from streamq.celery.exceptions import (
    Ignore,
    MaxRetriesExceededError,
    Reject,
    TaskRevokedError,
    TimeoutError,
)
from streamq.celery.shared import makers
from streamq.errors import ConfigError, TaskError


@pytest.fixture
def make(server_url, redis):
    """Makes apps of streamq.celery on the emptied test server."""
    made, before, shared = [], (CurrentApp.app, CurrentApp.default), dict(makers)

    def make(main="shop", **settings):
        app = Celery(main, broker=server_url, backend=server_url, **settings)
        made.append(app)
        return app

    yield make
    CurrentApp.app, CurrentApp.default = before
    makers.clear()
    makers.update(shared)
    for app in made:
        app.close()


@pytest.fixture
def app(make):
    return make()


def add(x, y):
    return x + y


def test_a_task_is_pending_until_it_runs_and_then_succeeds(app):
    task = app.task(add)
    result = task.delay(2, 3)

    assert (result.state, result.status, result.info) == ("PENDING", "PENDING", None)
    assert not result.ready()
    assert AsyncResult("nobody-knows").state == states.PENDING
    with start_worker(app):
        assert result.get(timeout=5) == 5
    again = AsyncResult(result.id)
    assert (again.state, again.result, again.name) == ("SUCCESS", 5, task.name)
    called = []
    assert again.get(callback=lambda id, value: called.append((id, value))) == 5
    assert called == [(result.id, 5)]
    assert (again.children, again.parent, again.task_id) == (None, None, result.id)
    assert again.date_done is not None
    assert again.queue == "celery"


def test_a_worker_runs_tasks_in_this_process_so_that_mocks_are_seen(app):
    seen = []

    @app.task
    def look():
        seen.append(threading.get_ident())

    with start_worker(app), mock.patch.object(app, "main", "replaced"):
        look.delay().get(timeout=5)

    assert seen
    assert seen[0] != threading.get_ident()


def test_a_task_that_is_due_later_or_tried_again_runs_in_a_worker_of_a_test(app):
    runs = []

    @app.task(bind=True, max_retries=2)
    def flaky(self):
        runs.append(self.request.retries)
        if self.request.retries < 2:
            raise self.retry(countdown=0.01, exc=ValueError("not yet"))
        return self.request.id

    with start_worker(app):
        result = flaky.apply_async(countdown=0.05)
        assert result.get(timeout=5) == result.id

    assert runs == [0, 1, 2]
    assert result.retries == 2


def test_too_many_retries_raise_what_was_given_or_max_retries_exceeded(app):
    @app.task(bind=True)
    def asks(self):
        try:
            self.retry(countdown=0, max_retries=0)
        except self.MaxRetriesExceededError:
            return "no more"

    with start_worker(app):
        assert asks.delay().get(timeout=5) == "no more"
        with pytest.raises(MaxRetriesExceededError):
            app.task(name="t", bind=True)(lambda self: self.retry(max_retries=0)).delay().get(5)


def test_values_come_back_as_they_were_without_annotations(app):
    @app.task
    def same(value, **named):
        return [value, named, type(value).__name__]

    values = [
        datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        date(2026, 1, 2),
        Decimal("1.50"),
        UUID(int=7),
        b"text",
        b"\xff",
    ]
    with start_worker(app):
        found = same.delay(values, when=values[0]).get(timeout=5)

    assert found == [values, {"when": values[0]}, "list"]


def test_the_request_of_a_run_has_celerys_names(app):
    found = {}

    @app.task(bind=True)
    def look(self, value, named=None):
        request = self.request
        found.update(
            id=request.id, task=request.task, args=request.args, kwargs=request.kwargs,
            way=request.delivery_info, headers=request.headers, direct=request.called_directly,
            tenant=request.get("tenant"), tenant_too=request.tenant, chain=request.chain,
            current=current_task == self, name=current_task.name, same=look.request is request,
        )  # fmt: skip
        request.chain = None
        request.mine = 1
        assert self.request.mine == 1

    with start_worker(app, queues=["mail"]):
        result = look.apply_async((1,), {"named": 2}, queue="mail", headers={"tenant": "x"})
        result.get(timeout=5)

    assert found.pop("way").items() >= {"exchange": "", "routing_key": "mail"}.items()
    assert found == {
        "id": result.id, "task": look.name, "args": [1], "kwargs": {"named": 2},
        "headers": {"tenant": "x"}, "tenant": "x", "tenant_too": "x", "chain": None,
        "direct": False, "current": True, "name": look.name, "same": True,
    }  # fmt: skip
    assert look.request.id is None
    assert look.request.called_directly


def test_progress_is_a_mapping_and_a_started_task_tells_its_worker(app):
    begun, go_on = threading.Event(), threading.Event()

    @app.task(bind=True, track_started=True)
    def slow(self):
        self.update_state(state="STARTED", meta={"step": 0})
        begun.set()
        assert go_on.wait(5)
        self.update_state(state="PROGRESS", meta={"done": 1})
        begun.set()
        go_on.clear()
        assert go_on.wait(5)

    with start_worker(app):
        result = slow.delay()
        assert begun.wait(5)
        assert (result.state, result.info) == ("STARTED", {"step": 0})
        begun.clear()
        go_on.set()
        assert begun.wait(5)
        assert (result.state, result.info) == ("PROGRESS", {"done": 1})
        go_on.set()
        result.get(timeout=5)


def test_a_task_that_sets_its_end_and_raises_ignore_ends_so(app):
    @app.task(bind=True)
    def ends(self, state, meta):
        self.update_state(state=state, meta=meta)
        raise Ignore

    with start_worker(app):
        failed = ends.delay("FAILURE", {"exc_type": "KeyError", "exc_message": ["a", "b"]})
        with pytest.raises(KeyError):
            failed.get(timeout=5)
        assert (failed.state, str(failed.info)) == ("FAILURE", "a\nb")
        odd = ends.delay("FAILURE", {"custom": 1})
        assert isinstance(odd.get(timeout=5, propagate=False), Exception)
        assert odd.state == "FAILURE"
        assert ends.delay("SUCCESS", [1]).get(timeout=5) == [1]
        revoked = ends.delay("REVOKED", None)
        with pytest.raises(TaskRevokedError):
            revoked.get(timeout=5)
        assert revoked.state == "REVOKED"


def test_ignore_alone_stores_no_result(app):
    @app.task
    def ignored():
        raise Ignore

    with start_worker(app):
        result = ignored.delay()
        assert result.get(timeout=5) is None
    assert (result.state, result.ready()) == ("PENDING", False)


def test_a_failure_is_raised_or_returned(app):
    @app.task
    def fails():
        raise KeyError("gone")

    with start_worker(app):
        result = fails.delay()
        with pytest.raises(KeyError):
            result.get(timeout=5)
        assert isinstance(result.get(propagate=False), KeyError)
    assert isinstance(result.info, KeyError)
    assert "fails" in result.traceback
    with pytest.raises(KeyError):
        result.maybe_throw()


def test_get_inside_a_task_is_refused_unless_it_is_allowed(app):
    inner = app.task(add)

    @app.task
    def outer(**options):
        return inner.apply_async((1, 2)).get(timeout=0.01, **options)

    with start_worker(app):
        with pytest.raises(RuntimeError):
            outer.delay().get(timeout=5)
        with pytest.raises(TimeoutError):
            outer.delay(disable_sync_subtasks=False).get(timeout=5)


def test_tasks_of_a_class_of_ones_own_are_called_with_hooks_and_keep_state(make):
    calls = []

    class Base(Task):
        max_retries = 7

        def __init__(self):
            self.seen = 0

        def __call__(self, *args, **kwargs):
            calls.append("call")
            return super().__call__(*args, **kwargs)

        def before_start(self, task_id, args, kwargs):
            calls.append("before")

        def on_success(self, retval, task_id, args, kwargs):
            calls.append(("success", retval))

        def after_return(self, status, retval, task_id, args, kwargs, einfo):
            calls.append(("after", status))

    app = make(task_cls=Base)

    @app.task(bind=True)
    def count(self):
        self.seen += 1
        return self.seen, self.max_retries, self.request.called_directly

    with start_worker(app):
        count.delay().get(timeout=5)
        assert count.delay().get(timeout=5) == [2, 7, False]
    assert calls[-4:] == ["before", "call", ("success", (2, 7, False)), ("after", "SUCCESS")]


def test_a_class_with_run_is_registered_as_a_task(app):
    class Double(Task):
        name = "double"

        def run(self, x):
            return 2 * x, self.request.id

    task = app.register_task(Double())

    with start_worker(app):
        result = task.delay(4)
        assert result.get(timeout=5) == [8, result.id]
    assert app.tasks["double"] is task


def test_calls_by_name_and_by_signature_are_sent(app):
    task = app.task(add, name="add")

    with start_worker(app):
        assert app.send_task("add", (1,), {"y": 2}, queue=None).get(timeout=5) == 3
        assert task.s(1).set(priority=3).delay(y=4).get(timeout=5) == 5
        assert app.signature("add", (1, 2)).apply_async().get(timeout=5) == 3
        assert task.si(1, 2).apply_async((9, 9)).get(timeout=5) == 3
        assert [r.get(5) for r in app.enqueue_many(task.s(i, i) for i in range(3))] == [0, 2, 4]


def test_unknown_options_of_a_call_are_dropped_with_one_warning_and_links_refused(app, caplog):
    task = app.task(add)
    warned.clear()

    for _ in range(2):
        task.apply_async((1, 2), argsrepr="…", producer=None, MessageGroupId="x", retry=True)
    with pytest.raises(ConfigError, match="not in this version: link"):
        task.apply_async((1, 2), link=task.s(1))

    assert caplog.text.count("argsrepr") == caplog.text.count("MessageGroupId") == 1


def test_a_shared_task_is_sent_by_the_app_that_is_current(make, streams):
    shared = shared_task(name="shared.add", ignore_result=True)(add)
    one, two = make("one", namespace="one"), make("two", namespace="two")

    shared.delay(1, 2)
    one.set_current()
    shared.delay(1, 2)

    assert (streams(one), streams(two)) == ({"celery": 1}, {"celery": 1})
    assert current_app == one
    assert shared.app is one
    assert shared.ignore_result
    assert "shared.add" in two.tasks


def test_eager_calls_hand_over_the_objects_themselves(app):
    class Model:
        pass

    model = Model()
    task = app.task(lambda value: value, name="same")
    result = task.apply((model,))

    assert result.get() is model
    assert (result.state, result.successful(), result.ready()) == ("SUCCESS", True, True)


def test_eager_failures_are_raised_as_the_settings_say_at_each_call(app):
    error = ValueError("no")

    @app.task
    def fails():
        raise error

    assert fails.apply().result is error
    with pytest.raises(ValueError, match="no"):
        fails.apply(throw=True)
    app.conf.task_always_eager = True
    assert fails.delay().state == "FAILURE"
    with pytest.raises(ValueError, match="no"):
        fails.delay().get()
    app.conf.task_eager_propagates = True
    with pytest.raises(ValueError, match="no"):
        fails.delay()


def test_a_reject_fails_an_eager_task(app):
    @app.task
    def rejects():
        raise Reject("no")

    assert rejects.apply().state == "FAILURE"


def test_delay_goes_through_an_apply_async_that_is_overridden_or_replaced(app):
    class Loud(Task):
        def apply_async(self, args=None, kwargs=None, task_id=None, *more, **options):
            return super().apply_async(args, {**(kwargs or {}), "y": 7}, task_id, *more, **options)

    loud, plain = app.task(add, base=Loud, name="loud"), app.task(add, name="plain")
    with mock.patch.object(plain, "apply_async") as replaced:
        plain.delay(1, 2)
    with start_worker(app):
        assert loud.delay(1).get(timeout=5) == 8

    replaced.assert_called_once()


def test_an_error_whose_class_is_not_loaded_is_a_task_error(app):
    @app.task(bind=True)
    def ends(self):
        self.update_state(state="FAILURE", meta={"exc_type": "NoSuchError", "exc_message": "m"})
        raise Ignore

    with start_worker(app), pytest.raises(TaskError, match="NoSuchError: m"):
        ends.delay().get(timeout=5)
