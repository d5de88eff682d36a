"""The checker of the architecture: it finds the places that break the rules."""

import ast
import configparser
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from tests.architecture.rules import (
    ALLOWED_IMPURE,
    BY_NAME,
    CHANCE,
    CLOCKS,
    FROZEN,
    IMPURE,
    IO_FUNCTIONS,
    LATE,
    LAYERS,
    LONGEST_FILE,
    LONGEST_FUNCTION,
    MOST_PARAMETERS,
    MOST_ROOT_MODULES,
    NAMED_PACKAGES,
    NEWER_PYTHON,
    OPTIONS_CLASSES,
    PURE,
    TODAY,
    TOO_MANY_PARAMETERS,
    WALLS,
)

ROOT = Path(__file__).resolve().parents[2]


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
    if use.types_only and module not in NAMED_PACKAGES:
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
    """Packages, those with public names aside, whose ``__init__`` holds more than a docstring."""
    packages = {name.rpartition(".")[0] for name in modules} & modules.keys()
    found = []
    for name in sorted(packages - NAMED_PACKAGES):
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
