"""Fixtures for pytest, by Celery's names: ``pytest_plugins = ["streamq.celery.contrib.pytest"]``.

``celery_app`` is an app, ``celery_worker`` a worker that runs its tasks in a thread of the test.
Where no URL is configured, both use the bundled server.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from streamq.celery.app.base import Celery
from streamq.celery.contrib.testing.app import TestApp
from streamq.celery.contrib.testing.worker import TestWorkController, start_worker
from streamq.celery.current import CurrentApp
from streamq.producer.registry import import_modules


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark ``celery``, whose keywords are settings of the app of a test."""
    config.addinivalue_line("markers", "celery(**settings): settings of celery_app for this test")


@contextmanager
def made_app(
    settings: Mapping[str, Any], parameters: Mapping[str, Any], *, current: bool
) -> Iterator[Celery]:
    """An app for a test, which is the current one meanwhile if it is to be."""
    chosen = dict(settings)
    given = {
        "broker": chosen.pop("broker_url", None),
        "backend": chosen.pop("result_backend", None),
    }
    before = CurrentApp.app
    app = TestApp(config=chosen, set_as_current=current, **{**given, **parameters})
    try:
        yield app
    finally:
        app.close()
        CurrentApp.app = before


@pytest.fixture(scope="session")
def use_celery_app_trap() -> bool:
    """Whether using the current app by mistake is an error: override it to say so."""
    return False


@pytest.fixture(scope="session")
def celery_config() -> Mapping[str, Any]:
    """Settings of the apps of tests: override it."""
    return {}


@pytest.fixture(scope="session")
def celery_parameters() -> Mapping[str, Any]:
    """Arguments of the apps of tests, such as ``task_cls``: override it."""
    return {}


@pytest.fixture(scope="session")
def celery_includes() -> tuple[str, ...]:
    """Modules with tasks that the session's worker imports: override it."""
    return ()


@pytest.fixture(scope="session")
def celery_enable_logging() -> bool:
    """Whether workers of tests configure logging: they never do here."""
    return False


@pytest.fixture(scope="session")
def celery_worker_pool() -> str:
    """The pool of workers of tests: one task at a time, whatever this says."""
    return "solo"


@pytest.fixture(scope="session")
def celery_worker_parameters() -> Mapping[str, Any]:
    """Arguments of ``start_worker``, such as ``queues``: override it."""
    return {}


@pytest.fixture(scope="session")
def celery_class_tasks() -> list[Any]:
    """Tasks of classes that the session's app registers: override it."""
    return []


@pytest.fixture(scope="session")
def celery_session_app(
    celery_config: Mapping[str, Any],
    celery_parameters: Mapping[str, Any],
    celery_class_tasks: list[Any],
) -> Iterator[Celery]:
    """The app of all tests of the session that ask for it."""
    with made_app(celery_config, celery_parameters, current=False) as app:
        for task in celery_class_tasks:
            app.register_task(task)
        yield app


@pytest.fixture(scope="session")
def celery_session_worker(
    celery_session_app: Celery,
    celery_includes: tuple[str, ...],
    celery_worker_parameters: Mapping[str, Any],
) -> Iterator[TestWorkController]:
    """A worker of ``celery_session_app``, for all tests of the session that ask for it."""
    import_modules(celery_includes)
    with start_worker(celery_session_app, **celery_worker_parameters) as worker:
        yield worker


@pytest.fixture
def celery_app(
    request: pytest.FixtureRequest,
    celery_config: Mapping[str, Any],
    celery_parameters: Mapping[str, Any],
) -> Iterator[Celery]:
    """An app for this test, which is the current one meanwhile."""
    mark = request.node.get_closest_marker("celery")
    settings = {**celery_config, **(mark.kwargs if mark else {})}
    with made_app(settings, celery_parameters, current=True) as app:
        yield app


@pytest.fixture
def celery_worker(
    celery_app: Celery,
    celery_includes: tuple[str, ...],
    celery_worker_parameters: Mapping[str, Any],
) -> Iterator[TestWorkController]:
    """A worker of ``celery_app``, for this test."""
    import_modules(celery_includes)
    with start_worker(celery_app, **celery_worker_parameters) as worker:
        yield worker


@pytest.fixture
def depends_on_current_app(celery_app: Celery) -> None:
    """Make ``celery_app`` the current app of the test."""
    celery_app.set_current()
