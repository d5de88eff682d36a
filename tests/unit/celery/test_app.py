"""Apps of streamq.celery: their names, tasks, current app and what is refused."""

import pickle
import sys
from unittest import mock

import pytest

import streamq
from streamq.celery import Celery, Task, current_app, current_task, shared_task
from streamq.celery.current import CurrentApp, celery_apps
from streamq.cli.main import main
from streamq.context import NotInThisVersion
from streamq.errors import ConfigError, TaskNotFound


def send_mail(to, subject="hello"):
    """Send a mail."""
    return f"{to}: {subject}"


@pytest.mark.parametrize(
    ("main", "name"),
    [(None, "celery"), ("", "celery"), ("proj", "proj"), ("a:b@c", "a-b-c"), ("x\n", "x-")],
)
def test_the_name_of_an_app_is_made_of_main(main, name):
    app = Celery(main)

    assert (app.main, app.name) == (main, name)


def test_the_last_app_made_is_current_unless_it_does_not_want_to_be(make):
    one, two = make("one"), make("two")
    make("three", set_as_current=False)

    assert current_app == two
    one.set_current()
    assert current_app.main == "one"
    assert not current_task


def test_a_shared_task_needs_no_app_and_makes_none_until_it_is_used():
    before = len(celery_apps)
    task = shared_task(send_mail)
    decorate = shared_task(name="mail.send", max_retries=9)
    named = decorate(send_mail)

    assert (task.__name__, task.__doc__, task.__module__) == (
        "send_mail", "Send a mail.", __name__,
    )  # fmt: skip
    assert not isinstance(task, streamq.App)
    assert repr(task) == "<shared task send_mail>"
    assert len(celery_apps) == before
    assert CurrentApp.app is CurrentApp.default is None

    app = Celery("late")
    assert task("me") == "me: hello"
    assert (task.app, task.name) == (app, f"{__name__}.send_mail")
    assert isinstance(task, Task)
    assert named.max_retries == 9
    assert {task.name, "mail.send"} <= set(app.tasks)


def test_without_any_app_a_shared_task_makes_one_at_its_first_use():
    task = shared_task(send_mail)

    assert task("me") == "me: hello"
    assert task.app.main == "default"


def test_a_shared_task_is_pickled_by_reference():
    data = pickle.dumps(shared)

    assert pickle.loads(data) is shared


@shared_task
def shared():
    """A shared task of this module."""


def test_a_shared_task_can_be_patched(app):
    with mock.patch(f"{__name__}.shared.delay") as delay:
        shared.delay(1)
    with mock.patch.object(shared, "apply_async") as apply_async:
        shared.delay(2)

    delay.assert_called_once_with(1)
    apply_async.assert_called_once_with((2,), {})
    assert "delay" not in vars(app.tasks[shared.name])


def test_a_task_of_one_app_is_one_of_the_others_unless_it_is_not_shared(make):
    one, two = make("one"), make("two")
    task = one.task(send_mail)
    own = one.task(name="own", shared=False)(send_mail)

    assert two.tasks[task.name] is not task
    assert two.tasks[task.name].app is two
    assert task.app is one
    assert own.name not in two.tasks


def test_two_different_tasks_of_one_name_are_a_mistake(app):
    app.task(name="mail")(send_mail)

    with pytest.raises(ConfigError, match="two tasks are named 'mail'"):
        app.task(name="mail")(lambda: None)


def test_tasks_can_be_assigned_under_other_names(app):
    task = app.task(send_mail)
    app.tasks["old.name"] = task

    assert app.tasks["old.name"] is task
    with pytest.raises(TaskNotFound):
        app.tasks["nothing"]
    app.tasks.unregister(task)
    assert task.name not in app.tasks


def test_unknown_options_of_a_task_become_attributes_and_a_likely_typo_is_named(app, caplog):
    task = app.task(ignore_results=True, rate_limit="10/m", trail=False, colour="red")(send_mail)

    assert (task.ignore_results, task.trail, task.colour) == (True, False, "red")
    assert "ignore_results is no option" in caplog.text
    assert "is ignore_result meant?" in caplog.text
    assert "not in this version: rate_limit" in caplog.text
    assert "trail" not in caplog.text
    assert "colour" not in caplog.text


