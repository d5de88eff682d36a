"""``autodiscover_tasks``: what is imported, and when."""

import importlib
import logging
import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from streamq import App
from streamq.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def app():
    return App("shop", url="redis://localhost:1")


@pytest.fixture
def tree(tmp_path, monkeypatch, app):
    """Writes modules that may use the app; what was imported of them is forgotten."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("streamq.app_of_this_test", app, raising=False)
    before = set(sys.modules)

    def write(**files):
        for name, text in files.items():
            path = tmp_path / f"{name.replace('__', '/').replace('//', '/__')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            for folder in path.parent.relative_to(tmp_path).parents:
                (tmp_path / folder).mkdir(exist_ok=True)
            path.write_text(textwrap.dedent(text))
            if path.parent != tmp_path:
                (path.parent / "__init__.py").touch()
        importlib.invalidate_caches()

    yield write
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith(str(tmp_path)):
            del sys.modules[name]


def task(name="add"):
    return f"from streamq import app_of_this_test as app\n@app.task\ndef {name}(): ...\n"


def test_nothing_is_imported_before_the_tasks_are_needed(tree, app):
    tree(d_one__tasks=task())

    app.autodiscover_tasks(["d_one"])
    assert repr(app) == "<app shop: 0 tasks>"
    assert app.signature("d_one.tasks.add").task is None
    assert "d_one" not in sys.modules

    assert "d_one.tasks.add" in app.tasks


NEEDS = {
    "a worker": lambda app: app.import_tasks(),
    "len": lambda app: len(app.tasks),
    "iteration": lambda app: list(app.tasks),
    "a look": lambda app: app.tasks["d_one.tasks.add"],
    "a run by name": lambda app: app.run_here(app.signature("d_one.tasks.add")),
}


@pytest.mark.parametrize("need", NEEDS.values(), ids=NEEDS)
def test_everything_that_needs_the_tasks_imports_them(tree, app, need):
    tree(d_one__tasks=task())
    app.autodiscover_tasks(["d_one"])

    need(app)

    assert list(app.tasks.tasks) == ["d_one.tasks.add"]


WAYS = {
    "a list": (["d_one", "d_two"], "tasks"),
    "a tuple": (("d_one", "d_two"), "tasks"),
    "a callable": (lambda: ["d_one", "d_two"], "tasks"),
    "a generator": ((name for name in ("d_one", "d_two")), "tasks"),
    "text": ("d_one,d_two", "tasks"),
    "the modules themselves": (["d_one.tasks", "d_two.tasks"], None),
}


@pytest.mark.parametrize(("packages", "related"), WAYS.values(), ids=WAYS)
def test_packages_are_named_in_many_ways(tree, app, packages, related):
    tree(d_one__tasks=task(), d_two__tasks=task())

    app.autodiscover_tasks(packages, related_name=related)

    assert sorted(app.tasks) == ["d_one.tasks.add", "d_two.tasks.add"]


def test_another_name_may_be_related_and_need_not_be_there(tree, app):
    tree(d_one__jobs=task(), d_two__tasks=task(), d_two__deep__jobs=task())

    app.autodiscover_tasks(["d_one", "d_two"], related_name="jobs")
    app.autodiscover_tasks(["d_one", "d_two"], "deep.jobs")

    assert sorted(app.tasks) == ["d_one.jobs.add", "d_two.deep.jobs.add"]


def test_a_plain_module_is_imported_itself(tree, app):
    tree(d_jobs=task(), d_one__mail=task())

    app.autodiscover_tasks(["d_jobs", "d_one.mail"])

    assert sorted(app.tasks) == ["d_jobs.add", "d_one.mail.add"]


@pytest.mark.parametrize("named", ["name = 'd_one'", "pass"])
def test_the_class_of_a_django_app_stands_for_its_package(tree, app, named):
    tree(d_one__apps=f"class OneConfig:\n    {named}\n", d_one__tasks=task())

    app.autodiscover_tasks(["d_one.apps.OneConfig"])

    assert list(app.tasks) == ["d_one.tasks.add"]


def test_several_calls_add_up_also_after_the_first_look(tree, app):
    tree(d_one__tasks=task(), d_two__tasks=task(), d_three__tasks=task())
    app.autodiscover_tasks(["d_one"])
    app.autodiscover_tasks(lambda: ["d_two"])
    assert len(app.tasks) == 2

    app.autodiscover_tasks(["d_three"])

    assert len(app.tasks) == 3


def test_tasks_may_look_into_the_registry_while_they_are_imported(tree, app):
    tree(d_one__tasks=task() + "seen = len(app.tasks)", d_two__tasks=task())
    app.autodiscover_tasks(["d_one"])
    app.autodiscover_tasks(["d_two"])

    assert len(app.tasks) == 2


def test_a_thread_waits_for_what_another_one_imports(tree, app, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()
    monkeypatch.setattr("streamq.begun_of_this_test", begun, raising=False)
    monkeypatch.setattr("streamq.go_on_of_this_test", go_on, raising=False)
    tree(
        d_one__tasks="from streamq import begun_of_this_test, go_on_of_this_test\n"
        "begun_of_this_test.set()\ngo_on_of_this_test.wait(10)\n" + task()
    )
    app.autodiscover_tasks(["d_one"])

    with ThreadPoolExecutor() as pool:
        first = pool.submit(lambda: list(app.tasks))
        begun.wait(10)
        second = pool.submit(lambda: list(app.tasks))
        assert not wait([second], timeout=0.05).done
        go_on.set()

    assert first.result() == second.result() == ["d_one.tasks.add"]


MISTAKES = {
    "a package that is not there": (["d_nowhere"], "no module named 'd_nowhere'"),
    "a module that is not there": (["d_one.nowhere"], "no module named 'd_one.nowhere'"),
    "an app that is not there": (["d_one.tasks.NoConfig"], "no module named 'd_one.tasks.No"),
    "tasks that fail": (["d_fails"], "importing 'd_fails.tasks' failed: ZeroDivisionError"),
    "tasks that want a library": (["d_wants"], "importing 'd_wants.tasks' failed: ModuleNotF"),
    "no names": ([5], "packages must be text"),
}


@pytest.mark.parametrize(("packages", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_said_whenever_the_tasks_are_needed(tree, app, packages, said):
    tree(d_one__tasks=task(), d_fails__tasks="1 / 0", d_wants__tasks="import d_nowhere.tasks")

    app.autodiscover_tasks(lambda: packages)

    for _ in range(2):
        with pytest.raises(ConfigError, match=said):
            len(app.tasks)


def endless():
    yield "d_one"
    raise LookupError("no more")


@pytest.mark.parametrize(
    ("packages", "said"),
    [
        (lambda: 1 / 0, "ZeroDivisionError: division"),
        (lambda settings: [], "TypeError: <lambda>"),
        (lambda: sys.exit("no"), "SystemExit: no"),
        (endless, "LookupError: no more"),
        (lambda: None, "packages must be a list of texts"),
    ],
    ids=["fails", "wants", "exits", "breaks off", "names none"],
)
def test_who_names_the_packages_may_make_a_mistake(tree, app, packages, said):
    tree(d_one__tasks=task())

    app.autodiscover_tasks(packages)

    for _ in range(2):
        with pytest.raises(ConfigError, match=said):
            len(app.tasks)


def test_without_django_a_call_without_packages_says_so(app, caplog, monkeypatch):
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
    app.autodiscover_tasks()

    assert len(app.tasks) == 0
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "Name the packages" in caplog.text


DJANGO = """
class apps:
    apps_ready = False
    def get_app_configs():
        assert apps.apps_ready
        return [type("Config", (), {"name": name}) for name in ("d_one", "d_two")]
