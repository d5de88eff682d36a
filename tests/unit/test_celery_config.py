"""The settings of an app of streamq.celery: Celery's names, their fates and defaults."""

import re
import sys
from datetime import UTC, timedelta
from pathlib import Path
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest

from streamq.celery.app.base import Celery
from streamq.celery.config import CeleryConfig
from streamq.celery.config_names import DEFAULTS, todays_name
from streamq.config.settings import SETTINGS
from streamq.errors import ConfigError
from streamq.producer.templates import rule_options
from streamq.routing import Exchange, Queue


def load(code=None, environ=None, flags=None):
    return CeleryConfig.load(code, flags, environ or {}, Path("/nowhere/at/all"))


def refusal(act):
    with pytest.raises(ConfigError) as refused:
        act()
    return str(refused.value)


def of(obj, namespace=None, **code):
    conf = load(code)
    conf.add_object(obj, namespace)
    return conf


# defaults and names


def test_the_defaults_are_celerys():
    conf = load()

    assert conf.acks_late is conf.task_acks_late is False
    assert conf.task_time_limit == conf.task_soft_time_limit == 0
    assert conf.task_default_queue == "celery"
    assert conf.task_track_started is conf.track_started is False
    assert conf.timezone is None
    assert conf.enable_utc is True
    assert conf.result_expires == 86_400.0
    assert (conf.max_retries, conf.default_retry_delay) == (3, 180.0)
    assert conf.worker_prefetch_multiplier == 4
    assert conf.result_backend is None


def test_every_setting_of_celery_can_be_read_by_attribute_and_item():
    conf = load()
    for name in DEFAULTS:
        assert conf[name] == getattr(conf, name) == conf.get(name)
        assert name in conf
        assert conf["CELERY_" + name.upper()] == conf[name]


@pytest.mark.parametrize(
    ("old", "name"),
    [
        ("BROKER_URL", "broker_url"),
        ("CELERYD_MAX_TASKS_PER_CHILD", "worker_max_tasks_per_child"),
        ("CELERY_ALWAYS_EAGER", "task_always_eager"),
        ("CELERY_EAGER_PROPAGATES_EXCEPTIONS", "task_eager_propagates"),
        ("CELERY_RESULT_BACKEND", "result_backend"),
        ("CELERY_TASK_RESULT_EXPIRES", "result_expires"),
        ("CELERYBEAT_SCHEDULE", "beat_schedule"),
        ("CELERYD_TASK_TIME_LIMIT", "task_time_limit"),
        ("CELERY_QUEUES", "task_queues"),
        ("CELERY_SEND_EVENTS", "worker_send_task_events"),
        ("CELERY_TASK_ALWAYS_EAGER", "task_always_eager"),
        ("SECRET_KEY", None),
        ("celery_broker_url", None),
    ],
)
def test_older_names_and_names_with_celery_before_them_are_known(old, name):
    assert todays_name(old) == name


def test_the_newest_of_several_names_counts():
    conf = load()
    conf.update(
        {
            "CELERY_TASK_TIME_LIMIT": 20,
            "task_time_limit": 30,
            "CELERYD_TASK_TIME_LIMIT": 10,
            "CELERY_TASK_ALWAYS_EAGER": True,
            "CELERY_ALWAYS_EAGER": False,
        }
    )

    assert (conf.task_time_limit, conf.task_always_eager) == (30.0, True)
    assert conf.CELERYD_TASK_TIME_LIMIT == 30.0


# taken


