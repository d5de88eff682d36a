"""Two definitions of one name: the first one made again, or another task.

What runs again, such as a module that is reloaded, a corrected cell of a notebook or a line
at a prompt, takes the place of what it defined before.  Two that are both there to be called
are a mistake: a message names one task.
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

#: What assigns a name of a module.
STORES = frozenset({"STORE_NAME", "STORE_GLOBAL"})


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the code of a module, a cell or a line, in which tasks are defined.

    ``code`` is gone when the run is over; ``names`` is what the module holds; ``calls`` are
    the places from which the task was registered, the innermost first.
    """

    code: weakref.ref[CodeType] | None
    names: Mapping[str, Any] | None
    file: str
    calls: tuple[tuple[str, int], ...]

    @classmethod
    def here(cls) -> "Run":
        """The run of the innermost module, or of none in a thread."""
        calls: list[tuple[str, int]] = []
        frame: FrameType | None = sys._getframe(2)
        while frame is not None:
            code = frame.f_code
            calls.append((code.co_filename, frame.f_lineno))
            if code.co_name == "<module>" or is_of_a_cell(frame):
                return cls(weakref.ref(code), frame.f_globals, code.co_filename, tuple(calls))
            frame = frame.f_back
        return cls(None, None, "", tuple(calls))

    def is_part_of(self, other: "Run") -> bool:
        """Whether both are the same run, which is not over."""
        if self.code is None or other.code is None:
            return self.code is other.code
        return self.code() is other.code() and self.names is other.names

    def stores(self) -> set[str]:
        """The names that this run defines, or is about to."""
        code = self.code() if self.code is not None else None
        steps = dis.get_instructions(code) if code is not None else ()
        return {step.argval for step in steps if step.opname in STORES}

    def is_kept(self) -> bool:
        """Whether there is still a module that holds what this run defined."""
        if self.names is None:
            return True
        return any(names_in(module) is self.names for module in list(sys.modules.values()))


def is_of_a_cell(frame: FrameType) -> bool:
    """Whether this is the frame of code of a module, whatever a notebook calls that."""
    return not frame.f_code.co_flags & CO_OPTIMIZED and frame.f_locals is frame.f_globals


@dataclass(frozen=True, slots=True)
class Definition:
    """A task, and the run that defined it."""

    task: Task[..., Any]
    run: Run

    @property
    def code(self) -> CodeType | None:
        """The code of the function; None for one that is not written in Python."""
        code = getattr(self.task.function, "__code__", None)
        return code if isinstance(code, CodeType) else None

    @property
    def place(self) -> str:
        """Where the function stands."""
        code = self.code
        return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(self.task.function)

    @property
    def is_of_its_run(self) -> bool:
        """Whether the module that defines the function is just being imported.

        A program may go on for long, and make again what it has dropped.
        """
        names: Mapping[str, Any] = getattr(self.task.function, "__globals__", {})
        return names is self.run.names and str(names.get("__name__")) != "__main__"

    def is_compiled_again(self, old: "Definition") -> bool:
        """Whether the same lines were compiled once more, and depend on nothing around them."""
        a, b = old.code, self.code
        if a is None or b is None or a is b or b.co_freevars:
            return False
        return a == b and a.co_filename == b.co_filename

    def is_remade(self, old: "Definition") -> bool:
        """Whether one ``def`` has made both, and around the same functions if around any."""
        return self.code is not None and self.code is old.code and inner(self) == inner(old)

    def repeats(self, old: "Definition") -> bool | None:
        """Whether this is what the older one was, defined again.

        None means: unless the older one is held by somebody who may call it.
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
        return inner(self) == inner(old) and not self.leaves(old)

    def leaves(self, old: "Definition") -> bool:
        """Whether the module keeps the older task under a name when this run is over."""
        stored = self.run.stores()
        return any(
            holds(value, old.task)
            for name, value in list((self.run.names or {}).items())
            if name not in stored and not name.startswith("_")  # what a notebook shows last
        )


def same_path(one: Any, other: Any) -> bool:
    """Whether two functions have one place in one module, which only one of them can have."""
    path = getattr(one, "__qualname__", "<")
    same = path == getattr(other, "__qualname__", None) and one.__module__ == other.__module__
    return same and "<" not in path


def inner(definition: Definition) -> list[str]:
    """The names of the functions that a function closes over, as a decorator's does."""
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
    """Whether anybody but its task, and itself, holds a function."""
    function = task.function
    own = [task, vars(task), *(getattr(function, "__closure__", None) or ())]
    return any(
        not isinstance(holder, FrameType) and not any(holder is each for each in own)
        for holder in gc.get_referrers(function)
        if holder is not own
    )


def difference(one: Definition, other: Definition) -> tuple[str, str]:
    """Where two definitions stand, by the lines that made them where one line defines both."""
    if one.place != other.place:
        return one.place, other.place
    for (file, line), (other_file, other_line) in zip(one.run.calls, other.run.calls, strict=False):
        if (file, line) != (other_file, other_line):
            return f"{one.place}, made at {file}:{line}", (
                f"{other.place}, made at {other_file}:{other_line}"
            )
    return one.place, other.place