"""


@pytest.fixture
def django(tree, tmp_path, monkeypatch):
    """A Django with the apps ``d_one`` and ``d_two``, and an app whose tasks need its models."""
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "d_one.settings")
    for name in [name for name in sys.modules if name.partition(".")[0] == "django"]:
        monkeypatch.delitem(sys.modules, name)  # the real one, if a test has imported it
    ready = "from django.apps import apps\nassert apps.apps_ready\n"
    tree(django__apps=DJANGO, d_one__tasks=ready + task(), d_two__models="")
    init = "from django.apps import apps\ndef setup(): apps.apps_ready = True\n"
    (tmp_path / "django" / "__init__.py").write_text(init)


@pytest.mark.parametrize(
    "packages",
    [None, ["d_one"], lambda: [each.name for each in installed().get_app_configs()]],
    ids=["all", "a list", "installed apps"],
)
@pytest.mark.usefixtures("django")
def test_the_apps_of_django_are_set_up_and_looked_through(app, packages):
    app.autodiscover_tasks(packages)

    assert list(app.tasks) == ["d_one.tasks.add"]


@pytest.mark.usefixtures("django")
def test_django_is_set_up_before_the_modules_of_include(app):
    app.conf.include = ["d_one.tasks"]

    app.import_tasks()

    assert list(app.tasks) == ["d_one.tasks.add"]


@pytest.mark.usefixtures("django")
def test_a_worker_sets_up_django_for_tasks_that_are_imported_already(app):
    app.import_tasks()

    assert installed().apps_ready


def installed():
    return sys.modules["django.apps"].apps


@pytest.mark.usefixtures("django")
def test_django_is_not_set_up_while_it_is_being_set_up(app, monkeypatch, tree):
    apps = importlib.import_module("django.apps").apps
    monkeypatch.setattr(apps, "loading", True, raising=False)
    tree(d_three__tasks=task())

    app.autodiscover_tasks(["d_three"])

    assert list(app.tasks) == ["d_three.tasks.add"]
    assert not apps.apps_ready


def test_settings_of_a_django_project_that_is_not_here_are_left_alone(tree, app, monkeypatch):
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "d_nowhere.settings")
    tree(d_one__tasks=task())

    app.autodiscover_tasks(["d_one"])

    assert list(app.tasks) == ["d_one.tasks.add"]


@pytest.mark.parametrize("how", ["proj", "proj.celery", "proj.celery:app"])
def test_the_layout_of_celerys_first_steps(tmp_path, how):
    files = {
        "__init__": "from .celery import app as celery_app\n__all__ = ('celery_app',)\n",
        "celery": "from streamq import App\napp = App('proj', url='redis://localhost:1')\n"
        "app.autodiscover_tasks(['proj', 'proj.shop'])\n",
        "tasks": "import proj\n@proj.celery_app.task\ndef add(x, y): return x + y\n",
        "shop/__init__": "",
        "shop/tasks": "from proj import celery_app\n@celery_app.task\ndef sell(): ...\n",
    }
    for name, text in files.items():
        path = tmp_path / "proj" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    done = subprocess.run(
        [
            *(sys.executable, "-c"),
            "import sys; from streamq.discovery import find_app; app = find_app(sys.argv[1]).app\n"
            "app.import_tasks(); print(*app.tasks)",
            how,
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )

    assert done.stdout == "proj.tasks.add proj.shop.tasks.sell\n", done.stderr
