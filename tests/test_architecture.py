"""The architecture of the package: layers, walls, late imports, sizes and names.

The layers are stated here, once.  A module may import modules of a row below its own, or of its
own row; imports must not go in a circle, late imports included.
"""

import ast
import configparser
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import streamq

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

#: Which modules may import inside of a function: what they may import so, and why.
LATE: Mapping[str, tuple[str, str]] = {
    "streamq": (
        "streamq.*",
        "`import streamq` takes a few milliseconds: a public name is imported when it is first "
        "used, and a program that patches the standard library can do so before",
    ),
    "cli.*": (
        "streamq.* rich.*",
        "a command imports its own part alone: `streamq --help` would take a quarter of a second "
        "if it imported workers, the doctor and rich",
    ),
}
#: Who may load a module by its name as text.
BY_NAME = "streamq serialization.codec serialization.compression producer.registry discovery cli.*"

#: Libraries, modules and functions that only some modules may use, and why.
WALLS = {
    "redis hiredis": (
        "transport.*",
        "every command to Redis goes through transport/",
    ),
    "subprocess multiprocessing signal os.fork os.kill os.waitpid os.execv os._exit": (
        "devserver.* runner.* worker.* cli.* __main__ core.termination",
        "only workers, runners and the development server handle processes",
    ),
    "threading select": (
        "transport.* broker.* devserver.* runner.* worker.* cli.*",
        "only modules that wait or work use threads",
    ),
    "asyncio": (
        "broker.aio transport.aio_connection transport.loops",
        "producers for asyncio use broker/aio",
    ),
    "gevent": (
        "runner.pools.gevent runner.pools.greenlets runner.pools.greenlet_forks "
        "runner.pools.greenlet_limits runner.pools.hub_watchdog runner.gevent_main",
        "only a process started for gevent may load it",
    ),
    "click": ("cli.*", "only the command line writes to a terminal"),
    "rich": ("cli.* worker.*", "only output for people is drawn"),
    "os.environ os.getenv os.putenv": (
        "config.config host.launch devserver.* runner.inherited",
        "settings are read once, by config; launch reads the name by which a folder was entered; "
        "a worker passes its signal settings on when it reloads",
    ),
}

#: What may do no I/O and ask no clock: it computes results from its arguments alone.
PURE = "core core.* serialization serialization.*"
#: What such modules must not import.
IMPURE = (
    "socket ssl select selectors threading subprocess multiprocessing asyncio concurrent "
    "logging pathlib tempfile shutil signal redis streamq.host.clock"
)
#: What they may import all the same: ``Signals`` is an enumeration of names and numbers.
ALLOWED_IMPURE = {"core.termination": "signal.Signals"}
#: Built-in functions that do I/O.
IO_FUNCTIONS = frozenset({"open", "print", "input"})

#: Functions of ``time`` that tests freeze: ``streamq.host.clock`` has them as they were before.
CLOCKS = frozenset(
    {"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"}
    | {"localtime", "gmtime", "strftime", "ctime", "asctime"}
)
TODAY = frozenset({"now", "utcnow", "today"})
FROZEN = "that a test may freeze: use host.clock"

#: The random generator to use: others repeat after a user's seed, and in forked children.
CHANCE = "random.SystemRandom"

#: Modules that only a newer Python has.
NEWER_PYTHON = "annotationlib"

LONGEST_FUNCTION, LONGEST_FILE = 60, 400
#: Parameters of a constructor, without ``self``; and modules in the root of the package.
MOST_PARAMETERS, MOST_ROOT_MODULES = 6, 20
#: Classes of the public API whose options are the parameters of their constructors.
OPTIONS_CLASSES = frozenset({"App", "Queue", "Exchange"})
#: Classes with more parameters than allowed, and why.
TOO_MANY_PARAMETERS = {
    "MessageTemplate": "to be split",
    "Outcome": "to be split",
    "Greenlets": "to be split",
    "Supervisor": "to be split",
}


