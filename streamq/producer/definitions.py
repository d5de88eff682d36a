"""Definitions of tasks: whether a second one of a name replaces the first or is a mistake.

Code that runs again, such as a reloaded module, a corrected notebook cell or a line at a
prompt, replaces what it defined before.  Two definitions that can both still be called are a
mistake: a message names one task.
"""

import dis
import gc
import sys
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from inspect import CO_OPTIMIZED
from types import CodeType, FrameType, FunctionType
from typing import Any

from streamq.host.modules import names_in
from streamq.tasks import Task

#: Bytecode instructions that assign a name of a module.
STORES = frozenset({"STORE_NAME", "STORE_GLOBAL"})


@dataclass(frozen=True, slots=True)
class ModuleRun:
    """One run of the code of a module, a cell or a line, in which tasks are defined.

    ``code`` is gone when the run is over; ``names`` are the module's globals; ``calls`` are
    the places from which the task was registered, the innermost first.
    """

    code: weakref.ref[CodeType] | None
    names: Mapping[str, Any] | None
    file: str
    calls: tuple[tuple[str, int], ...]

    @classmethod
    def here(cls) -> "ModuleRun":
        """The run of the innermost module of the call stack; an empty one if there is none."""
        calls: list[tuple[str, int]] = []
        frame: FrameType | None = sys._getframe(2)
        while frame is not None:
            code = frame.f_code
            calls.append((code.co_filename, frame.f_lineno))
            if code.co_name == "<module>" or is_of_a_cell(frame):
                return cls(weakref.ref(code), frame.f_globals, code.co_filename, tuple(calls))
            frame = frame.f_back
        return cls(None, None, "", tuple(calls))

    def is_part_of(self, other: "ModuleRun") -> bool:
        """Whether both are the same run, which goes on."""
        if self.code is None or other.code is None:
            return self.code is other.code
        return self.code() is other.code() and self.names is other.names

    def stores(self) -> set[str]:
        """The names that the code of this run assigns."""
        code = self.code() if self.code is not None else None
        steps = dis.get_instructions(code) if code is not None else ()
        return {step.argval for step in steps if step.opname in STORES}

    def is_kept(self) -> bool:
        """Whether a loaded module still has the globals of this run."""
        if self.names is None:
            return True
        return any(names_in(module) is self.names for module in list(sys.modules.values()))


def is_of_a_cell(frame: FrameType) -> bool:
    """Whether this is a frame of module-level code, as a notebook cell is."""
    return not frame.f_code.co_flags & CO_OPTIMIZED and frame.f_locals is frame.f_globals


@dataclass(frozen=True, slots=True)
class Definition:
    """A task, and the run that defined it."""

    task: Task[..., Any]
    run: ModuleRun

    @property
    def code(self) -> CodeType | None:
        """The code of the function; None for one that is not written in Python."""
        code = getattr(self.task.function, "__code__", None)
        return code if isinstance(code, CodeType) else None

    @property
    def place(self) -> str:
        """The file and line of the function."""
        code = self.code
        return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(self.task.function)

    @property
    def is_of_its_run(self) -> bool:
        """Whether the module that defines the function is being imported now.

        Not for ``__main__``: a program runs long, and may define again what it has dropped.
        """
        names: Mapping[str, Any] = getattr(self.task.function, "__globals__", {})
        return names is self.run.names and str(names.get("__name__")) != "__main__"

    def is_compiled_again(self, old: "Definition") -> bool:
        """Whether the same lines were compiled again, and the function closes over nothing."""
        a, b = old.code, self.code
        if a is None or b is None or a is b or b.co_freevars:
            return False
        return a == b and a.co_filename == b.co_filename

    def is_remade(self, old: "Definition") -> bool:
        """Whether one ``def`` made both, closing over functions of the same names."""
        return self.code is not None and self.code is old.code and inner(self) == inner(old)

    def repeats(self, old: "Definition") -> bool | None:
        """Whether this is the older definition, made again.

        None means: only if nothing else refers to the older one.
        """
        if self.is_compiled_again(old):
            return True
        if self.run.is_part_of(old.run):
            return None if self.is_remade(old) and not self.is_of_its_run else False
        if self.run.file == old.run.file and not self.run.file.startswith("<"):
            return True  # the file was run again
        if self.run.names is not old.run.names:
            return not old.run.is_kept()
        if same_path(self.task.function, old.task.function):
            return True
        return inner(self) == inner(old) and not self.keeps(old)

    def keeps(self, old: "Definition") -> bool:
        """Whether the module keeps the older task under a name that this run does not assign."""
        stored = self.run.stores()
        return any(
            holds(value, old.task)
            for name, value in list((self.run.names or {}).items())
            if name not in stored and not name.startswith("_")  # what a notebook shows last
        )


def same_path(one: Any, other: Any) -> bool:
    """Whether two functions have one qualified name in one module: one replaces the other."""
    path = getattr(one, "__qualname__", "<")
    same = path == getattr(other, "__qualname__", None) and one.__module__ == other.__module__
    return same and "<" not in path


def inner(definition: Definition) -> list[str]:
    """The names of the functions that a function closes over, as a decorator's wrapper does."""
    found: list[str] = []
    for cell in getattr(definition.task.function, "__closure__", None) or ():
        try:
            held = cell.cell_contents
        except ValueError:  # not filled yet
            continue
        if isinstance(held, FunctionType):
            found.append(held.__qualname__)
    return found


def holds(value: Any, task: Task[..., Any]) -> bool:
    """Whether a value is this task or its function, or a plain container of them."""
    inside = [value]
    if isinstance(value, dict):
        inside = list(value.values())
    elif isinstance(value, list | tuple | set | frozenset):
        inside = list(value)
    return any(each is task or each is task.function for each in inside)


def is_shared(task: Task[..., Any]) -> bool:
    """Whether anything but the task and the function itself refers to the function."""
    function = task.function
    own = [task, vars(task), *(getattr(function, "__closure__", None) or ())]
    return any(
        not isinstance(holder, FrameType) and not any(holder is each for each in own)
        for holder in gc.get_referrers(function)
        if holder is not own
    )


def difference(one: Definition, other: Definition) -> tuple[str, str]:
    """The places of two definitions; with the calling lines where one line defines both."""
    if one.place != other.place:
        return one.place, other.place
    for (file, line), (other_file, other_line) in zip(one.run.calls, other.run.calls, strict=False):
        if (file, line) != (other_file, other_line):
            return f"{one.place}, made at {file}:{line}", (
                f"{other.place}, made at {other_file}:{other_line}"
            )
    return one.place, other.place
