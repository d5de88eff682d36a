"""The imports of a Celery project are rewritten, and nothing else is."""

import pytest

from streamq.cli.import_rewrites import rewrite

MODULES = {
    "streamq.celery": {"Celery", "current_app", "shared_task"},
    "streamq.celery.app": {"Task"},
    "streamq.celery.app.task": {"Task"},
    "streamq.celery.contrib": set(),
    "streamq.celery.contrib.pytest": {"celery_app"},
    "streamq.celery.kombu": {"Exchange", "Queue"},
    "streamq.celery.kombu.serialization": {"register"},
    "streamq.celery.result": {"AsyncResult"},
    "streamq.celery.signals": {"setup_logging"},
    "streamq.celery.utils": {"uuid"},
    "streamq.celery.utils.log": {"get_task_logger"},
}


def has(module, name):
    return module in MODULES and (name is None or name in MODULES[module])


def nothing(module, name):
    return False


def rewritten(text, **options):
    return rewrite(text, **{"has": has, "is_own": nothing, **options})


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("from celery import Celery", "from streamq.celery import Celery"),
        ("from celery import signals", "from streamq.celery import signals"),
        ("from celery import *", "from streamq.celery import *"),
        ("import celery", "import streamq.celery as celery"),
        ("import celery as c", "import streamq.celery as c"),
        ("import celery.signals as s", "import streamq.celery.signals as s"),
        (
            "import celery.utils.log",
            "import streamq.celery as celery, streamq.celery.utils.log",
        ),
        (
            "import os, kombu, celery  # for é",
            "import os, streamq.celery.kombu as kombu, streamq.celery as celery  # for é",
        ),
        ("from kombu import Queue as Q", "from streamq.celery.kombu import Queue as Q"),
        (
            "from kombu.serialization import register",
            "from streamq.celery.kombu.serialization import register",
        ),
        (
            "é = 'ü'; from \\\n  celery  import (  # both\n  Celery,\n  shared_task)\n",
            "é = 'ü'; from \\\n  streamq.celery  import (  # both\n  Celery,\n  shared_task)\n",
        ),
        (
            "try:\r\n\tfrom celery import Celery\r\nexcept ImportError:\r\n\tCelery = None",
            "try:\r\n\tfrom streamq.celery import Celery\r\nexcept ImportError:\r\n\tCelery = None",
        ),
        (
            "def f():\n    x = '\f\x1c'\n    from celery.result import AsyncResult\n",
            "def f():\n    x = '\f\x1c'\n    from streamq.celery.result import AsyncResult\n",
        ),
        (
            "if TYPE_CHECKING:\n    from celery.app.task import Task\n",
            "if TYPE_CHECKING:\n    from streamq.celery.app.task import Task\n",
        ),
    ],
)
def test_an_import_is_rewritten_and_all_around_it_stays(before, after):
    found = rewritten(before)
    assert found.text == after
    assert (found.imports, found.by_hand, found.in_text) == (1, [], [])


@pytest.mark.parametrize(
    "text",
    [
        "from .celery import app",
        "from proj.celery import app",
        "from . import celery",
        "import celeryconfig, celery_app",
        "from celery_app import app",
        "# from celery import Celery",
        '"""from celery import Celery"""',
        'task = "celery.backend_cleanup"; queue = "celery"; app = "proj.celery.app"',
        'x: "celery.Celery" = None',
        "def f(x: 'celery.Celery') -> 'celery.Celery': ...",
    ],
)
def test_what_is_no_import_of_celery_stays(text):
    found = rewritten(text, strings=True)
    assert (found.text, found.imports, found.by_hand, found.in_text) == (text, 0, [], [])


def test_a_module_of_the_project_that_is_named_celery_stays():
    own = rewritten("from celery import app", is_own=lambda module, name: name == "app")
    assert own.text == "from celery import app"


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("from celery.worker import control", ["celery.worker"]),
        ("from celery import bootsteps", ["celery.bootsteps"]),
        ("import celery.backends.redis", ["celery.backends.redis"]),
        ("from celery.utils import uuid_of", ["celery.utils.uuid_of"]),
        ("import django_celery_beat.models", ["django_celery_beat.models"]),
        ('INSTALLED_APPS = ["django_celery_results"]', ["django_celery_results"]),
        ("from flask_celeryext import FlaskCeleryExt", ["flask_celeryext"]),
        ("from celery_once import QueueOnce", ["celery_once"]),
        ('scheduler = "redbeat.RedBeatScheduler"', ["redbeat.RedBeatScheduler"]),
        (
            "from sentry_sdk.integrations.celery import CeleryIntegration",
            ["sentry_sdk.integrations.celery"],
        ),
        ('mock.patch("celery.worker.control.revoke")', ["celery.worker.control.revoke"]),
        ('log = {"celery.app.trace": {"level": "INFO"}}', ["celery.app.trace"]),
    ],
)
def test_what_has_no_counterpart_stays_and_is_told_with_advice(text, missing):
    found = rewritten(text, strings=True)
    assert found.text == text
    assert [remark.what for remark in found.by_hand] == [
        f"{name} has no counterpart" for name in missing
    ]
    assert all(remark.advice for remark in found.by_hand)


def test_a_statement_of_which_one_name_is_missing_stays_whole_and_says_how_to_part_it():
    found = rewritten("\nfrom celery import Celery, bootsteps, shared_task")
    assert found.imports == 0
    assert [(remark.line, remark.what, remark.advice) for remark in found.by_hand][1] == (
        2,
        "left as it is, with Celery, shared_task",
        "write a line of its own: from celery import Celery, shared_task",
    )


def test_uses_after_a_plain_import_are_checked():
    found = rewritten(
        "import celery\n"
        "celery.Celery('x').task.anything\n"
        "celery.signals.setup_logging.connect\n"
        "celery.bootsteps.Step\n"
        "celery.signals.no_such_signal\n"
    )
    assert [(remark.line, remark.what.split()[0]) for remark in found.by_hand] == [
        (4, "celery.bootsteps"),
        (5, "celery.signals.no_such_signal"),
    ]


def test_a_name_that_is_given_to_the_app_later_is_not_taken_for_the_package():
    found = rewritten("import celery\ncelery = celery.Celery()\n@celery.task\ndef f(): ...\n")
    assert found.by_hand == []


TEXTS = """\
pytest_plugins = ("celery.contrib.pytest",)
with mock.patch("celery.result.AsyncResult"), mock.patch('celery.app.task.Task.delay'):
    app = Celery(task_cls="celery.app.task:Task")
kombu = importlib.import_module("kombu")
"""


def test_names_in_text_are_told_and_stay():
    found = rewritten(TEXTS)
    assert found.text == TEXTS
    assert [(remark.line, remark.what) for remark in found.in_text] == [
        (1, '"celery.contrib.pytest"'),
        (2, '"celery.app.task.Task.delay"'),
        (2, '"celery.result.AsyncResult"'),
        (3, '"celery.app.task:Task"'),
        (4, '"kombu"'),
    ]


def test_names_in_text_are_rewritten_when_that_is_asked_for():
    found = rewritten(TEXTS, strings=True)
    assert found.text == TEXTS.replace('"kombu"', '"streamq.celery.kombu"').replace(
        "celery.", "streamq.celery."
    ).replace("streamq.streamq.", "streamq.")
    assert (found.strings, found.in_text) == (5, [])


def test_a_name_in_parts_is_told_even_so():
    found = rewritten("patch('celery.' 'result' '.AsyncResult')", strings=True)
    assert (found.strings, len(found.in_text)) == (0, 1)
