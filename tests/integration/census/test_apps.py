"""Census, rows about apps: how they are made, configured, and find their tasks."""

import sys

import pytest

from streamq.celery import Celery, Task, current_app, current_task, shared_task
from streamq.errors import ConfigError


def test_row_1_an_app_with_broker_and_backend(broker):
    app = Celery("proj", broker=broker, backend=broker, include=["json"])

    assert (app.main, app.conf.broker_url) == ("proj", broker)
    assert Celery(__name__).main == __name__
    assert Celery().main is None


def test_row_2_broker_url_in_every_spelling(broker):
    for name in ("broker_url", "BROKER_URL", "CELERY_BROKER_URL"):
        app = Celery("proj")
        app.conf.update({name: broker})
        assert app.conf.broker_url == app.conf[name] == broker


def test_row_3_a_result_backend_on_the_same_server(app, broker):
    app.conf.result_backend = f"{broker}?db=1"

    assert app.conf.result_backend == f"{broker}?db=1"
    assert app.task(lambda x: x, name="same").delay(1).state == "PENDING"
    app.conf.result_backend = "redis://elsewhere.invalid/0"
    with pytest.raises(ConfigError, match="result_backend is on another server"):
        _ = app.conf.broker_url
    for backend in ("django-db", "rpc://", "db+sqlite:///results.db"):
        with pytest.raises(ConfigError, match="→"):
            app.conf.result_backend = backend


def test_row_6_the_decorator_of_an_app(app, drain):
    @app.task
    def bare(x):
        return x

    @app.task()
    def called(x):
        return 2 * x

    results = [bare.delay(2), called.delay(2)]

    assert drain(app) == 2
    assert [each.get(timeout=5) for each in results] == [2, 4]


@pytest.mark.parametrize("packages", [["shop"], lambda: ["shop"], ("shop",), "shop"])
@pytest.mark.parametrize("related", ["tasks", "jobs", None])
def test_row_7_autodiscover_tasks(app, package, packages, related):
    text = "from streamq.celery import shared_task\n@shared_task\ndef add(x, y): return x + y\n"
    file = f"{related or '__init__'}.py"
    package("shop", **{file: text})
    package("blog", **{"tasks.py": "1 / 0"})

    app.autodiscover_tasks(packages, related_name=related)
    app.autodiscover_tasks(["email"])  # which has no tasks

    assert "shop" not in sys.modules
    name = f"shop.{related}.add" if related else "shop.add"
    assert app.tasks[name](1, 2) == 3


def test_row_7_autodiscover_tasks_at_once(app, package):
    package("shop", **{"tasks.py": "seen = True"})
    app.autodiscover_tasks(["shop"], force=True)

    assert sys.modules["shop.tasks"].seen


def test_row_7_a_module_of_tasks_that_fails_is_named(app, package):
    package("blog", **{"tasks.py": "import not_there_at_all"})
    app.autodiscover_tasks(["blog"])

    with pytest.raises(ConfigError, match=r"(?s)blog.tasks.*not_there_at_all"):
        _ = app.tasks["anything"]


@pytest.mark.parametrize("form", ["module", "module:attribute", "class", "dict"])
def test_row_8_config_from_object(app, module, form):
    class Config:
        task_default_queue = "low"
        task_time_limit = 30

    config = module("proj_config", task_default_queue="low", task_time_limit=30, inner=Config)
    source = {
        "module": config.__name__,
        "module:attribute": "proj_config:inner",
        "class": Config,
        "dict": dict(vars(Config)),
    }[form]
    app.config_from_object(source)

    assert (app.conf.task_default_queue, app.conf.task_time_limit) == ("low", 30)


def test_row_8_a_config_that_may_be_missing(app, module):
    module("proj_config", task_default_queue="low")
    app.config_from_object("not_there_at_all", silent=True)
    app.config_from_object("proj_config", force=True)

    assert app.conf.task_default_queue == "low"
    with pytest.raises(ConfigError, match="not_there_at_all"):
        app.config_from_object("not_there_at_all", force=True)


