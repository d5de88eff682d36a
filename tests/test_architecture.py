"""The shape of the code: imports point down, walls hold, nothing is loaded by surprise.

The layers are stated here, once.  A module may import what stands in a row below its own,
or in its own row; nothing may go in a circle, late imports included.
"""

import ast
import configparser
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

#: From the bottom to the top.  A name alone is that module; ``runner.*`` is a whole package.
LAYERS: Mapping[str, str] = {
    "facts": "arguments errors states",
    "host": "host host.*",
    "core": "routing context core core.*",
    "serialization": "serialization serialization.*",
    "config": "config config.*",
    "transport": "transport transport.*",
    "acl": "acl acl.*",
    "broker": "broker broker.*",
    "admin": "admin admin.*",
    "devserver": "devserver devserver.*",
    "calls": "result tasks",
    "producer": "producer producer.*",
    "execution": "execution execution.*",
    "app": "app api discovery",
    "package": "streamq",
    "runner": "runner runner.*",
    "worker": "worker worker.*",
    "cli": "cli cli.* __main__",
}

#: Who may load a module late, and what: by design, and nowhere else.
LATE = {
    "streamq": {"streamq.*"},  # public names, when they are first used
    "cli.*": {"streamq.*", "rich.*"},  # one command loads its own part only
}
#: Who may load a module by its name as text.
BY_NAME = "streamq serialization.codec serialization.compression producer.registry discovery cli.*"

#: Which libraries, modules and functions only some places may know, and why.
WALLS = {
    "redis hiredis": (
        "transport.*",
        "everything that is said to Redis goes through transport/",
    ),
    "subprocess multiprocessing signal os.fork os.kill os.waitpid os.execv os._exit": (
        "devserver.* runner.* worker.* cli.* __main__ core.termination",
        "only workers, runners and the server for development know processes",
    ),
    "threading select": (
        "transport.* broker.* devserver.* runner.* worker.* cli.*",
        "only those who wait or work know threads",
    ),
    "asyncio": (
        "broker.aio transport.aio_connection transport.loops",
        "producers for asyncio speak through broker/aio",
    ),
    "gevent": (
        "runner.pools.gevent runner.pools.greenlets runner.pools.greenlet_forks "
        "runner.pools.greenlet_limits runner.pools.hub_watchdog runner.gevent_main",
        "only a process started for gevent may load it",
    ),
    "click": ("cli.*", "only the command line talks to a terminal"),
    "rich": ("cli.* worker.*", "only what is shown to people is drawn"),
    "os.environ os.getenv os.putenv": (
        "config.config host.launch devserver.* runner.inherited",
        "settings are read once, by config; launch knows by which name a folder was entered; "
        "a worker hands its signals to its successor",
    ),
}

#: What tests freeze: only ``streamq.host.clock`` has functions that tell the time in any case.
CLOCKS = frozenset(
    {"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"}
    | {"localtime", "gmtime", "strftime", "ctime", "asctime"}
)
TODAY = frozenset({"now", "utcnow", "today"})
FROZEN = "that a test may freeze: ask host.clock"

#: Where chance comes from: Python's other generators follow a seed of the user's, and forks.
CHANCE = "random.SystemRandom"

#: Modules of a newer Python than this may be.
NEWER_PYTHON = "annotationlib"

LONGEST_FUNCTION, LONGEST_FILE = 60, 400


# The checker


@dataclass(frozen=True)
class Import:
    """One import of a module, or one use of a name such as ``os.environ``."""

    target: str
    line: int
    late: bool = False
    types_only: bool = False


def fits(name: str, patterns: str) -> bool:
    """Whether a dotted name is one of the patterns; ``a.*`` is everything inside ``a``."""
    return any(
        name == pattern or (pattern.endswith(".*") and name.startswith(pattern[:-1]))
        for pattern in patterns.split()
    )


def below(name: str, roots: str) -> bool:
    """Whether a dotted name is one of the roots or inside one."""
    return any(name == root or name.startswith(root + ".") for root in roots.split())


def short(module: str) -> str:
    """The module's name as the layers spell it."""
    return module.removeprefix("streamq.")


