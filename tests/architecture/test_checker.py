"""The control of the architecture's tests: the checker sees each kind of violation."""

import textwrap

import pytest

from tests.architecture.checker import (
    complaints,
    constructors_too_wide,
    doubled_classes,
    too_long,
    wrong_packages,
    wrong_root,
)
from tests.architecture.rules import LONGEST_FILE, LONGEST_FUNCTION, MOST_ROOT_MODULES


def judge(source: str, module: str = "streamq.serialization.codec", **others: str) -> str:
    """The violations of one made-up module among others, as text."""
    modules = {f"streamq.{name.replace('__', '.')}": text for name, text in others.items()}
    return "\n".join(
        complaints(
            {module: textwrap.dedent(source), **modules}, "os sys redis typing random time datetime"
        )
    )


def test_a_clean_module_is_not_complained_of():
    assert judge("import os\nfrom streamq.errors import ConfigError", errors="") == ""


def test_an_upward_import_is_seen():
    said = judge("from streamq.app import App", app="")

    assert (
        "streamq.serialization.codec:1 imports streamq.app, which points up: serialization → app"
        in said
    )


def test_an_import_of_a_module_from_its_package_is_seen():
    assert "points up" in judge("from streamq.worker import runner", worker="", worker__runner="")


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n    from streamq.errors import ConfigError",
        "class A:\n    async def f(self):\n        import sys",
        "def f():\n    if True:\n        import sys",
    ],
)
def test_a_late_import_is_seen(source):
    assert "inside a function" in judge(source, errors="")


def test_a_late_import_is_allowed_where_it_is_granted():
    source = "def f():\n    from streamq.admin.inspector import Inspector"

    assert judge(source, "streamq.cli.queues", admin__inspector="") == ""
    assert "inside a function" in judge(source, "streamq.worker.boot", admin__inspector="")


def test_an_import_for_types_alone_is_seen():
    source = "import typing\nif typing.TYPE_CHECKING:\n    from streamq.errors import ConfigError"

    assert "for a type alone" in judge(source, errors="")


def test_a_relative_import_is_seen():
    assert "relatively" in judge("from . import errors", errors="")


def test_an_undeclared_library_is_seen():
    assert "neither of Python nor declared" in judge("import requests")


@pytest.mark.parametrize(
    ("module", "source", "reason"),
    [
        ("streamq.app", "import redis", "goes through transport/"),
        ("streamq.app", "from redis.asyncio import Redis", "goes through transport/"),
        ("streamq.transport.client", "import subprocess", "handle processes"),
        ("streamq.execution.executor", "import os\nos.fork()", "handle processes"),
        ("streamq.transport.client", "import signal", "handle processes"),
        ("streamq.result", "from threading import Lock", "use threads"),
        ("streamq.app", "import asyncio", "broker/aio"),
        ("streamq.app", "import os\nurl = os.environ['X']", "by config"),
        ("streamq.worker.boot", "from os import environ", "by config"),
        ("streamq.worker.boot", "import gevent.event", "started for gevent"),
        ("streamq.app", "import click", "terminal"),
    ],
)
def test_a_hole_in_a_wall_is_seen(module, source, reason):
    assert reason in judge(source, module)


def test_a_generator_that_a_task_may_seed_is_seen():
    for source in ("import random", "from random import uniform", "from random import Random"):
        assert "may seed" in judge(source)
    assert judge("from random import SystemRandom") == ""


@pytest.mark.parametrize(
    "source",
    [
        "import time\ntime.monotonic()",
        "from time import perf_counter, sleep",
        "from datetime import datetime\ndatetime.now()",
        "import datetime\ndatetime.datetime.utcnow()",
        "from datetime import date\ndate.today()",
    ],
)
def test_a_clock_that_a_test_may_freeze_is_seen(source):
    assert "may freeze" in judge(source)


def test_sleeping_and_moments_are_no_clocks():
    assert judge("import time\nfrom datetime import datetime\ntime.sleep(datetime(1, 1, 1))") == ""


def test_the_modules_inside_of_a_wall_may_use_what_it_encloses():
    assert judge("import redis", "streamq.transport.client") == ""
    assert judge("import os\nos.environ", "streamq.config.config") == ""


def test_loading_a_module_by_name_is_seen():
    assert "by name" in judge(
        "import importlib\nimportlib.import_module('x')", "streamq.producer.templates"
    )
    assert "by name" in judge("__import__('x')", "streamq.producer.templates")