def test_row_8_config_is_read_when_it_is_first_needed(app):
    app.config_from_object("not_there_yet")

    app.task(lambda: None, name="made before")
    with pytest.raises(ConfigError, match="not_there_yet"):
        _ = app.conf.task_default_queue


def test_row_16_a_base_class_by_decorator_constructor_text_and_assignment(make, module, drain):
    class Base(Task):
        abstract = True
        max_retries = 7

        def __init__(self):
            self.data = {}

        def __call__(self, *args, **kwargs):
            self.data["runs"] = self.data.get("runs", 0) + 1
            return super().__call__(*args, **kwargs)

    module("bases", Base=Base)
    apps = [make(), make(task_cls=Base), make(task_cls="bases:Base"), make(task_cls="bases.Base")]
    apps.append(make())
    apps[-1].Task = Base
    for number, app in enumerate(apps):
        options = {} if number else {"base": Base}
        task = app.task(name=f"t{number}", shared=False, **options)(lambda: None)
        task.delay()
        task.delay()
        drain(app)
        assert isinstance(task, Base)
        assert (task.max_retries, task.data) == (7, {"runs": 2})


def test_row_20_djangos_settings_with_a_namespace(make, module, broker):
    settings = module(
        "proj_conf", settings=None, CELERY_BROKER_URL=broker, CELERY_TASK_TIME_LIMIT=20,
        CELERY_TASK_DEFAULT_QUEUE="web", CELERYD_MAX_TASKS_PER_CHILD=5, SECRET_KEY="x",
    )  # fmt: skip
    vars(settings)["settings"] = settings
    app = make(broker=None)
    app.config_from_object("proj_conf:settings", namespace="CELERY")

    assert app.conf.broker_url == broker
    assert (app.conf.task_time_limit, app.conf.task_default_queue) == (20, "web")
    assert app.conf.worker_max_tasks_per_child is None  # outside of the namespace, as with Celery


def test_row_31_shared_tasks(make, drain):
    @shared_task
    def bare(x):
        return x

    @shared_task(name="shop.named", bind=True, max_retries=5)
    def called(self, x):
        return [self.name, self.max_retries, x]

    partial = shared_task(ignore_result=True)
    kept = partial(lambda: None)
    assert repr(bare).startswith("<shared task")

    app = make()
    results = [bare.delay(1), called.delay(2)]
    assert drain(app) == 2
    assert [each.get(timeout=5) for each in results] == [1, ["shop.named", 5, 2]]
    assert kept.ignore_result
    assert {bare.name, "shop.named"} <= set(app.tasks)


def test_row_57_the_current_app_and_task_are_proxies(app, drain):
    seen = []

    @app.task
    def look():
        seen.append((current_task.name, current_task.request.id, current_app.main))

    result = look.delay()
    drain(app)

    assert seen == [(look.name, result.id, "proj")]
    assert current_app == app
    assert not current_task
    assert app.current_task is None


def test_row_72_the_registry_can_be_read_and_assigned(app, drain):
    @app.task
    def new(x):
        return x

    app.tasks["old.name"] = app.tasks[new.name]
    result = app.send_task("old.name", [4])

    assert drain(app) == 1
    assert result.get(timeout=5) == 4
    assert {"old.name", new.name} <= set(app.tasks.keys())


def test_row_81_on_after_configure_and_on_after_finalize(app):
    seen = []

    @app.on_after_configure.connect
    def configured(sender, **kwargs):
        seen.append(("configured", sender))

    @app.on_after_finalize.connect
    def finalized(sender, **kwargs):
        seen.append(("finalized", sender))

    app.finalize()

    assert seen == [("configured", app), ("finalized", app)]


def test_row_82_conf_update(app):
    app.conf.update({"task_default_queue": "a"}, result_expires=60, MY_OWN=3)

    assert (app.conf.task_default_queue, app.conf["result_expires"]) == ("a", 60)
    assert (app.conf.MY_OWN, app.conf.get("nothing", 1)) == (3, 1)
