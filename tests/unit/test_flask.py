"""The Flask extension: its settings, the context of a run, its command, and how it is found."""

import sys

import flask
import pytest
from click.testing import CliRunner
from flask import Flask, current_app, g
from flask.cli import FlaskGroup

from streamq import App, Middleware, current_task
from streamq.contrib.flask import Streamq
from streamq.discovery import app_in
from streamq.errors import ConfigError

EAGER = {"task_always_eager": True}


@pytest.fixture
def queue():
    return Streamq()


def flask_app(queue, **settings):
    """A Flask application with these settings of streamq."""
    made = Flask(__name__)
    made.config["STREAMQ"] = {**EAGER, **settings}
    made.config["NAME"] = settings.get("namespace")
    queue.init_app(made)
    return made


# Settings


def test_the_settings_are_those_of_the_flask_application_in_either_case(queue):
    made = flask_app(queue, lease=5, NAMESPACE="shop")

    assert (queue.conf.lease, queue.conf.namespace) == (5, "shop")
    assert made.extensions["streamq"] is queue


def test_they_override_those_of_the_constructor_and_the_environment_overrides_them(monkeypatch):
    monkeypatch.setenv("STREAMQ_LEASE", "7")
    queue = Streamq(lease=5, namespace="shop", max_retries=9)
    flask_app(queue, lease=6, namespace="other")

    assert (queue.conf.lease, queue.conf.namespace, queue.conf.max_retries) == (7, "other", 9)


def test_a_later_application_replaces_all_settings_of_an_earlier_one():
    queue = Streamq(namespace="own")
    flask_app(queue, namespace="first", lease=5, url="redis://first")
    payloads = queue.payloads
    assert queue.url == "redis://first"

    flask_app(queue, url="redis://second", message_limit="1KiB")

    assert (queue.conf.namespace, queue.conf.lease) == ("own", 15)
    assert queue.url == "redis://second"
    assert queue.payloads.limit == 1024 != payloads.limit


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"STREAMQ": {"leese": 5}}, ["leese", "lease", "app.config['STREAMQ']"]),
        ({"STREAMQ": "redis://here"}, ["must be a mapping, not str", '{"url":']),
    ],
)
def test_wrong_settings_are_refused_with_their_place(queue, config, words):
    made = Flask(__name__)
    made.config.update(config)

    with pytest.raises(ConfigError) as refused:
        queue.init_app(made)

    said = "\n".join([str(refused.value), *getattr(refused.value, "__notes__", ())])
    assert all(word in said for word in words), said


def test_what_is_no_flask_application_is_refused(queue):
    with pytest.raises(ConfigError, match="not 'shop'"):
        queue.init_app("shop")


def test_a_flask_application_has_one_extension(queue):
    made = flask_app(queue)
    queue.init_app(made)  # once more is no mistake

    with pytest.raises(ConfigError, match="has a Streamq already"):
        Streamq(made)


def test_without_an_application_nothing_is_sent_or_run(queue):
    @queue.task
    def add(x, y):
        return x + y

    for act in (lambda: add.enqueue(1, 2), queue.import_tasks, lambda: queue.url):
        with pytest.raises(ConfigError, match="no Flask application yet") as refused:
            act()
        assert "init_app(app)" in str(refused.value)


# Context


def test_an_eager_run_uses_the_context_of_its_caller_or_else_its_own(queue):
    @queue.task
    def seen():
        g.runs = g.get("runs", 0) + 1
        return [current_app.config["NAME"], g.runs]

    made = flask_app(queue, namespace="shop")

    assert seen.apply().get() == ["shop", 1]
    assert seen.enqueue().get() == ["shop", 1]
    with made.app_context():
        g.runs = 6
        assert seen.enqueue().get() == ["shop", 7]
        assert g.runs == 7
    assert not flask.has_app_context()


def test_the_context_of_a_failed_run_ends_with_its_error(queue):
    ended = []

    @queue.task
    def fail():
        raise LookupError("no such thing")

    made = flask_app(queue)
    made.teardown_appcontext(ended.append)

    assert isinstance(fail.enqueue().result, LookupError)
    assert [str(error) for error in ended] == ["no such thing"]


def test_layers_of_middleware_run_inside_of_the_context(queue):
    class Noting(Middleware):
        def run(self, task, next):
            noted.append(current_app.config["NAME"])
            return next(task)

    @queue.task
    def name():
        return current_task().name

    noted = []
    flask_app(queue, namespace="shop")
    queue.middleware = [Noting()]
    queue.middleware = [*queue.middleware, Noting()]

    name.enqueue()

    assert noted == ["shop", "shop"]
    assert len(queue.middleware) == 3
    with pytest.raises(ConfigError):
        queue.middleware = [object()]


def test_modules_with_tasks_are_imported_in_the_context(tmp_path, monkeypatch):
    (tmp_path / "tasks_in_context.py").write_text(
        "from flask import current_app\nNAME = current_app.config['NAME']\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tasks_in_context", raising=False)
    queue = Streamq(include=["tasks_in_context"])
    flask_app(queue, namespace="shop")

    queue.import_tasks()

    assert sys.modules["tasks_in_context"].NAME == "shop"


# Found


def test_a_flask_application_stands_for_its_extension(queue):
    made = flask_app(queue)
    other = Flask("other")
    other.extensions["celery"] = app = App("recipe")

    assert app_in(made) is queue
    assert app_in(other) is app
    assert app_in(Flask("plain")) is None
    assert app_in(current_app) is None  # a proxy, and there is no context
    assert app_in(object()) is None


def test_the_command_flask_has_the_commands_of_streamq(queue, monkeypatch):
    made = flask_app(queue, url="redis://:secret@nowhere.invalid", lease=7)
    runner = made.test_cli_runner()

    shown = runner.invoke(args=["streamq", "config", "show"])
    assert shown.exit_code == 0, shown.output
    assert "redis://:***@nowhere.invalid" in shown.output
    assert "7s" in shown.output

    refused = runner.invoke(args=["streamq", "wroker"])
    assert refused.exit_code == 2
    assert "did you mean worker" in refused.output
    assert "streamq" in runner.invoke(args=["streamq", "queues", "--help"]).output


def test_the_command_flask_shows_a_wrong_setting_without_a_traceback(queue):
    def create_app():
        return flask_app(queue, ulr="redis://here")

    group = FlaskGroup(create_app=create_app)
    refused = CliRunner().invoke(group, ["streamq", "config", "show"])

    assert isinstance(refused.exception, SystemExit), refused.exception
    assert "unknown setting 'ulr'" in refused.output
    assert "did you mean 'url'?" in refused.output
    assert "app.config['STREAMQ']" in refused.output


def test_the_extension_without_flask_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "flask", None)
    monkeypatch.delitem(sys.modules, "streamq.contrib.flask")

    with pytest.raises(ConfigError, match=r'pip install "streamq\[flask\]"'):
        __import__("streamq.contrib.flask")