def layer_of(module: str) -> int | None:
    """The row of a module: where it is named, else where its package is."""
    rows = list(enumerate(LAYERS.values()))
    exact = [n for n, names in rows if short(module) in names.split()]
    return next(iter(exact or [n for n, names in rows if fits(short(module), names)]), None)


def imports_of(source: str, modules: Mapping[str, str]) -> list[Import]:
    """Every import and every use of an attribute of ``os`` in a module's source."""
    return list(walk(ast.parse(source), modules, late=False, types_only=False))


def walk(
    node: ast.AST, modules: Mapping[str, str], *, late: bool, types_only: bool
) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        inside = late or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        types = types_only or (
            isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
        )
        for target in targets_of(child, modules):
            yield Import(target, getattr(child, "lineno", 0), inside, types)
        yield from walk(child, modules, late=inside, types_only=types)


def targets_of(node: ast.AST, modules: Mapping[str, str]) -> list[str]:
    """What one statement or expression loads, or reaches for in ``os`` and ``importlib``."""
    match node:
        case ast.Import():
            return [alias.name for alias in node.names]
        case ast.ImportFrom(level=0, module=str(module)):
            names = [f"{module}.{alias.name}" for alias in node.names]
            inner = module.startswith("streamq")
            return [n if n in modules or not inner else module for n in names]
        case ast.ImportFrom():
            return ["<relative>"]
        case ast.Attribute(value=ast.Name(id="os" | "importlib" as library)):
            return [f"{library}.{node.attr}"]
        case ast.Call(func=ast.Name(id="__import__" as name)):
            return [name]
    return []


def complaints(modules: Mapping[str, str], libraries: str = "") -> list[str]:
    """What is wrong with these modules (name → source), each with the reason."""
    found: list[str] = []
    for module, source in modules.items():
        if layer_of(module) is None:
            found.append(f"{module} stands in no layer: add it to LAYERS where it belongs")
            continue
        if short(module) != "host.clock":
            found += [f"{module}:{line} asks a clock {FROZEN}" for line in clocks_in(source)]
        for use in imports_of(source, modules):
            where = f"{module}:{use.line}"
            found += [f"{where} {reason}" for reason in wrong_with(module, use, libraries)]
    return found + circles(modules)


def clocks_in(source: str) -> Iterator[int]:
    """The lines that ask for the time, by a function that tests replace."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.ImportFrom(module="time"):
                asks = any(alias.name in CLOCKS for alias in node.names)
            case ast.Attribute(value=ast.Name(id="time")):
                asks = node.attr in CLOCKS
            case ast.Attribute():
                asks = node.attr in TODAY and "date" in ast.unparse(node.value)
            case _:
                continue
        if asks:
            yield node.lineno


def wrong_with(module: str, use: Import, libraries: str) -> Iterator[str]:
    """The reasons why a module may not make this import."""
    target, name = use.target, short(module)
    if target == "<relative>":
        yield "imports relatively: write the module's whole name"
        return
    if use.types_only and module != "streamq":
        yield f"imports {target} for a type alone: the type lives too high, or too much is asked"
    if use.late and not target.startswith(("os.", "importlib.")) and not may_be_late(name, target):
        yield f"imports {target} inside a function: put it at the top, or move what is wanted"
    if target in ("importlib.import_module", "__import__") and not fits(name, BY_NAME):
        yield f"loads a module by name: only {BY_NAME} may"
    for barred, (allowed, reason) in WALLS.items():
        if below(target, barred) and not fits(name, allowed):
            yield f"uses {target}: {reason} (allowed: {allowed})"
    if below(target, "random") and target != CHANCE:
        yield f"uses {target}, which a task may seed: take {CHANCE}"
    if target.startswith("streamq"):
        yield from upward(module, target)
    elif libraries and not below(target, libraries):
        yield f"imports {target}, which is neither of Python nor declared in setup.cfg"


def may_be_late(name: str, target: str) -> bool:
    return any(
        fits(name, who) and any(fits(target, what) for what in targets)
        for who, targets in LATE.items()
    )


def upward(module: str, target: str) -> Iterator[str]:
    """Complain if the target stands above the module."""
    mine, theirs = layer_of(module), layer_of(target)
    names = list(LAYERS)
    if theirs is None:
        yield f"imports {target}, which does not exist or stands in no layer"
    elif mine is not None and theirs > mine:
        yield f"imports {target}, which points up: {names[mine]} → {names[theirs]}"


def circles(modules: Mapping[str, str]) -> list[str]:
    """The first circle that imports make, late ones included."""
    graph = {
        module: {use.target for use in imports_of(source, modules) if use.target in modules}
        for module, source in modules.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        return [f"imports go in a circle: {' → '.join(reversed(circle.args[1]))}"]
    return []


def too_long(modules: Mapping[str, str]) -> list[str]:
    """Files and functions that nobody reads in one sitting."""
    found = []
    for module, source in modules.items():
        lines = source.count("\n") + 1
        if lines > LONGEST_FILE:
            found.append(f"{module} has {lines} lines: two things live in it")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > LONGEST_FUNCTION:
                    found.append(f"{module}.{node.name} has {length} lines: name its steps")
    return found


def our_modules() -> dict[str, str]:
    """Every module of the package with its source."""
    files = {}
    for path in sorted((ROOT / "streamq").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        files[name.removesuffix(".__init__")] = path.read_text(encoding="utf-8")
    return files


def libraries() -> str:
    """What may be imported: Python's own modules, and what setup.cfg declares."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config["options"]["install_requires"]
    extras = config["options.extras_require"]
    lines += "\n".join(["", *(text for name, text in extras.items() if name != "dev")])
    declared = re.findall(r"^([\w.]+)", lines, re.MULTILINE)
    spelled = {"pyyaml": "yaml"}
    python = [*sys.stdlib_module_names, NEWER_PYTHON]
    return " ".join([*python, *(spelled.get(name, name) for name in declared)])


