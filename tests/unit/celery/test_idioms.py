"""What code written for Celery does with tasks, proxies and registries, beside sending."""

import copy
import functools
import inspect
import pickle
from unittest import mock

import pytest

from streamq.celery import AsyncResult, Signature, Task, current_app, current_task, shared_task
from streamq.context import NotInThisVersion
from streamq.errors import ConfigError


@shared_task
def plain(x):
    """A shared task of this module."""
    return x


@pytest.fixture
def task(app):
    """The shared task of the app; the process has forgotten it before this test."""
    return app.register_task(plain.__wrapped__)


def test_a_proxy_is_pickled_as_one_and_a_task_by_its_name(app, task):
    for proxy in (current_app, current_task):
        assert type(pickle.loads(pickle.dumps(proxy))) is type(proxy)
    assert pickle.loads(pickle.dumps(current_app)) == app
    assert pickle.loads(pickle.dumps(task)) is task
    assert copy.deepcopy({"task": task})["task"] is task


def test_the_function_of_a_task_is_there_for_tests(app):
    @app.task(bind=True)
    def bound(self, x):
        return self.name, x

    fake = mock.Mock()
    fake.name = "fake"

    assert plain.__wrapped__(1) == 1
    assert bound.__wrapped__(2) == (bound.name, 2)
    assert bound.__wrapped__.__func__(fake, 3) == ("fake", 3)
    assert list(inspect.signature(plain).parameters) == ["x"]
    assert list(inspect.signature(bound).parameters) == ["x"]


def test_the_registry_is_a_mapping_that_can_be_changed(app, task):
    app.tasks.update({"old": task})

    assert app.tasks.setdefault("older", plain) == app.tasks["older"] == task
    assert app.tasks.get("nothing") is None
    assert app.tasks.pop("old") is task
    with pytest.raises(KeyError, match="no task named 'old'"):
        app.tasks["old"]
    with pytest.raises(ConfigError, match="takes a task, not 'text'"):
        app.tasks["old"] = "text"


def test_a_result_equals_its_id(app):
    assert AsyncResult("x") == "x"
    assert AsyncResult("x") == AsyncResult("x")
    assert {AsyncResult("x"), "x"} == {"x"}


def test_compressions_and_serializers_have_celerys_names_in_calls_and_decorators(app):
    task = app.task(name="t", compression="gzip", serializer="application/json")(plain)
    call = app.call_of(task.s(1).set(compression="zstandard", serializer="application/x-msgpack"))

    assert (task.compression, task.serializer) == ("zlib", "json")
    assert dict(call.options) == {"compression": "zstd", "serializer": "msgpack"}
    with pytest.raises(ConfigError, match="option compression: unknown compression 'bzip2'"):
        app.task(name="other", compression="bzip2")(plain)


def test_a_likely_mistake_in_an_option_of_a_call_is_named(app, caplog):
    app.call_of(plain.s(1).set(countdwn=3))

    assert "countdwn of a call is dropped: unknown here; is countdown meant?" in caplog.text


def test_a_patched_run_is_what_a_call_of_the_task_runs(app):
    @app.task(bind=True)
    def bound(self):
        return "own"

    for task in (bound, app.task(name="t")(lambda: "own")):
        with mock.patch.object(task, "run", return_value="patched") as run:
            assert task() == task.apply().get() == "patched"
            assert run.call_count == 2
        assert task() == "own"


def test_a_mock_in_place_of_a_classs_apply_async_notes_only_the_calls(app):
    task = app.task(name="t")(plain.__wrapped__)

    with mock.patch.object(type(task), "apply_async") as apply_async:
        task.delay(1)

    assert apply_async.mock_calls == [mock.call((1,), {})]


def test_a_signature_can_be_made_of_its_mapping_and_given_its_id(app, task):
    call = app.signature(task.name, (1,))
    result = call.freeze()

    assert Signature.from_dict(dict(call)) == call
    assert call.options["task_id"] == call.id == result.id == call.freeze().id
    assert task.s(1).freeze("mine").id == "mine"
    assert task.s(1).reprcall() == f"{task.name}(1)"


def test_parts_of_a_result_that_streamq_does_not_have_are_refused_by_name(app):
    for name in ("backend", "graph", "root", "get_leaf"):
        assert not hasattr(AsyncResult("x"), name)
        with pytest.raises(NotInThisVersion, match=f"AsyncResult.{name}\n  → instead: "):
            getattr(AsyncResult("x"), name)
    with pytest.raises(AttributeError, match="no attribute 'stat'"):
        _ = AsyncResult("x").stat


def test_the_sender_of_a_workers_signals_is_its_name_with_hostname_and_app(app):
    sender = app.worker_sender("celery@web")

    assert sender == sender.hostname == "celery@web"
    assert sender.app is app


def test_an_instance_that_no_app_has_can_be_called_and_not_sent(app):
    class Double(Task):
        def run(self, x):
            return 2 * x

    class Nothing(Task):
        pass

    assert Double()(3) == 6
    with pytest.raises(ConfigError, match=r"(?s)Double is not registered.*app.register_task"):
        Double().delay(3)
    with pytest.raises(ConfigError, match="Nothing has no method run"):
        app.register_task(Nothing())


def test_a_callable_without_a_name_is_refused(app):
    with pytest.raises(ConfigError, match="name"):
        app.task(functools.partial(print))


def test_an_option_of_a_later_version_that_is_not_set_is_no_likely_mistake(app, caplog):
    assert app.task(name="t", rate_limit=None)(plain.__wrapped__).rate_limit is None
    assert caplog.text == ""