# The checker


@dataclass(frozen=True)
class Import:
    """An import of a module, or a use of a name such as ``os.environ``."""

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
    """The name of a module as ``LAYERS`` spells it."""
    return module.removeprefix("streamq.")


def layer_of(module: str) -> int | None:
    """The row of a module: the one that names it, else the one that names its package."""
    rows = list(enumerate(LAYERS.values()))
    exact = [n for n, names in rows if short(module) in names.split()]
    return next(iter(exact or [n for n, names in rows if fits(short(module), names)]), None)


def imports_of(source: str, modules: Mapping[str, str]) -> list[Import]:
    """All imports, and all uses of an attribute of ``os``, in the source of a module."""
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
    """The modules that a statement imports, or the attributes of ``os`` that it uses."""
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
    """The violations of these modules (name → source), each with the reason."""
    found: list[str] = []
    for module, source in modules.items():
        if layer_of(module) is None:
            found.append(f"{module} stands in no layer: add it to LAYERS where it belongs")
            continue
        if short(module) != "host.clock":
            found += [f"{module}:{line} asks a clock {FROZEN}" for line in clocks_in(source)]
        if fits(short(module), PURE):
            found += [
                f"{module}:{line} {reason}" for line, reason in io_in(module, source, modules)
            ]
        for use in imports_of(source, modules):
            where = f"{module}:{use.line}"
            found += [f"{where} {reason}" for reason in wrong_with(module, use, libraries)]
    return found + circles(modules)


def clocks_in(source: str) -> Iterator[int]:
    """The lines that ask for the time by a function that tests replace."""
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


def io_in(module: str, source: str, modules: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    """The lines of a pure module that import I/O or do it, each with the reason."""
    allowed = ALLOWED_IMPURE.get(short(module), "")
    for use in imports_of(source, modules):
        if below(use.target, IMPURE) and use.target != allowed:
            yield use.line, f"uses {use.target}: core/ and serialization/ do no I/O"
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in IO_FUNCTIONS:
                yield node.lineno, f"calls {name}(): core/ and serialization/ do no I/O"


def wrong_with(module: str, use: Import, libraries: str) -> Iterator[str]:
    """The reasons for which a module must not make this import."""
    target, name = use.target, short(module)
    if target == "<relative>":
        yield "imports relatively: write the module's whole name"
        return
    if use.types_only and module != "streamq":
        yield f"imports {target} for a type alone: move the type down, or pass less"
    if use.late and not target.startswith(("os.", "importlib.")) and not may_be_late(name, target):
        yield f"imports {target} inside a function: import it at the top, or move what is needed"
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
    """Whether a module may import this inside of a function."""
    return any(fits(name, who) and fits(target, targets) for who, (targets, _) in LATE.items())


def upward(module: str, target: str) -> Iterator[str]:
    """The violation of a target that stands above the module."""
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
    """Files and functions that are longer than allowed."""
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


def constructors_too_wide(modules: Mapping[str, str]) -> list[str]:
    """Constructors with more parameters than allowed; dataclasses have none of their own."""
    return [
        f"{module}.{name} takes {count} parameters: some of them are a value that has no name yet"
        for module, name, count in constructors(modules)
        if count > MOST_PARAMETERS and name not in OPTIONS_CLASSES | TOO_MANY_PARAMETERS.keys()
    ]


def constructors(modules: Mapping[str, str]) -> Iterator[tuple[str, str, int]]:
    """The module, class and number of parameters of every ``__init__`` and ``__new__``."""
    for module, node in classes(modules):
        for method in node.body:
            if isinstance(method, ast.FunctionDef) and method.name in ("__init__", "__new__"):
                given = method.args
                count = len([*given.posonlyargs, *given.args, *given.kwonlyargs]) - 1
                yield module, node.name, count


def classes(modules: Mapping[str, str]) -> Iterator[tuple[str, ast.ClassDef]]:
    """Every class with its module, also those inside of functions and classes."""
    for module, source in modules.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ClassDef):
                yield module, node