# The code as it is


def test_imports_point_down_and_walls_hold():
    found = complaints(our_modules(), libraries())

    assert not found, "\n" + "\n".join(found)


def test_every_file_and_function_is_read_in_one_sitting():
    found = too_long(our_modules())

    assert not found, "\n" + "\n".join(found)


def test_every_layer_names_modules_that_exist():
    modules = {short(name) for name in our_modules()}
    named = {name for names in LAYERS.values() for name in names.split() if "*" not in name}

    assert named <= modules


def test_every_exception_that_is_granted_is_needed():
    modules = our_modules()
    late = {
        short(module)
        for module, source in modules.items()
        for use in imports_of(source, modules)
        if use.late and not use.target.startswith(("os.", "importlib."))
    }
    by_name = {
        short(module)
        for module, source in modules.items()
        for use in imports_of(source, modules)
        if use.target == "importlib.import_module"
    }

    for who in LATE:
        if who not in ("streamq", "cli.*"):
            assert any(fits(name, who) for name in late), f"{who} loads nothing late any more"
    for who in BY_NAME.split():
        if who != "cli.*":
            assert who in by_name, f"{who} loads nothing by name any more"


# The checker itself: it must see each kind of wrong


def judge(source: str, module: str = "streamq.serialization.codec", **others: str) -> str:
    """What is said of one made-up module among others."""
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
        ("streamq.transport.client", "import subprocess", "know processes"),
        ("streamq.execution.executor", "import os\nos.fork()", "know processes"),
        ("streamq.transport.client", "import signal", "know processes"),
        ("streamq.result", "from threading import Lock", "know threads"),
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


def test_what_a_wall_encloses_may_use_what_it_keeps():
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


def test_what_is_too_long_is_seen():
    function = "def f():\n" + "    pass\n" * LONGEST_FUNCTION

    assert "f has 61 lines" in too_long({"streamq.serialization.codec": function})[0]
    assert (
        "two things live in it" in too_long({"streamq.serialization.codec": "\n" * LONGEST_FILE})[0]
    )


def test_commands_print_by_one_function_that_lets_nothing_reach_the_terminal_raw():
    apart = {"streamq.cli.shared", "streamq.cli.command", "streamq.cli.tables"}
    found = [
        module
        for module, source in our_modules().items()
        if module.startswith("streamq.cli.") and module not in apart and "click.echo" in source
    ]

    assert not found, "say() of cli/common prints"
