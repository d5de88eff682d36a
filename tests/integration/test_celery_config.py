"""Apps with Celery's settings, on a server: where calls go, and when their settings count."""

import threading
from types import SimpleNamespace

import pytest

from streamq import App, Exchange, Queue
from streamq.celery.config import CeleryConfig
from tests.integration.conftest import close


class AppOfCelery(App):
    config_class = CeleryConfig


@pytest.fixture
def settings(server_url, app):
    return SimpleNamespace(
        CELERY_BROKER_URL=server_url,
        CELERY_RESULT_BACKEND=f"{server_url}?db=9",
        CELERY_TASK_QUEUES=[
            Queue("mail"),
            Queue("video", Exchange("media", type="topic"), routing_key="video.#"),
        ],
        CELERY_TASK_ROUTES={"shop.mail*": {"queue": "mail", "routing_key": "mail.out"}},
        CELERY_BROKER_TRANSPORT_OPTIONS={"global_keyprefix": app.conf.namespace + ":"},
    )


@pytest.fixture
def celery_app(settings):
    made = AppOfCelery("shop")
    made.config_from_object(settings, namespace="CELERY")
    yield made
    close(made)


def test_calls_go_to_the_queues_of_celerys_settings(celery_app, app, streams, drain):
    @celery_app.task(name="shop.mail_all")
    def mail_all():
        return "sent"

    @celery_app.task(name="shop.add")
    def add(x, y):
        return x + y

    results = [mail_all.delay(), add.delay(1, 2)]
    call = celery_app.signature("shop.add", exchange="media", routing_key="video.new")
    results.append(celery_app.enqueue(call, 3, 4))

    assert celery_app.conf.namespace == app.conf.namespace
    assert streams(app) == {"mail": 1, "celery": 1, "video": 1}
    assert drain(celery_app) == 3
    assert [result.get(timeout=5) for result in results] == ["sent", 3, 7]


def test_a_test_that_flips_eager_runs_calls_in_place(celery_app, settings, app, streams):
    @celery_app.task(name="shop.where")
    def where():
        return threading.current_thread().name

    settings.CELERY_TASK_ALWAYS_EAGER = True
    assert where.delay().get() == threading.current_thread().name
    assert streams(app) == {}

    del settings.CELERY_TASK_ALWAYS_EAGER
    where.delay()
    assert streams(app) == {"celery": 1}
