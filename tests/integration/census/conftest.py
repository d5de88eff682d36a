"""Apps of streamq.celery on the test server, as a project that moves makes them."""

import sys
from types import ModuleType

import pytest

from streamq.app import apps
from streamq.celery import Celery
from tests.celery_process import forgotten


@pytest.fixture(autouse=True)
def forgetful():
    """Begin without a current app, shared tasks and warnings; put back what there was."""
    with forgotten():
        yield
    for app in list(apps):  # also those that a command line has made
        app.close()


@pytest.fixture
def broker(server_url, redis):
    """The URL of the emptied test server."""
    return server_url


@pytest.fixture
def make(broker):
    """Makes apps of streamq.celery on the test server."""
    made = []

    def make(main="proj", **settings):
        app = Celery(main, **{"broker": broker, **settings})
        made.append(app)
        return app

    yield make
    for app in made:
        app.close()


@pytest.fixture
def app(make):
    return make()


@pytest.fixture
def drain(drain):
    """``drain(app)`` runs every waiting message in this process, as a worker that was started."""

    def run(app):
        app.import_tasks()
        return drain(app)

    return run


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Writes a package with these files, importable by its name for the test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)

    def write(name, **files):
        (tmp_path / name).mkdir()
        for file, text in {"__init__.py": "", **files}.items():
            (tmp_path / name / file).write_text(text)

    yield write
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def module(monkeypatch):
    """Makes a module of this text, importable by its name for the test."""

    def make(name, text="", **names):
        made = ModuleType(name)
        vars(made).update(names, __file__=f"/proj/{name}.py")
        monkeypatch.setitem(sys.modules, name, made)
        parent, _, last = name.rpartition(".")
        if parent:
            monkeypatch.setattr(sys.modules[parent], last, made, raising=False)
        exec(text, vars(made))
        return made

    return make
