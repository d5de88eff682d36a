"""Classes of tasks: options as attributes, ``__call__``, hooks, and every way to send."""

import asyncio
from unittest import mock

import pytest

import streamq
from streamq import App, Retry, Task
from streamq.errors import ConfigError
from streamq.tasks import has_own_apply_async


class Noting(Task):
    """Notes which hooks are called, with what."""

    def __init__(self):
        self.noted = []

    def before_start(self, task_id, args, kwargs):
        self.noted.append(("before_start", self.request.id == task_id, args, kwargs))

    def on_success(self, retval, task_id, args, kwargs):
        self.noted.append(("on_success", retval, args, kwargs))

    def on_failure(self, exc, task_id, args, kwargs, einfo):
        self.noted.append(
            ("on_failure", repr(exc), einfo.exception is exc, "Traceback" in str(einfo))
        )

    def on_retry(self, exc, task_id, args, kwargs, einfo):
        self.noted.append(("on_retry", repr(exc)))

    def after_return(self, status, retval, task_id, args, kwargs, einfo):
        self.noted.append(("after_return", status, retval if einfo is None else repr(retval)))

    @property
    def names(self):
        return [name for name, *_ in self.noted]


@pytest.fixture
def app():
    return App("shop", url="redis://nowhere.invalid")


def test_hooks_are_called_around_a_run_that_returns(app):
    @app.task(base=Noting)
    def add(x, y=0):
        return x + y

    assert add.apply((1,), {"y": 2}).get() == 3
    assert add.noted == [
        ("before_start", True, (1,), {"y": 2}),
        ("on_success", 3, (1,), {"y": 2}),
        ("after_return", "SUCCESS", 3),
    ]


def test_hooks_of_a_run_that_fails_come_when_no_retry_is_left(app):
    @app.task(base=Noting, autoretry_for=(ValueError,), max_retries=1)
    def broken():
        raise ValueError("no")

    assert broken.apply().failed()
    assert broken.noted == [
        ("before_start", True, (), {}),
        ("on_retry", "ValueError('no')"),
        ("before_start", True, (), {}),
        ("on_failure", "MaxRetriesExceeded('broken')", True, True),
        ("after_return", "FAILURE", "MaxRetriesExceeded('broken')"),
    ] or broken.names == ["before_start", "on_retry", "before_start", "on_failure", "after_return"]
    assert "ValueError('no')" in broken.noted[3][1]


def test_what_before_start_raises_the_task_has_raised(app):
    class Closed(Task):
        def before_start(self, task_id, args, kwargs):
            raise Retry(max_retries=0, exc=PermissionError("closed"))

    @app.task(base=Closed)
    def never():
        raise AssertionError

    with pytest.raises(PermissionError, match="closed"):
        never.apply().get()


@pytest.mark.parametrize("raised", [RuntimeError("odd"), SystemExit(3)], ids=repr)
def test_a_hook_that_raises_afterwards_is_logged_and_changes_nothing(app, caplog, raised):
    class Odd(Task):
        def on_success(self, *args):
            raise raised

    @app.task(base=Odd)
    def fine():
        return 1

    assert fine.apply().get() == 1
    assert "Odd.on_success failed" in caplog.text


def test_a_class_may_call_the_function_in_its_own_way_and_keep_state(app):
    class Counting(Task):
        calls = 0

        def __call__(self, *args, **kwargs):
            self.calls += 1
            return f"{super().__call__(*args, **kwargs)} of {self.run(*args, **kwargs)[0]}"

    @app.task(base=Counting, bind=True)
    def me(self, word):
        return word, self is me, self.request.called_directly

    assert me.apply(("a",)).get() == "('a', True, False) of a"
    assert me.apply(("b",)).get() == "('b', True, False) of b"
    assert me.calls == 2
    assert Counting.calls == 0
    assert me("c") == "('c', True, True) of c"


def test_a_task_that_calls_itself_in_its_run_is_called_directly_there(app):
    @app.task(base=Noting, bind=True)
    def count(self, number):
        told.append((number, self.request.called_directly))
        return number and count(number - 1)

    told = []
    count.apply((1,))

    assert told == [(1, False), (0, True)]