def test_a_queue_with_a_routing_key_is_the_queue_as_with_celery(app):
    task = app.task(queue="mail", routing_key="mail.important")(send_mail)

    assert task.own_options == {"queue": "mail"}


def test_the_class_of_tasks_may_be_named_as_text_or_assigned(make):
    app = make(task_cls=f"{__name__}:Loud")
    assert app.task(send_mail)("me") == "ME: HELLO"

    class Quiet(app.Task):
        def __call__(self, *args, **kwargs):
            return self.run(*args, **kwargs).lower()

    app.Task = Quiet
    assert app.task(name="quiet")(send_mail)("ME") == "me: hello"
    with pytest.raises(ConfigError, match="there is no class"):
        _ = make(task_cls="streamq.celery:Nothing").Task


class Loud(Task):
    """A class of tasks, named as text by a test."""

    def __call__(self, *args, **kwargs):
        return super().__call__(*args, **kwargs).upper()


def test_signals_of_the_app_are_sent_once_when_its_tasks_are_needed(app):
    seen = []

    @app.on_after_configure.connect
    def configured(sender, **kwargs):
        seen.append("configured")
        sender.add_periodic_task(10.0, app.task(send_mail).s("me"), name="every 10")

    @app.on_after_finalize.connect
    def finalized(sender, **kwargs):
        seen.append(("finalized", sender is app))

    assert seen == []
    assert len(app.tasks) == 1
    app.finalize()
    assert seen == ["configured", ("finalized", True)]
    entry = app.conf.beat_schedule["every 10"]
    assert (entry["schedule"], entry["task"]) == (10.0, f"{__name__}.send_mail")
    assert entry["args"] == ("me",)


