"""Settings from objects: when they are read, which of them count, and what a mistake says."""

import copy
import pickle
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from streamq import App
from streamq.config.config import Config
from streamq.errors import ConfigError


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write modules; they are forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    known = set(sys.modules)

    def write(name, text):
        path = tmp_path / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    yield write
    for name in set(sys.modules) - known:
        del sys.modules[name]


def config(obj, namespace=None, **code):
    made = Config.load(code, environ={}, folder=Path("/nowhere/at/all"))
    made.add_object(obj, namespace)
    return made


def refusal(act):
    with pytest.raises(ConfigError) as refused:
        act()
    return str(refused.value)


# when


def test_an_object_is_read_when_a_setting_is_first_needed_and_once(module):
    module(
        "conf_once", "import sys; sys.conf_reads = getattr(sys, 'conf_reads', 0) + 1; lease = 30"
    )
    app = App("shop", lease="20s")
    app.config_from_object("conf_once")

    @app.task
    def add(x, y):
        return x + y

    app.conf.update(max_deliveries=5)
    assert "conf_once" not in sys.modules

    assert app.conf.max_deliveries == 5
    assert "conf_once" in sys.modules
    assert app.conf.lease == 20.0, "code goes before objects"
    del app.conf.lease
    assert app.conf.lease == 30.0
    assert sys.conf_reads == 1
    assert type(app.conf).__getattribute__ is object.__getattribute__


def test_settings_may_import_who_configures_them(module):
    module("conf_a", "from conf_b import app\nlease = 30\nseen = app.conf.lease\npool = 'solo'")
    module("conf_b", "import streamq\napp = streamq.App('a')\napp.config_from_object('conf_a')")
    import conf_a

    assert conf_a.seen == 30.0
    assert conf_a.app.conf.pool == "solo", "what came after the import was read later"


def test_templates_of_calls_see_settings_that_come_later(module):
    module("conf_queue", "task_default_queue = 'mail'")
    app = App("shop")
    call = app.signature("shop.add")
    assert app.templates.template(call).routing_key == "default"

    app.config_from_object("conf_queue")
    assert app.templates.template(call).routing_key == "mail"


def test_threads_that_need_a_setting_at_once_all_have_it(module):
    module("conf_slow", "import time\ntime.sleep(0.05)\nlease = 30")
    made, seen = config("conf_slow"), []
    threads = [threading.Thread(target=lambda: seen.append(made.lease)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert seen == [30.0] * 8


# what


class Production:
    CELERY_LEASE = "1s"
    STREAMQ_LEASE = "40s"
    STREAMQ_TASK_ACKS_LATE = False


def test_all_kinds_of_objects_are_read(module):
    module("shop_conf.prod", "class Conf:\n    lease = 41\nTABLE = {'lease': 42}\nlease = 43")
    module("shop_conf.__init__", "")
    plain = ModuleType("plain")
    plain.lease = 44

    assert config("shop_conf.prod:Conf").lease == 41.0
    assert config("shop_conf.prod.Conf").lease == 41.0
    assert config("shop_conf.prod:TABLE").lease == 42.0
    assert config("shop_conf.prod").lease == 43.0
    assert config(plain).lease == 44.0
    assert config(SimpleNamespace(lease=45)).lease == 45.0
    assert config({"lease": 46}).lease == 46.0


def test_with_a_namespace_only_its_names_count():
    made = config(Production, "STREAMQ")

    assert (made.lease, made.acks_late) == (40.0, False)
    assert made.origin("lease") == "config_from_object(Production)"
    assert config(Production).lease == 15.0


def test_several_objects_add_up_and_the_later_counts():
    made = config({"lease": 20, "max_deliveries": 5})
    made.add_object({"lease": 30})

    assert (made.lease, made.max_deliveries) == (30.0, 5)
    made.add_object({"lease": 40})
    assert (made.lease, made.max_deliveries) == (40.0, 5)


def test_flags_environment_and_code_go_before_objects_and_these_before_files(tmp_path):
    (tmp_path / "streamq.toml").write_text("lease = 1\ndead_expires = 1\n")
    made = Config.load(
        {"result_expires": 2}, environ={"STREAMQ_DEDUP_WINDOW": "3"}, folder=tmp_path
    )
    made.add_object({"lease": 9, "result_expires": 9, "dedup_window": 9, "revoke_expires": 9})
    made.with_flags(revoke_expires=4)

    assert (made.lease, made.dead_expires) == (9.0, 1.0)
    assert (made.result_expires, made.dedup_window, made.revoke_expires) == (2.0, 3.0, 4.0)


def test_names_that_are_no_settings_are_ignored_in_a_module(module):
    module(
        "conf_helpers",
        "import os\nfrom pathlib import Path\nfrom types import ModuleType as app\n"
        "import json as queues\nDEBUG = True\nevent_loop = 3\ndef pool(): pass\nlease = 30",
    )

    assert config("conf_helpers").lease == 30.0
    assert config("conf_helpers").app is None


# mistakes


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: config("no_such_settings"), "no module named 'no_such_settings'"),
        (lambda: config("conf_broken"), "KeyError: 'SECRET'"),
        (lambda: config("conf_fine:Prodution"), "did you mean 'Production'?"),
        (lambda: config("conf_fine:Production", "STREAMQ"), "did you mean 'STREAMQ_LEASE'?"),
        (lambda: config("conf_fine:Production", "STREAMQ"), "set by  conf_fine:Production"),
        (lambda: config("conf_fine:Wrong", "STREAMQ"), "STREAMQ_LEASE (conf_fine:Wrong) is not a"),
        (lambda: config({"leese": 3}), "did you mean 'lease'?"),
        (lambda: config("conf_fine:Celerys"), "result_backend is not a setting here"),
    ],
)
def test_a_mistake_says_which_object_and_which_name(module, make, said):
    module("conf_broken", "{}['SECRET']")
    module(
        "conf_fine",
        "class Production:\n    STREAMQ_LEESE = 3\nclass Wrong:\n    STREAMQ_LEASE = 'soon'\n"
        "class Celerys:\n    result_backend = 'redis://'",
    )
    made = make()

    assert said in refusal(lambda: made.lease)
    assert said in refusal(lambda: made.lease), "and it says so again"
    assert repr(made).startswith("Config(")