def test_values_are_translated():
    conf = load()
    conf.update(
        broker_url="redis+socket:///run/redis.sock?virtual_host=2",
        task_acks_late=1,
        worker_max_memory_per_child=300_000,
        worker_max_tasks_per_child=0,
        worker_concurrency="4",
        worker_pool="celery.concurrency.gevent:TaskPool",
        accept_content={"application/json", "application/x-python-serialize"},
        task_compression="gzip",
        result_expires=timedelta(hours=1),
        timezone=ZoneInfo("Europe/Berlin"),
        task_time_limit=None,
        imports=["shop.more"],
        include=["shop.tasks"],
        task_default_priority=None,
    )

    assert conf.url == conf.broker_url == "unix:///run/redis.sock?db=2"
    assert conf.acks_late is True
    assert conf.max_memory_per_child == 300_000 * 1024
    assert conf.worker_max_memory_per_child == 300_000
    assert conf.max_tasks_per_child is None
    assert (conf.concurrency, conf.pool) == (4, "gevent")
    assert conf.accept_content == ("json", "pickle")
    assert conf.task_compression == "zlib"
    assert conf.result_expires == 3600.0
    assert conf.timezone == "Europe/Berlin"
    assert conf.task_time_limit == 0
    assert conf.include == ("shop.tasks", "shop.more")
    assert conf.task_default_priority == 0

    conf.update(timezone=UTC, result_expires=None, worker_concurrency="auto")
    assert conf.timezone == "UTC"
    assert conf.result_expires > 10**9
    assert conf.concurrency == CeleryConfig().concurrency


def test_every_setting_of_streamq_is_there_too():
    conf = load()
    conf.update(lease="30s", max_deliveries=5)

    assert (conf.lease, conf.max_deliveries) == (30.0, 5)
    assert set(SETTINGS) <= set(conf)


def test_what_celery_has_beside_the_url_goes_into_it():
    conf = load({"url": "sentinel://:pw@a:26379;sentinel://:pw@b:26379"})
    conf.broker_transport_options = {
        "master_name": "main",
        "sentinel_kwargs": {"password": "s3"},
        "global_keyprefix": "shop:",
        "visibility_timeout": 3600,
    }
    assert conf.url == "sentinel://:pw@a:26379,b:26379/main/0?sentinel_password=s3"
    assert conf.namespace == "shop"

    conf = load({"url": "redis://h:6380/1", "broker_use_ssl": {"ssl_cert_reqs": 0}})
    assert conf.url == "rediss://h:6380/1?ssl_cert_reqs=none"


def test_celerys_variable_for_the_url_goes_before_the_argument_as_it_does_there():
    environ = {"CELERY_BROKER_URL": "redis://deployed/0"}

    assert load({"url": "redis://code/0"}, environ).url == "redis://deployed/0"
    assert load({"url": "redis://code/0"}, environ).origin("url") == "CELERY_BROKER_URL"
    both = environ | {"STREAMQ_URL": "redis://ours/0"}
    assert load({"url": "redis://code/0"}, both).url == "redis://code/0"


def test_queues_are_taken_from_all_their_forms():
    exchange = Exchange("media", "topic")
    conf = load()
    conf.task_queues = (Queue("video", exchange, "video.#"), "mail")
    assert conf.declared_queues == (Queue("video", exchange, "video.#"), Queue("mail"))

    conf.task_queues = {
        "cpu": {"exchange": "cpu", "exchange_type": "topic", "binding_key": "cpu.#"},
        "plain": {},
    }
    conf.task_queue_max_priority = 10
    assert conf.declared_queues == (
        Queue("cpu", Exchange("cpu", "topic"), "cpu.#", max_priority=9),
        Queue("plain", max_priority=9),
    )
    conf.task_queues = [Queue("slow", max_priority=2), Queue("mail")]
    assert [queue.max_priority for queue in conf.declared_queues] == [2, 9]
    assert "must be a list of queues" in refusal(lambda: conf.update(task_queues="mail"))
    assert len(conf.declared_queues) == 2


