"""Apps of streamq.celery, and a process that forgets them after each test."""

import pytest

from streamq.celery import Celery
from streamq.celery.app.options import warned
from streamq.celery.current import CurrentApp
from streamq.celery.shared import makers


@pytest.fixture(autouse=True)
def forgetful():
    """Begin without a current app, shared tasks and warnings; put back what there was."""
    before, shared, said = (CurrentApp.app, CurrentApp.default), dict(makers), set(warned)
    CurrentApp.app = CurrentApp.default = None
    makers.clear()
    warned.clear()
    yield
    CurrentApp.app, CurrentApp.default = before
    makers.clear()
    makers.update(shared)
    warned.clear()
    warned.update(said)


@pytest.fixture
def make():
    """Makes apps of a server that is never asked."""

    def make(main="shop", **settings):
        return Celery(main, broker="redis://nowhere.invalid:6379/0", **settings)

    return make


@pytest.fixture
def app(make):
    return make()
