"""Apps of streamq.celery, and a process that forgets them after each test."""

import pytest

from streamq.celery import Celery
from tests.celery_process import forgotten


@pytest.fixture(autouse=True)
def forgetful():
    """Begin without a current app, shared tasks and warnings; put back what there was."""
    with forgotten():
        yield


@pytest.fixture
def make():
    """Makes apps of a server that is never asked."""

    def make(main="shop", **settings):
        return Celery(main, broker="redis://nowhere.invalid:6379/0", **settings)

    return make


@pytest.fixture
def app(make):
    return make()