def test_routes_are_taken_from_all_their_forms(monkeypatch):
    def route(name, args, kwargs, options, task=None, **more):
        return {"queue": "function"} if name == "shop.one" else None

    monkeypatch.setitem(sys.modules, "shop_routers", SimpleNamespace(route=route))
    conf = load()
    conf.task_routes = (
        "shop_routers.route",
        {"shop.two": {"queue": "q2", "routing_key": "k", "exchange_type": "direct"}},
        [("shop.th*", "q3"), (re.compile(r"web\.(video|image)"), {"queue": "q4"})],
    )

    def routed(name):
        call = SimpleNamespace(name=name, args=(), kwargs={}, options={})
        found = (rule_options(rule, call) for rule in conf.task_routes)
        return next((each for each in found if each), None)

    assert routed("shop.one") == {"queue": "function"}
    assert routed("shop.two") == {"queue": "q2"}
    assert routed("shop.three") == "q3"
    assert routed("web.video") == {"queue": "q4"}
    assert routed("web.mail") is None

    conf.task_routes = plain = {"shop.*": {"queue": "shop"}}
    assert conf.task_routes is plain


# kept


def test_what_means_nothing_here_stays_readable():
    conf = load()
    conf.update(
        worker_prefetch_multiplier=1,
        broker_transport_options={"visibility_timeout": 3600},
        worker_hijack_root_logger=False,
        CELERY_RESULT_EXTENDED=True,
    )

    assert conf.worker_prefetch_multiplier == 1
    assert conf.broker_transport_options["visibility_timeout"] == 3600
    assert conf.result_extended is True
    assert conf.origin("result_extended") == "code"


def test_a_default_that_is_a_mapping_may_be_changed_in_place():
    conf, other = load(), load()
    conf.beat_schedule["report"] = {"task": "shop.report"}

    assert list(conf.beat_schedule) == ["report"]
    assert other.beat_schedule == {}


def test_names_that_nobody_knows_stay_readable():
    conf = load()
    conf.update({"SECRET_KEY": "x", "DEBUG": False})
    conf.my_own = 3

    assert (conf["SECRET_KEY"], conf.DEBUG, conf.my_own) == ("x", False, 3)
    assert conf.get("nothing") is None
    assert "my_own" in conf
    assert "nothing" not in conf
    assert {"SECRET_KEY", "broker_url", "lease"} <= set(conf.keys())
    with pytest.raises(KeyError):
        conf["nothing"]
    with pytest.raises(AttributeError, match="did you mean 'task_acks_late'"):
        conf.task_ack_late  # noqa: B018 - reading it is the test
    del conf.my_own
    assert not hasattr(conf, "my_own")


def test_names_of_an_object_stay_readable_there():
    settings = SimpleNamespace(CELERY_BROKER_URL="redis://h", CELERY_MY_OWN=3, SECRET_KEY="x")
    conf = of(settings, "CELERY")

    assert conf.url == "redis://h"
    assert (conf.my_own, conf["SECRET_KEY"]) == (3, "x")
    settings.CELERY_MY_OWN = 4
    assert conf.my_own == 4


# objects


def test_djangos_settings_are_read_with_their_zone_and_flipped_at_each_access():
    settings = SimpleNamespace(
        CELERY_BROKER_URL="redis://h:6379/0",
        CELERY_RESULT_BACKEND="redis://h:6379/1",
        CELERY_TASK_ROUTES={"shop.*": {"queue": "shop"}},
        CELERY_QUEUES=[Queue("shop")],
        TIME_ZONE="Europe/Berlin",
        BROKER_URL="redis://not-below-the-namespace",
    )
    conf = of(settings, "CELERY")

    assert conf.url == "redis://h:6379/0"
    assert conf.timezone == "Europe/Berlin"
    assert conf.declared_queues == (Queue("shop"),)
    assert conf.task_always_eager is False
    settings.CELERY_ALWAYS_EAGER = True
    assert conf.task_always_eager is True
    settings.CELERY_TASK_ALWAYS_EAGER = None
    assert conf.task_always_eager is False


def test_an_object_without_a_namespace_has_today_s_names_or_older_ones():
    settings = SimpleNamespace(
        BROKER_URL="redis://h",
        CELERYD_CONCURRENCY=3,
        task_serializer="pickle",
        url="https://shop.example",
        app=object(),
        pool=object(),
        lease=30,
    )
    conf = of(settings)

    assert (conf.url, conf.concurrency, conf.task_serializer) == ("redis://h", 3, "pickle")
    assert conf.lease == 30.0