def test_a_circle_is_seen_also_a_late_one():
    said = judge(
        "from streamq.routing import Queue",
        routing="def f():\n    from streamq.serialization.codec import encode",
    )

    assert "in a circle" in said


def test_a_module_without_a_layer_is_seen():
    assert "stands in no layer" in judge("", "streamq.helpers")


def test_a_file_or_function_that_is_too_long_is_seen():
    function = "def f():\n" + "    pass\n" * LONGEST_FUNCTION

    assert "f has 61 lines" in too_long({"streamq.serialization.codec": function})[0]
    assert (
        "two things live in it" in too_long({"streamq.serialization.codec": "\n" * LONGEST_FILE})[0]
    )


@pytest.mark.parametrize("module", ["streamq.core.units", "streamq.serialization.codec"])
@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import socket", "uses socket"),
        ("from ssl import SSLContext", "uses ssl.SSLContext"),
        ("import select", "uses select"),
        ("from threading import Lock", "uses threading.Lock"),
        ("import subprocess", "uses subprocess"),
        ("import logging", "uses logging"),
        ("from pathlib import Path", "uses pathlib.Path"),
        ("from signal import Signals", "uses signal.Signals"),
        ("from streamq.host.clock import now", "uses streamq.host.clock"),
        ("def f():\n    with open('x') as file:\n        file.read()", "calls open()"),
        ("print('x')", "calls print()"),
    ],
)
def test_io_in_a_pure_package_is_seen(module, source, reason):
    assert f"{reason}: core/" in judge(source, module, host__clock="")


def test_io_outside_of_pure_packages_and_names_of_signals_are_no_violation():
    assert "no I/O" not in judge("import logging\nopen('x')", "streamq.broker.consumer")
    assert "no I/O" not in judge("from signal import Signals", "streamq.core.termination")
    assert "no I/O" in judge("from signal import signal", "streamq.core.termination")


def test_a_constructor_with_too_many_parameters_is_seen():
    def wide(name, count):
        given = ", ".join(f"p{n}" for n in range(count))
        return f"class {name}:\n    def __init__(self, {given}): pass"

    (found,) = constructors_too_wide({"streamq.app": wide("Thing", 7)})
    assert found.startswith("streamq.app.Thing takes 7 parameters")
    keyword_only = "class Thing:\n    def __new__(cls, a, b, c, /, d, *, e, f, g): pass"
    assert constructors_too_wide({"streamq.app": keyword_only})
    dataclass = "@dataclass\nclass Thing:\n" + "".join(f"    p{n}: int\n" for n in range(9))
    for fine in (
        wide("Thing", 6),
        wide("App", 9),
        wide("Queue", 9),
        wide("Exchange", 9),
        dataclass,
    ):
        assert constructors_too_wide({"streamq.app": fine}) == []


def test_two_classes_of_one_name_are_seen():
    (found,) = doubled_classes(
        {"streamq.app": "class Run: pass", "streamq.api": "def f():\n    class Run: pass"}
    )

    assert found.startswith("Run is a class in streamq.app and in streamq.api")


def test_a_module_in_the_root_with_the_name_of_a_public_function_is_seen():
    modules = {"streamq": "", "streamq.task": "", "streamq.producer.enqueue": ""}

    assert wrong_root(modules, ["task", "enqueue"]) == [
        "streamq.task is a module and a public name"
    ]


def test_too_many_modules_in_the_root_are_seen():
    modules = {f"streamq.m{n}": "" for n in range(MOST_ROOT_MODULES)}
    packages = {f"streamq.p{n}.inside": "" for n in range(9)} | {
        f"streamq.p{n}": "" for n in range(9)
    }

    assert wrong_root(modules | packages, []) == []
    assert "holds 21 modules" in wrong_root({**modules, **packages, "streamq.more": ""}, [])[0]


@pytest.mark.parametrize("source", ["import os", '"""Words."""\n\nfrom os import path', "x = 1"])
def test_code_in_a_package_is_seen(source):
    modules = {"streamq": "import os", "streamq.core": source, "streamq.core.units": ""}

    assert wrong_packages(modules) == [
        "streamq.core holds more than a docstring: move the code into a module"
    ]
    assert wrong_packages({**modules, "streamq.core": '"""Words."""'}) == []
    assert wrong_packages({**modules, "streamq.core": ""}) == []
