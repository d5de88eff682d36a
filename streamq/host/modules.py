"""The names of modules as another process imports them.

A program that is run is called ``__main__``, in a child of multiprocessing ``__mp_main__``,
by runpy ``<run_path>``.  A worker imports it under its real name: that of its spec, else the
stem of its file.  Code typed at a prompt has none.
"""

import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

#: Module names that cannot be imported: of a program, and of a prompt.
NOT_IMPORTABLE = frozenset({"__main__", "__mp_main__", "<run_path>", "__console__"})

#: File names of code that was typed at a prompt or into a notebook cell.
TYPED = re.compile(
    r"<(stdin|console|input|\w*-input-.*)>|.*[/\\](ipykernel|marimo)_\d+[/\\].*", re.DOTALL
)

# Python's own descriptors: normal attribute access may run code of a module or metaclass.
CONTENTS, NAMESPACE = (vars(kind)["__dict__"] for kind in (ModuleType, type))

#: The globals of programs with tasks, by real module name.  A program that a profiler runs is
#: not ``sys.modules["__main__"]``.
programs: dict[str, Mapping[str, Any]] = {}


def module_of(function: Any) -> str | None:
    """The importable name of the module that defines a function; None if it has none."""
    module: str = function.__module__
    if module not in NOT_IMPORTABLE:
        return real_name(namespace_of(function), module)
    code = code_of(function)
    if code is not None and TYPED.fullmatch(code.co_filename):
        return None  # a prompt shares the globals of the program that opened it
    namespace = namespace_of(function)
    name = real_name(namespace, module)
    if name is not None:
        programs[name] = namespace
    return name


def real_name(namespace: Mapping[str, Any], module: str) -> str | None:
    """The importable name of the module with these globals; None if it has none."""
    if namespace.get("__name__") != module:  # an object that claims another module
        return None if module in NOT_IMPORTABLE else module
    spec = namespace.get("__spec__")
    file = namespace.get("__file__") or getattr(spec, "origin", None)
    names = [getattr(spec, "name", None), module, Path(str(file)).stem if file else None]
    return next((name for name in names if isinstance(name, str) and is_real(name)), None)


def is_real(name: str) -> bool:
    """Whether a name can be that of an importable module."""
    return name not in NOT_IMPORTABLE and not name.startswith("<")


def code_of(function: Any) -> CodeType | None:
    """The code of a function, of the innermost one of wrapped functions; None if it has none."""
    code = getattr(innermost(function), "__code__", None)
    return code if isinstance(code, CodeType) else None


def innermost(function: Any) -> Any:
    """The function inside of all wrappers made with ``functools.wraps``."""
    with suppress(ValueError):  # one that wraps itself
        return inspect.unwrap(function)
    return function


def namespace_of(function: Any) -> Mapping[str, Any]:
    """The globals of the module of a function."""
    found: Mapping[str, Any] = getattr(innermost(function), "__globals__", {})
    if found.get("__name__") == function.__module__:
        return found
    return names_in(sys.modules.get(function.__module__))


# ── classes ──────────────────────────────────────────────────────────────────────────


def names_in(holder: Any) -> Mapping[str, Any]:
    """The names in a module or class, without running its code: modules may be lazy."""
    if issubclass(type(holder), ModuleType):
        found: Mapping[str, Any] = CONTENTS.__get__(holder)
        return found
    return NAMESPACE.__get__(holder) if issubclass(type(holder), type) else {}


def found_in(namespace: Mapping[str, Any], path: Sequence[str]) -> Any:
    """The object at the end of a path of names; None if there is none."""
    found = namespace.get(path[0])
    for name in path[1:]:
        found = names_in(found).get(name)
    return found


def module_of_class(cls: type) -> str:
    """The name of the module that defines a class; its importable name if it has one."""
    module = cls.__module__
    if module not in NOT_IMPORTABLE:
        return module
    path = cls.__qualname__.split(".")
    main = names_in(sys.modules.get(module))
    for namespace in (main, *programs.values(), *running()):
        found = found_in(namespace, path)
        if any(base is found for base in cls.__mro__) and (name := real_name(namespace, module)):
            return name
    return real_name(main, module) or module


def loaded(module: str) -> Iterator[Mapping[str, Any]]:
    """Yield the globals loaded under a module name; first those of a program of that name."""
    if module in programs:
        yield programs[module]
    main = names_in(sys.modules.get("__main__"))
    if real_name(main, str(main.get("__name__"))) == module:
        yield main
    yield names_in(sys.modules.get(module))
    for namespace in running():
        if real_name(namespace, str(namespace.get("__name__"))) == module:
            yield namespace


def running() -> Iterator[Mapping[str, Any]]:
    """Yield the globals of the modules on the call stack."""
    frame: FrameType | None = sys._getframe(1)
    seen: set[int] = set()
    while frame is not None:
        namespace = frame.f_globals
        if id(namespace) not in seen:
            seen.add(id(namespace))
            yield namespace
        frame = frame.f_back