# refused


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"result_backend": "django-db"}, "a task or a receiver of task_postrun may write"),
        ({"result_backend": "rpc://"}, "any process can read them"),
        ({"result_backend": "db+sqlite:///x"}, "results live beside the messages"),
        ({"CELERY_RESULT_BACKEND": "cache+memory://"}, "CELERY_RESULT_BACKEND is not supported"),
        ({"broker_url": "amqp://guest@localhost//"}, "streamq runs on Redis alone"),
        ({"broker_url": "memory://"}, "task_always_eager"),
        ({"task_annotations": {"*": {"rate_limit": "1/s"}}}, "@app.task(…)"),
        ({"worker_pool": "eventlet"}, "use gevent"),
        ({"worker_pool": "threads"}, "not in this version: threads"),
        ({"worker_direct": True}, "-Q"),
        ({"task_serializer": "auth"}, "signing"),
        ({"task_compression": "bzip2"}, "zlib or zstd"),
        ({"worker_max_memory_per_child": 10}, "worker_max_memory_per_child"),
        ({"CELERYD_TASK_TIME_LIMIT": "soon"}, "CELERYD_TASK_TIME_LIMIT is not a duration"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do(settings, said):
    conf = load()

    assert said in refusal(lambda: conf.update(settings))
    assert conf.result_backend is None
    assert conf.url is None


def test_results_on_another_server_are_refused_when_a_setting_is_needed():
    conf = load({"url": "redis://:secret@one:6379/0"})
    conf.result_backend = "redis://two:6379/0"

    said = refusal(lambda: conf.lease)
    assert "result_backend is on another server than broker_url" in said
    assert "secret" not in said
    conf.result_backend = "redis://one/3"
    assert conf.result_backend == "redis://one/3"
    conf.broker_url = "redis://localhost"
    conf.result_backend = "redis://127.0.0.1:6379/1"
    assert conf.lease == 15.0


def test_the_url_of_a_deployment_replaces_that_of_the_settings_and_of_their_results():
    conf = load(environ={"STREAMQ_URL": "redis://deployed"})
    conf.add_object({"broker_url": "redis://here/0", "result_backend": "redis://here/1"})

    assert conf.url == "redis://deployed"


# the banner


def test_the_notes_for_the_banner_say_defaults_what_is_unused_and_schedules():
    conf = load({"url": "redis://h", "result_backend": "redis://h/1"})
    conf.update(
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=True,
        task_time_limit=30,
        beat_schedule={"report": {}, "clean": {}},
        my_own=3,
    )

    assert conf.notes() == [
        "celery  ack early (Celery's default; acks_late=True is streamq's)",
        "        queue celery (streamq's is default)",
        "        state PENDING for what waits or is unknown",
        "unused  result_backend, worker_prefetch_multiplier",
    ]
    assert all(len(line) <= 76 for line in conf.notes())


def test_the_notes_name_what_is_nearly_a_setting():
    conf = of(SimpleNamespace(CELERY_TASK_ACK_LATE=True, CELERY_ADMIN_EMAIL="a"), "CELERY")
    conf.task_alway_eager = True

    assert conf.notes()[-2:] == [
        "unknown task_alway_eager (is task_always_eager meant?),",
        "        CELERY_TASK_ACK_LATE (is task_acks_late meant?)",
    ]


def test_the_broker_of_the_command_line_goes_before_that_of_the_app():
    app = Celery("shop", broker="redis://one:6379/0")
    app.conf.with_flags(url="redis://two:6379/0")

    assert (app.conf.broker_url, app.conf.origin("url")) == ("redis://two:6379/0", "--broker")


def test_a_worker_has_celerys_name_unless_it_is_given_another():
    app = Celery("shop")
    assert app.conf.worker_name == "celery@%h"

    app.conf.with_flags(worker_name="mine@%h")
    assert app.conf.worker_name == "mine@%h"