def test_parts_that_streamq_does_not_have_are_refused_with_what_there_is(app):
    for name in ("connection", "amqp", "backend", "steps", "setup_security"):
        assert not hasattr(app, name)
        with pytest.raises(NotInThisVersion, match=f"not in this version: app.{name}\n  → "):
            getattr(app, name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = app.nothing


def test_signatures_of_one_call_can_be_changed_and_not_combined(app):
    task = app.task(send_mail)
    call = task.s("me").set(queue="mail", countdown=3)

    assert (call.task, call.args, call.kwargs) == (task.name, ("me",), {})
    assert call.options == {"queue": "mail", "countdown": 3}
    assert call.clone(kwargs={"subject": "x"})() == "me: x"
    assert task.si("me").clone(("other",)).args == ("me",)
    assert app.signature(dict(call)["task"], ("a",)).type is task
    assert pickle.loads(pickle.dumps(call)) == call
    assert repr(call) == f"{task.name}('me')"
    for combine in (lambda: call | call, lambda: call.link(call), lambda: call.on_error(call)):
        with pytest.raises(NotInThisVersion, match="not in this version"):
            combine()


def test_a_request_can_be_pushed_for_a_test(app):
    @app.task(bind=True)
    def look(self):
        return self.request.id, self.request.retries

    look.push_request(id="7", retries=2)
    assert (look.request.id, look.request.retries) == ("7", 2)
    look.pop_request()
    assert look.request.id is None


def test_a_retry_where_no_worker_runs_the_task_raises_its_reason(app):
    @app.task(bind=True)
    def again(self):
        self.retry(exc=ValueError("why"), countdown=5, unknown=1)

    with pytest.raises(ValueError, match="why"):
        again()


def test_positional_options_of_the_decorator_are_refused(app):
    with pytest.raises(ConfigError, match="by name: not 'mail'"):
        app.task("mail")


@pytest.mark.parametrize("backend", ["redis://elsewhere.invalid:6379/1", "rpc://", "django-db"])
def test_a_backend_on_another_server_is_refused_with_what_to_do(backend):
    with pytest.raises(ConfigError, match="result_backend"):
        _ = Celery("shop", broker="redis://nowhere.invalid:6379/0", backend=backend).conf.url


def test_a_backend_on_the_same_server_is_taken():
    url = "redis://nowhere.invalid:6379"

    assert Celery("shop", broker=f"{url}/0", backend=f"{url}/1").conf.url == f"{url}/0"


def test_flasks_recipe_for_a_class_of_tasks_works(make):
    entered = []
    app = make()

    class ContextTask(app.Task):
        def __call__(self, *args, **kwargs):
            entered.append(self.name)
            return self.run(*args, **kwargs)

    app.Task = ContextTask
    task = app.task(name="mail")(send_mail)

    assert task.apply(("me",)).get() == "me: hello"
    assert task("me") == "me: hello"
    assert entered == ["mail", "mail"]


def test_a_class_that_a_factory_assigns_is_that_of_earlier_tasks_too(app):
    entered = []

    class ContextTask(app.Task):
        queue = "context"

        def __call__(self, *args, **kwargs):
            entered.append(self.name)
            return self.run(*args, **kwargs)

    class Own(Task):
        pass

    task = app.task(name="mail", max_retries=7, rate="x")(send_mail)
    bound = app.task(name="bound", bind=True)(lambda self: self.name)
    own = app.task(name="own", base=Own)(send_mail)
    app.Task = ContextTask

    assert task.apply(("me",)).get() == "me: hello"
    assert bound.delay.__self__ is bound
    assert bound() == "bound"
    assert bound.__wrapped__.__self__ is bound
    assert own("me") == "me: hello"
    assert entered == ["mail", "bound"]
    assert (task.queue, task.max_retries, task.rate) == ("context", 7, "x")
    assert app.tasks["mail"] is task
    app.Task = Own
    assert isinstance(task, ContextTask), "the tasks were complete"


def test_reading_tasks_takes_in_what_is_shared_later(app):
    assert len(app.tasks) == 0
    task = shared_task(send_mail)

    assert task.name in app.tasks
    assert app.tasks[task.name].app is app


def test_the_name_of_a_task_can_be_made_by_a_subclass():
    class Own(Celery):
        def gen_task_name(self, name, module):
            return f"own.{name}"

    assert Own("x").task(send_mail).name == "own.send_mail"


def test_a_retry_option_that_nobody_knows_is_dropped(app, caplog):
    @app.task(bind=True)
    def again(self):
        raise self.retry(countdown=0, link=None, priority_of_mine=1, max_retries=1)

    result = again.apply()

    assert result.state == "FAILURE"
    assert "the option priority_of_mine of retry is dropped" in caplog.text


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, ["worker", "-l", "info"]),
        (["shop.py", "worker", "-l", "info"], ["worker", "-l", "info"]),
        (["celery", "beat"], ["beat"]),
        (["beat"], ["beat"]),
        ([], []),
    ],
)
def test_start_reads_the_words_of_the_program(monkeypatch, given, words):
    app = started(monkeypatch, "shop.py worker -l info")

    app.start(given)

    assert app.words == ["celery", "-A", f"{__name__}:the_app", *words]


@pytest.mark.parametrize("line", ["shop.py worker -c 3", "manage.py run_tasks"])
def test_worker_main_reads_the_words_of_a_worker(monkeypatch, line):
    app = started(monkeypatch, line)

    app.worker_main()
    assert app.words[3:] == (["worker", "-c", "3"] if "worker" in line else ["worker"])

    app.worker_main(["worker", "-l", "info"])
    assert app.words[3:] == ["worker", "-l", "info"]


def started(monkeypatch, line):
    """An app of this module; the words that it gives to the command line are kept."""
    app = Celery("shop")
    monkeypatch.setattr(sys, "argv", line.split())
    monkeypatch.setitem(globals(), "the_app", app)
    monkeypatch.setattr(main, "main", lambda words, **_: vars(app).update(words=words))
    return app


def test_the_backend_of_a_task_is_refused_by_name(make):
    @make().task(name="add")
    def add(): ...

    with pytest.raises(NotInThisVersion, match=r"task\.backend\n.*AsyncResult"):
        add.backend.store_result("id", None, "SENT")
    assert not hasattr(add, "backend")
    assert make("other").task(name="own", backend="mine")(add.run).backend == "mine"