@pytest.mark.parametrize("obj", [None, 3, "", " ", ["lease"]])
def test_what_cannot_be_an_object_of_settings_is_refused_at_once(obj):
    assert "config_from_object cannot read" in refusal(lambda: config(obj))


def test_a_silent_call_leaves_out_a_module_that_does_not_exist():
    made = Config()
    made.add_object("no_such_settings", silent=True)
    made.add_object({"lease": 30})

    assert made.lease == 30.0


# at each access


def test_eager_settings_follow_their_object_unless_code_sets_them():
    settings = SimpleNamespace(CELERY_TASK_ALWAYS_EAGER=False)
    made = config(settings, "CELERY")
    assert made.task_always_eager is False

    settings.CELERY_TASK_ALWAYS_EAGER = True
    settings.CELERY_TASK_EAGER_PROPAGATES = "yes"
    assert (made.task_always_eager, made.task_eager_propagates) == (True, True)
    assert made["task_always_eager"] is True
    assert made.origin("task_always_eager") == "config_from_object(SimpleNamespace)"

    made.task_always_eager = False
    assert made.task_always_eager is False
    del made.task_always_eager
    assert made.task_always_eager is True
    del settings.CELERY_TASK_ALWAYS_EAGER
    assert made.task_always_eager is False
    assert made.origin("task_always_eager") == "default"


def test_eager_settings_follow_django_s_in_a_test_and_after_it():
    conf = pytest.importorskip("django.conf", reason="Django is not installed")
    settings = conf.LazySettings()
    settings.configure(CELERY_LEASE=30)
    made = config(settings, "CELERY")
    assert (made.lease, made.task_always_eager) == (30.0, False)

    before = settings._wrapped
    settings._wrapped = conf.UserSettingsHolder(before)  # as override_settings does
    settings._wrapped.CELERY_TASK_ALWAYS_EAGER = True
    assert made.task_always_eager is True
    settings._wrapped = before
    assert made.task_always_eager is False
    settings.CELERY_TASK_ALWAYS_EAGER = True
    assert made.task_always_eager is True


def test_a_plain_app_pays_nothing_for_settings_that_are_read_at_each_access():
    assert not hasattr(Config, "task_always_eager")
    assert "__getattribute__" not in vars(Config)


def test_a_configuration_with_objects_can_be_copied_and_pickled():
    settings = SimpleNamespace(lease=30, task_always_eager=True)
    for twin in (
        copy.deepcopy(config(settings)),
        pickle.loads(pickle.dumps(config(settings))),
    ):
        assert type(twin) is Config
        assert (twin.lease, twin.task_always_eager) == (30.0, True)
        assert twin.origin("lease") == "config_from_object(SimpleNamespace)"


# as a mapping


def test_a_configuration_is_a_mapping():
    made = config({"lease": 30})

    assert "lease" in made
    assert "task_acks_late" in made
    assert "nothing" not in made
    assert made.get("lease") == 30.0
    assert made.get("nothing", 3) == 3
    assert dict(made)["lease"] == dict(made.items())["lease"] == 30.0
    assert made.setdefault("lease", 9) == 30.0
    assert made.setdefault("max_deliveries", 9) == 9