def test_attributes_of_a_class_are_options_and_those_of_the_task_win(app):
    class Base(Task):
        max_retries = 7
        queue = "mail"
        acks_late = False
        own = "kept"

    class Patient(Base):
        max_retries = 9

    @app.task(base=Patient, queue="fast", name="named")
    def send():
        return None

    assert (send.max_retries, send.queue, send.acks_late, send.own) == (9, "fast", False, "kept")
    assert send.own_options == {
        "max_retries": 9,
        "queue": "fast",
        "acks_late": False,
        "name": "named",
    } or send.own_options == {"max_retries": 9, "queue": "fast", "acks_late": False}
    assert (send.time_limit, send.default_retry_delay) == (3600, 180)
    with pytest.raises(AttributeError, match="nothing_here"):
        _ = send.nothing_here


def test_the_class_of_the_app_is_that_of_its_tasks(app):
    app.task_class = Noting

    @app.task
    def one():
        return None

    @app.task(base=Task)
    def two():
        return None

    assert (type(one), type(two)) == (Noting, Task)


@pytest.mark.parametrize("base", [object, "Task", Task.run])
def test_what_is_no_class_of_tasks_is_refused(app, base):
    with pytest.raises(ConfigError, match="no class of tasks"):
        app.task(base=base)(print)


def test_the_running_task_has_what_its_task_has(app):
    @app.task(bind=True, max_retries=5)
    def bound(self):
        return self.max_retries, self.app is app, bound.request is self.request

    assert bound.apply().get() == [5, True, True]
    assert bound() == (5, True, True)
    assert bound.request.called_directly


# Every way to send leads through an apply_async of one's own


class Redirected(Task):
    """Sends nothing, and says what it would have sent."""

    def apply_async(self, args=None, kwargs=None, **options):
        return args, kwargs, options


def test_every_way_to_send_leads_through_an_overridden_apply_async(app):
    @app.task(base=Redirected)
    def add(x, y=0):
        return x + y

    sent = ((1,), {"y": 2}, {})
    assert add.delay(1, y=2) == add.enqueue(1, y=2) == app.enqueue(add, 1, y=2) == sent
    assert streamq.enqueue(add, 1, y=2) == app.enqueue(add.s(1, y=2)) == sent
    assert asyncio.run(add.aenqueue(1, y=2)) == asyncio.run(app.aenqueue(add, 1, y=2)) == sent
    assert app.enqueue_many([add.s(1, y=2), add.s(1, y=2)]) == [sent, sent]
    mail = {"queue": "mail", "autoretry_for": frozenset({"ValueError"})}
    call = add.options(queue="mail", autoretry_for=ValueError)
    assert call.delay(1) == ((1,), {}, mail)
    assert add.apply((1,)).get() == 1


def test_many_eager_calls_lead_through_an_overridden_apply_async_too():
    app = App("shop", url="redis://nowhere.invalid", task_always_eager=True)
    own = app.task(base=Redirected, name="own")(lambda x: x)
    plain = app.task(name="plain")(lambda x: x)

    sent, ran = app.enqueue_many([own.s(1), plain.s(2)])

    assert (sent, ran.get()) == (((1,), {}, {}), 2)
    with pytest.raises(TypeError, match="takes signatures such as"):
        app.enqueue_many([plain])


@pytest.mark.parametrize("method", ["delay", "apply_async"])
def test_a_test_may_replace_how_a_task_is_sent(app, method):
    @app.task
    def add(x, y=0):
        return x + y

    with mock.patch.object(add, method) as replaced:
        assert add.delay(1, y=2) is replaced.return_value
    replaced.assert_called_once()
    if method == "apply_async":
        replaced.assert_called_once_with((1,), {"y": 2})
    assert not has_own_apply_async(add)


def test_a_traceback_begins_with_the_code_of_the_user(app):
    class Own(Task):
        def __call__(self, *args):
            return super().__call__(*args)

    plain = app.task(name="plain")(lambda: 1 / 0)
    own = app.task(base=Own, name="own")(lambda: 1 / 0)

    for task, first in ((plain, "<lambda>"), (own, "__call__")):
        lines = task.apply().traceback.splitlines()
        assert __file__ in lines[1]
        assert lines[1].endswith(f"in {first}")