def doubled_classes(modules: Mapping[str, str]) -> list[str]:
    """Names that two classes of the package have."""
    homes: dict[str, list[str]] = {}
    for module, node in classes(modules):
        homes.setdefault(node.name, []).append(module)
    return [
        f"{name} is a class in {' and in '.join(found)}: one name, one class"
        for name, found in homes.items()
        if len(found) > 1
    ]


def wrong_root(modules: Mapping[str, str], public: Iterable[str]) -> list[str]:
    """What is wrong with the modules in the root: too many, or named like a public name.

    ``import streamq.task`` would put the module in the place of the function ``streamq.task``.
    """
    root = {short(name) for name in modules if name.count(".") == 1}
    found = [f"streamq.{name} is a module and a public name" for name in root & set(public)]
    packages = {name.split(".")[1] for name in modules if name.count(".") > 1}
    if (count := len(root - packages)) > MOST_ROOT_MODULES:
        found.append(f"the root holds {count} modules: move some into a package")
    return found


def wrong_packages(modules: Mapping[str, str]) -> list[str]:
    """Packages, the root aside, whose ``__init__`` holds more than a docstring."""
    packages = {name.rpartition(".")[0] for name in modules} & modules.keys()
    found = []
    for name in sorted(packages - {"streamq"}):
        tree = ast.parse(modules[name])
        if len(tree.body) > (ast.get_docstring(tree) is not None):
            found.append(f"{name} holds more than a docstring: move the code into a module")
    return found


def our_modules() -> dict[str, str]:
    """Every module of the package with its source."""
    files = {}
    for path in sorted((ROOT / "streamq").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        files[name.removesuffix(".__init__")] = path.read_text(encoding="utf-8")
    return files


def libraries() -> str:
    """The modules that may be imported: Python's own, and those that setup.cfg declares."""
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


def test_files_and_functions_are_no_longer_than_allowed():
    found = too_long(our_modules())

    assert not found, "\n" + "\n".join(found)


def test_constructors_take_few_parameters():
    found = constructors_too_wide(our_modules())

    assert not found, "\n" + "\n".join(found)


def test_class_names_are_unique():
    found = doubled_classes(our_modules())

    assert not found, "\n" + "\n".join(found)


def test_the_root_is_small_and_hides_no_public_name():
    found = wrong_root(our_modules(), streamq.__all__)

    assert not found, "\n" + "\n".join(found)


def test_packages_hold_only_a_docstring():
    found = wrong_packages(our_modules())

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

    for who, (_, reason) in LATE.items():
        assert len(reason) > 40, f"LATE does not say why {who} may import late"
        if who != "streamq":  # it imports by name
            assert any(fits(name, who) for name in late), f"{who} imports nothing late any more"
    wide = {name for _, name, count in constructors(modules) if count > MOST_PARAMETERS}
    for name in TOO_MANY_PARAMETERS:
        assert name in wide, f"{name} has few parameters now: remove it from the exceptions"
    for who, target in ALLOWED_IMPURE.items():
        used = {use.target for use in imports_of(modules[f"streamq.{who}"], modules)}
        assert target in used, f"{who} does not import {target} any more"
    for who in BY_NAME.split():
        if who != "cli.*":
            assert who in by_name, f"{who} loads nothing by name any more"


# The checker itself: it must see each kind of violation


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


def test_commands_print_by_one_function_that_lets_nothing_reach_the_terminal_raw():
    apart = {"streamq.cli.shared", "streamq.cli.command", "streamq.cli.tables"}
    found = [
        module
        for module, source in our_modules().items()
        if module.startswith("streamq.cli.") and module not in apart and "click.echo" in source
    ]

    assert not found, "say() of cli/shared prints"
