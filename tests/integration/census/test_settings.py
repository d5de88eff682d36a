"""Census, rows about settings: each is taken, kept and listed in the banner, or refused."""

import pytest

from streamq.celery.config_notes import notes_of
from streamq.celery.kombu import Connection, Exchange, Queue, binding, serialization
from streamq.celery.kombu.utils import uuid
from streamq.context import NotInThisVersion
from streamq.errors import ConfigError, ContentDisallowed
from streamq.serialization.codec import SERIALIZERS


def unused(app):
    """The settings that a worker's banner lists as without effect."""
    lines = " ".join(notes_of(app.conf))
    return lines.partition("unused")[2]


def test_row_19_serializers_by_name(app, drain):
    app.conf.update(task_serializer="pickle", result_serializer="pickle", accept_content=["pickle"])
    result = app.task(lambda x: {x}, name="a set").delay(frozenset([1]))

    assert drain(app) == 1
    assert result.get(timeout=5) == {frozenset([1])}


def test_row_25_task_always_eager_is_read_at_each_call(make, streams):
    class Settings:
        CELERY_TASK_ALWAYS_EAGER = False

    settings = Settings()
    app = make()
    app.config_from_object(settings, namespace="CELERY")
    double = app.task(lambda x: 2 * x, name="double")

    assert double.delay(2).state == "PENDING"
    settings.CELERY_TASK_ALWAYS_EAGER = True
    assert double.delay(2).get() == double.apply_async((2,), countdown=9).get() == 4
    settings.CELERY_TASK_ALWAYS_EAGER = False
    assert double.delay(2).state == "PENDING"
    assert streams(app) == {"celery": 2}


def test_row_26_accept_content_by_name_and_mime_type(make, drain):
    app = make(accept_content=["application/json", "pickle"])
    task = app.task(lambda x: x, name="same")
    results = [task.delay(1), task.apply_async((2,), serializer="pickle")]
    drain(app)
    assert [each.get(timeout=5) for each in results] == [1, 2]

    refused = task.apply_async((3,), serializer="pickle")
    drain(make(accept_content=["json"]))
    assert refused.state == "FAILURE"
    with pytest.raises(ContentDisallowed):
        refused.get(timeout=5)


def test_row_37_broker_transport_options_are_listed(app):
    app.conf.broker_transport_options = {"visibility_timeout": 43200, "priority_steps": [0, 5]}

    assert app.conf.broker_transport_options["visibility_timeout"] == 43200
    assert "broker_transport_options" in unused(app)


def test_row_38_kombu(app, streams):
    media = Exchange("media", type="topic")
    app.conf.task_queues = (
        Queue("celery", Exchange("celery"), routing_key="celery"),
        Queue("video", media, routing_key="video.#"),
        Queue("both", [binding(media, "video.new"), binding(media, "photo.*")]),
    )
    app.declare()
    app.task(lambda: None, name="t").apply_async(exchange="media", routing_key="video.new")
    serialization.register("shout", str.upper, str.lower, "application/x-shout", "utf-8")

    try:
        assert streams(app) == {"video": 1, "both": 1}
        assert len(uuid()) == 36
    finally:
        for key in ("shout", "application/x-shout"):
            del SERIALIZERS[key]
    with pytest.raises(NotInThisVersion, match="not in this version: kombu's Connection"):
        Connection("redis://")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        pytest.param("worker_prefetch_multiplier", 1, id="row_39_prefetch"),
        pytest.param("worker_hijack_root_logger", False, id="row_42_root_logger"),
        pytest.param("worker_redirect_stdouts", False, id="row_42_stdouts"),
        pytest.param("worker_redirect_stdouts_level", "ERROR", id="row_42_level"),
        pytest.param("worker_send_task_events", True, id="row_56_events"),
        pytest.param("task_send_sent_event", True, id="row_56_sent_event"),
        pytest.param("beat_scheduler", "django_celery_beat.schedulers:DatabaseScheduler",
                     id="row_28_beat_scheduler"),
    ],
)  # fmt: skip
def test_rows_39_42_56_28_settings_that_mean_nothing_here_are_kept_and_told(app, setting, value):
    app.conf[setting] = value

    assert app.conf[setting] == getattr(app.conf, setting) == value
    told = " ".join(app.conf.notes())
    assert setting in told or str(value) in told


def test_row_40_time_limits_as_settings(app, drain):
    app.conf.update(task_time_limit=60, task_soft_time_limit=50)
    seen = []
    task = app.task(name="t", bind=True)(lambda self: seen.append(self.request.timelimit))
    task.delay()
    drain(app)

    assert (task.time_limit, task.soft_time_limit) == (60, 50)
    assert [tuple(each) for each in seen] == [(60, 50)]


def test_row_46_result_expires(app, drain, redis):
    app.conf.result_expires = 60
    result = app.task(lambda: 1, name="t").delay()
    drain(app)

    assert result.get(timeout=5) == 1
    lives = [redis.pttl(key) for key in redis.keys(f"*{result.id}*")]
    assert all(0 < each <= 60_000 for each in lives)
    assert lives


def test_row_55_worker_concurrency(app):
    app.conf.worker_concurrency = "4"

    assert app.conf.worker_concurrency == app.conf.concurrency == 4


def test_row_60_task_eager_propagates(app):
    @app.task
    def fails():
        raise KeyError("x")

    app.conf.task_always_eager = True
    assert fails.delay().state == "FAILURE"
    app.conf.task_eager_propagates = True
    with pytest.raises(KeyError):
        fails.delay()


def test_row_61_task_default_queue(app, streams):
    task = app.task(lambda: None, name="t")
    task.delay()
    app.conf.task_default_queue = "low"
    task.delay()

    assert streams(app) == {"celery": 1, "low": 1}


def test_row_62_timezone(app):
    assert (app.conf.timezone, app.conf.enable_utc) == (None, True)
    app.conf.update(timezone="Europe/Berlin", enable_utc=True)

    assert str(app.timezone) == "Europe/Berlin"
    assert app.now().tzinfo is not None


def test_row_71_worker_max_tasks_per_child(app):
    app.conf.worker_max_tasks_per_child = 5

    assert app.conf.max_tasks_per_child == app.conf["CELERYD_MAX_TASKS_PER_CHILD"] == 5


def test_row_73_task_ignore_result(app, drain):
    app.conf.task_ignore_result = True
    ignored = app.task(lambda: 1, name="t").delay()
    kept = app.task(lambda: 1, name="kept", ignore_result=False).delay()
    drain(app)

    assert (ignored.state, kept.state) == ("PENDING", "SUCCESS")
    assert ignored.get(timeout=5) is None


def test_row_80_rate_limits_and_annotations(app, caplog):
    task = app.task(lambda: None, name="t", rate_limit="10/m")

    assert task.rate_limit == "10/m"
    assert "t: not in this version: rate_limit" in caplog.text
    app.conf.task_default_rate_limit = "10/m"
    assert "rate limits are not in this version" in " ".join(app.conf.notes())
    with pytest.raises(ConfigError, match=r"task_annotations.*\n  → give the options"):
        app.conf.task_annotations = {"t": {"rate_limit": "10/m"}}


def test_row_84_worker_pool_threads(app):
    with pytest.raises(ConfigError, match="not in this version: threads"):
        app.conf.worker_pool = "threads"
