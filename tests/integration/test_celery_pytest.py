"""The fixtures for pytest by Celery's names, in a test suite of their own."""

import os
import subprocess
import sys
from pathlib import Path

SUITE = """
from unittest import mock

import pytest

from streamq.celery.current import CurrentApp

@pytest.fixture(autouse=True)
def same_current_app(request):
    # torn down when the fixtures of the test have ended
    before = CurrentApp.app
    yield
    assert CurrentApp.app is before or "celery_session_worker" in request.fixturenames


@pytest.fixture(scope="session")
def celery_config():
    return {SETTINGS}


def helper():
    return "real"


def test_a_worker_of_one_test_sees_its_mocks(celery_app, celery_worker):
    @celery_app.task
    def mul(x, y):
        return x * y, helper()

    celery_worker.reload()
    with mock.patch(__name__ + ".helper", return_value="mocked"):
        assert mul.delay(4, 4).get(timeout=10) == [16, "mocked"]


def test_the_worker_of_the_session(celery_session_app, celery_session_worker):
    @celery_session_app.task
    def add(x, y):
        return x + y

    celery_session_worker.reload()
    assert add.delay(4, 4).get(timeout=10) == 8


@pytest.mark.celery(task_always_eager=True)
def test_a_mark_has_settings(celery_app):
    assert celery_app.task(name="seven")(lambda: 7).delay().get() == 7
"""


def run(folder: Path, settings: str, **environment: str) -> str:
    """Run the suite in a folder; return what pytest says."""
    plugins = 'pytest_plugins = ["streamq.celery.contrib.pytest"]'
    folder.joinpath("conftest.py").write_text(plugins)
    folder.joinpath("test_suite.py").write_text(SUITE.replace("{SETTINGS}", settings))
    env = {name: value for name, value in os.environ.items() if "STREAMQ" not in name}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_suite.py"]
    found = subprocess.run(
        command, cwd=folder, env=env | environment, capture_output=True, text=True
    )
    return found.stdout + found.stderr


def test_the_fixtures_run_on_the_server_of_the_settings(tmp_path, server_url, redis):
    said = run(tmp_path, repr({"broker_url": server_url, "result_backend": server_url}))

    assert "3 passed in" in said, said
    assert "Warning" not in said, said
    assert redis.keys("*leases*") == [], "a worker of a test leaves no lease"


def test_without_a_url_the_fixtures_use_the_bundled_server(tmp_path):
    """Starts a server: two seconds."""
    said = run(tmp_path, "{}")

    assert "3 passed in" in said, said
    assert tmp_path.joinpath(".streamq").is_dir()
