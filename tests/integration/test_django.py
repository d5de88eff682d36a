"""``streamq.contrib.django``: a project, its own tests, its checks and its command line.

Django is set up once in a process, and for good: each of these starts processes of its own, and
so takes a second or two.
"""

import json
import os
import secrets
import shutil
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("django") is None:  # it is not imported here: other tests have a Django of their own
    pytest.skip("Django is not installed", allow_module_level=True)

ROOT = Path(__file__).resolve().parents[2]
PROJECT = Path(__file__).with_name("django_project")


class Project:
    """A copy of the project, and commands that are run in it."""

    def __init__(self, folder, url):
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if "STREAMQ" not in name}
        self.env = {
            **kept,
            "STREAMQ_URL": url,
            "STREAMQ_NAMESPACE": f"t{secrets.token_hex(4)}",
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "COLUMNS": "100",
        }

    def run(self, *words, code=0, **env):
        """Run Python with these words; return what it says."""
        done = subprocess.run(
            [sys.executable, "-W", "error", *words],
            cwd=self.folder,
            env={**self.env, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=100,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    def manage(self, *words, **more):
        """Run ``manage.py``; return what it says."""
        return self.run("manage.py", *words, **more)

    def python(self, code, **more):
        """Run a program in the project, with Django set up."""
        setup = "import os, django; os.environ['DJANGO_SETTINGS_MODULE'] = 'project'"
        return self.run("-c", f"{setup}\ndjango.setup()\n{textwrap.dedent(code)}", **more)

    def write(self, name, text):
        """Write a module."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))


@pytest.fixture
def project(tmp_path, server_url, redis):
    shutil.copytree(PROJECT, tmp_path / "project")
    return Project(tmp_path / "project", server_url)


@pytest.mark.parametrize("cases", sorted(path.stem for path in PROJECT.glob("cases_*.py")))
def test_the_tests_of_a_project_pass(project, cases):
    said = project.manage("test", cases)

    assert "\nOK" in said


@pytest.fixture
def producer(project, make_app):
    """An app that knows the tasks of the project by name."""
    return make_app(namespace=project.env["STREAMQ_NAMESPACE"])


def test_a_worker_of_manage_py_needs_no_option(project, producer):
    said = project.manage("streamq", "enqueue", "shop.tasks.add", "1", "2", "--json")
    sent = json.loads(said)
    said = project.manage("streamq", "worker", "--burst", "-c", "1", "--settings=project")

    assert "app streamq.contrib.django:app (manage.py streamq)" in said
    assert "shop.tasks.ship" in said
    assert producer.result(sent["id"]).get(timeout=1) == 3


@pytest.mark.parametrize("pool", [("prefork", "-c", "1"), ("gevent", "-c", "5"), ("solo",)])
def test_connections_are_closed_around_each_run(project, producer, tmp_path, pool):
    if "gevent" in pool:
        pytest.importorskip("gevent", reason="gevent is not installed")
    results = [producer.enqueue("shop.tasks.sees_open_connection") for _ in range(5)]
    words = ("streamq", "worker", "--settings", "project", "--burst", "-P", *pool)
    project.manage(*words, DATABASE=str(tmp_path / "db"))  # one in memory is never closed

    assert [result.get(timeout=1) for result in results] == [False] * 5


def test_help_and_mistakes_name_manage_py(project):
    assert "Usage: manage.py streamq [OPTIONS] COMMAND" in project.manage("help", "streamq")
    assert "manage.py streamq --help" in project.manage("streamq", "wrker", code=2)


def test_a_command_can_be_called(project):
    said = project.python(
        """
        from django.core.management import call_command
        call_command("streamq", "enqueue", "shop.tasks.add", "1", "2")
        call_command("streamq", "queues", "ls", "--json")
        """
    )

    assert "shop.tasks.add" in said
    assert '"default"' in said


def test_a_project_that_is_right_passes_its_checks(project):
    assert "no issues" in project.manage("check")


def test_the_checks_find_a_missing_url(project):
    del project.env["STREAMQ_URL"]

    assert "streamq.W001" in project.manage("check")
    assert "no issues" in project.manage("check", DEBUG="1")
    eager = '{"TASK_ALWAYS_EAGER": true}'
    assert "no issues" in project.manage("check", MORE_SETTINGS=eager)
    assert "no issues" in project.manage("test", "cases_settings")  # though DEBUG is off there


def test_the_checks_find_modules_with_tasks_that_cannot_be_imported(project):
    for number in (1, 2):
        project.write(f"broken{number}/__init__.py", "")
        project.write(f"broken{number}/tasks.py", "import streamq\nimport nowhere\n")
    said = project.manage("check", code=1, MORE_APPS="broken1 broken2")

    for number in (1, 2):
        assert f"(streamq.E002) importing 'broken{number}.tasks' failed" in said
        assert f"broken{number}/tasks.py:2" in said


def test_the_checks_find_two_tasks_of_one_name(project):
    for number in (1, 2):
        project.write(f"shop{number}/__init__.py", "")
        task = "import streamq\n@streamq.task(name='sell')\ndef sell(): ...\n"
        project.write(f"shop{number}/tasks.py", task)
    said = project.manage("check", code=1, MORE_APPS="shop1 shop2")

    assert "(streamq.E001) two tasks are named 'sell'" in said
    assert "shop1/tasks.py:2" in said
    assert "shop2/tasks.py:2" in said


def test_a_wrong_setting_says_what_it_is_to_be(project):
    said = project.manage("check", code=1, MORE_SETTINGS='{"TASK_TIME_LIMTI": 5}')

    assert "unknown setting 'TASK_TIME_LIMTI'" in said
    assert "in  settings.STREAMQ" in said
    assert "did you mean 'TASK_TIME_LIMIT'?" in said


def test_the_environment_overrides_the_settings(project):
    del project.env["STREAMQ_URL"]
    code = "from streamq.contrib.django import app; print(app.url)"
    given = '{"URL": "redis://of.settings/0"}'

    assert "redis://of.settings/0" in project.python(code, MORE_SETTINGS=given)
    other = {"MORE_SETTINGS": given, "STREAMQ_URL": "redis://of.environment/0"}
    assert "redis://of.environment/0" in project.python(code, **other)


def test_tasks_that_are_declared_too_early_are_told_what_to_do(project):
    project.write("early/__init__.py", "import streamq\n@streamq.task\ndef soon(): ...\n")
    text = (project.folder / "project.py").read_text()
    project.write("project.py", text + '\nINSTALLED_APPS = ["early", *INSTALLED_APPS]\n')
    said = project.manage("check", code=1)

    assert "early.soon" in said
    assert 'put "streamq.contrib.django" first in INSTALLED_APPS' in said


@pytest.mark.parametrize("debug", ["0", "1"])
def test_the_checks_find_wrong_settings_that_are_read_late(project, debug):
    text = (project.folder / "project.py").read_text().replace("STREAMQ =", "UNUSED =")
    project.write("project.py", f"{text}\nCELERY_TASK_TIME_LIMIT = 'x'\nimport late\n")
    project.write(
        "late.py",
        "from streamq.celery import Celery\napp = Celery('late')\n"
        "app.config_from_object('django.conf:settings', namespace='CELERY')\n",
    )
    said = project.manage("check", code=1, DEBUG=debug)

    assert "(streamq.E003) CELERY_TASK_TIME_LIMIT (django.conf:settings) is not a duration" in said
    assert "1 issue" in said


@pytest.mark.parametrize("app", [(), ("-A", "shop.tasks"), ("-A", "shop"), ("-A", "project")])
def test_the_command_that_has_no_app_of_django_names_manage_py(project, app):
    said = project.run("-m", "streamq", *app, "worker", "--burst", code=78)

    assert "in a Django project: python manage.py streamq …" in said


def test_a_project_with_an_app_of_its_own_keeps_it(project):
    text = (project.folder / "project.py").read_text()
    project.write(
        "project.py",
        "import streamq\nown = streamq.App('own', task_time_limit=7)\n"
        + text.replace("STREAMQ =", "UNUSED ="),
    )
    said = project.python(
        """
        import streamq
        from shop.tasks import add
        from streamq.contrib.django import app
        print(app.name, add.sender is app, app.conf.task_time_limit)
        """
    )

    assert said.split() == ["own", "True", "7.0"]


def test_on_commit_without_django_says_what_to_do(project):
    code = """
        import streamq
        app = streamq.App("plain")
        @app.task(name="add")
        def add(x): return x
        try:
            add.enqueue_on_commit(1)
        except streamq.ConfigError as error:
            print(error)
        """
    said = project.run("-c", textwrap.dedent(code))

    assert "this process has not set up Django" in said
    assert "django.setup()" in said


def test_a_plain_app_loads_nothing_of_django(project):
    code = """
        import sys, streamq
        app = streamq.App("plain")
        @app.task(name="add")
        def add(x): return x
        add.apply((1,))
        print([name for name in sys.modules if "django" in name and name != "streamq.host.django"])
        """

    assert project.run("-c", textwrap.dedent(code)).split() == ["[]"]


CELERY_STYLE = """
import os
from streamq.celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "plain.settings")
app = Celery("plain")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
"""
CELERY_STYLE_TASKS = """
from django.db import connection
from streamq.celery import shared_task

@shared_task
def sees_open_connection():
    was_open = connection.connection is not None
    connection.ensure_connection()
    return was_open
"""


def test_a_project_in_the_style_of_celery_needs_no_app_in_its_settings(project, tmp_path):
    url = project.env.pop("STREAMQ_URL")
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "db")}
    project.write("plain/__init__.py", "from .celery import app as celery_app\n")
    project.write("plain/celery.py", CELERY_STYLE)
    project.write("plain/tasks.py", CELERY_STYLE_TASKS)
    project.write(
        "plain/settings.py",
        f"SECRET_KEY = 'for tests'\nINSTALLED_APPS = ['plain']\nCELERY_BROKER_URL = {url!r}\n"
        f"CELERY_TASK_DEFAULT_QUEUE = 'plain'\nDATABASES = {{'default': {database!r}}}\n",
    )
    send = """
        import os, django
        os.environ["DJANGO_SETTINGS_MODULE"] = "plain.settings"
        django.setup()
        from django.db import transaction
        from plain.tasks import sees_open_connection as task
        from streamq.celery import AsyncResult
        with transaction.atomic():
            result = task.delay_on_commit()
            try:
                result.get(timeout=1)
            except RuntimeError:
                print(result.status)
        print(type(result).__name__, result.task_id == result.id)
        task.app.conf.task_always_eager = True
        with transaction.atomic():
            result = task.delay_on_commit()
            result.forget()
            print(result.task_id == result.id, result.status, isinstance(result, AsyncResult))
        print(type(result).__name__, result.get())
        task.app.conf.task_always_eager = False
        print(*(task.delay().id for _ in range(3)))
        """
    said = project.run("-W", "ignore", "-c", textwrap.dedent(send)).splitlines()
    assert said[:2] == ["PENDING", "AsyncResult True"]
    assert said[2:4] == ["True PENDING True", "EagerResult True"]
    ids = said[4].split()

    project.run("-m", "streamq", "-A", "plain", "worker", "--burst", "-c", "1")
    show = f"""
        from plain import celery_app
        print(*(celery_app.AsyncResult(id).get(timeout=1) for id in {ids}))
        """
    assert project.run("-W", "ignore", "-c", textwrap.dedent(show)).split() == ["False"] * 3


def test_an_app_that_is_not_there_is_a_failure_to_set_up_django(project):
    project.write(
        "late.py",
        "from streamq.celery import Celery\napp = Celery('late')\napp.autodiscover_tasks()\n",
    )
    env = {"DJANGO_SETTINGS_MODULE": "project", "MORE_APPS": "nowhere"}
    said = project.run("-m", "streamq", "-A", "late", "worker", "--burst", code=78, **env)

    assert "setting up Django failed: ModuleNotFoundError: No module named 'nowhere'" in said
