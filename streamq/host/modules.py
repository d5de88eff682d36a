"""The names of modules as another process imports them.

A program that is run is called ``__main__``, in a child of multiprocessing ``__mp_main__``,
by runpy ``<run_path>``.  A worker imports it under its real name: that of its spec, else the
stem of its file.  What is typed at a prompt has none.
"""

import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

#: Names under which nothing can be imported: those of a program, and of a prompt.
UNREAL = frozenset({"__main__", "__mp_main__", "<run_path>", "__console__"})

#: What the files of code are called that was typed at a prompt or into a cell.
TYPED = re.compile(
    r"<(stdin|console|input|\w*-input-.*)>|.*[/\\](ipykernel|marimo)_\d+[/\\].*", re.DOTALL
)

# What Python itself knows of a module and a class, which may answer otherwise when asked.
CONTENTS, NAMESPACE = (vars(kind)["__dict__"] for kind in (ModuleType, type))

#: What the programs hold whose functions were named, by their real names.  A profiler runs
#: a program that is not ``sys.modules["__main__"]``.
programs: dict[str, Mapping[str, Any]] = {}


def module_of(function: Any) -> str | None:
    """The real name of the module that defines a function; None if it has none."""
    module: str = function.__module__
    if module not in UNREAL:
        return real_name(namespace_of(function), module)
    code = code_of(function)
    if code is not None and TYPED.fullmatch(code.co_filename):
        return None  # a prompt has the names of the program that opened it
    namespace = namespace_of(function)
    name = real_name(namespace, module)
    if name is not None:
        programs[name] = namespace
    return name


def real_name(namespace: Mapping[str, Any], module: str) -> str | None:
    """The name under which a module that holds this is imported; None if it has none."""
    if namespace.get("__name__") != module:  # of something that says it belongs elsewhere
        return None if module in UNREAL else module
    spec = namespace.get("__spec__")
    file = namespace.get("__file__") or getattr(spec, "origin", None)
    names = [getattr(spec, "name", None), module, Path(str(file)).stem if file else None]
    return next((name for name in names if isinstance(name, str) and is_real(name)), None)


def is_real(name: str) -> bool:
    """Whether something may be imported under a name."""
    return name not in UNREAL and not name.startswith("<")


def code_of(function: Any) -> CodeType | None:
    """The code of a function, of the innermost one where others are wrapped around it."""
    code = getattr(innermost(function), "__code__", None)
    return code if isinstance(code, CodeType) else None


def innermost(function: Any) -> Any:
    """The function itself, without what ``functools.wraps`` has put around it."""
    with suppress(ValueError):  # one that wraps itself
        return inspect.unwrap(function)
    return function


def namespace_of(function: Any) -> Mapping[str, Any]:
    """What the module of a function holds."""
    found: Mapping[str, Any] = getattr(innermost(function), "__globals__", {})
    if found.get("__name__") == function.__module__:
        return found
    return names_in(sys.modules.get(function.__module__))


# ── classes ──────────────────────────────────────────────────────────────────────────


def names_in(holder: Any) -> Mapping[str, Any]:
    """What a module or a class holds, unasked: modules may be lazy, and objects proxies."""
    if issubclass(type(holder), ModuleType):
        found: Mapping[str, Any] = CONTENTS.__get__(holder)
        return found
    return NAMESPACE.__get__(holder) if issubclass(type(holder), type) else {}


def found_in(namespace: Mapping[str, Any], path: Sequence[str]) -> Any:
    """What stands at the end of a path of names; None if nothing does."""
    found = namespace.get(path[0])
    for name in path[1:]:
        found = names_in(found).get(name)
    return found


def module_of_class(cls: type) -> str:
    """The name of the module that defines a class, the real one if it has one."""
    module = cls.__module__
    if module not in UNREAL:
        return module
    path = cls.__qualname__.split(".")
    main = names_in(sys.modules.get(module))
    for namespace in (main, *programs.values(), *running()):
        found = found_in(namespace, path)
        if any(base is found for base in cls.__mro__) and (name := real_name(namespace, module)):
            return name
    return real_name(main, module) or module


def loaded(module: str) -> Iterator[Mapping[str, Any]]:
    """What is loaded under a name; first by the program that has it as its real one."""
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
    """What the modules hold whose code runs here."""
    frame: FrameType | None = sys._getframe(1)
    seen: set[int] = set()
    while frame is not None:
        namespace = frame.f_globals
        if id(namespace) not in seen:
            seen.add(id(namespace))
            yield namespace
        frame = frame.f_back
