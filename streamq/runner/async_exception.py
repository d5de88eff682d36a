"""Whether what was raised inside a task from outside has arrived there.

It is raised wherever the task happens to be: in a ``__del__``, whose errors Python prints and
drops, or below a callback that is called with ``except Exception: pass`` around it.  Then the
task knows nothing, and it is raised again.
"""

import sys
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any

#: References to an exception that only we have: of our attribute, and of who counts.
OURS_ALONE = 2


class Raised:
    """An exception that was raised inside a run of this function."""

    def __init__(self, error: BaseException, function: Any) -> None:
        self.error = error
        self.own = codes_of(function)

    @property
    def arrived(self) -> bool:
        """Whether the function's own frame has met it, however it went on."""
        step = self.error.__traceback__
        while step is not None and step.tb_frame.f_code not in self.own:
            step = step.tb_next
        return step is not None or not self.own

    @property
    def is_handled(self) -> bool:
        """Whether this thread is just now in an ``except`` or ``finally`` that has met it."""
        found = sys.exc_info()[1]
        while found is not None and found is not self.error:
            found = found.__context__
        return found is not None

    @property
    def is_held(self) -> bool:
        """Whether somebody else has it: who handles it, or keeps it for later."""
        return sys.getrefcount(self.error) > OURS_ALONE


def codes_of(function: Any) -> set[CodeType]:
    """The code of a function, and of those that its decorators have wrapped.

    A decorator without ``functools.wraps`` keeps the function in its closure.
    """
    found: set[CodeType] = set()
    todo, seen = [function], set[int]()
    while todo:
        each = todo.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        todo += parts_of(each)
        if isinstance(each, FunctionType):
            found.add(each.__code__)
    return found


def parts_of(thing: Any) -> list[Any]:
    """The functions below this one."""
    if isinstance(thing, MethodType):
        return [thing.__func__]
    if isinstance(thing, partial):
        return [thing.func]
    if not isinstance(thing, FunctionType):
        return [vars(kind)["__call__"] for kind in type(thing).__mro__ if "__call__" in vars(kind)]
    parts = [thing.__dict__["__wrapped__"]] if "__wrapped__" in thing.__dict__ else []
    for cell in thing.__closure__ or ():
        try:
            parts.append(cell.cell_contents)
        except ValueError:  # it is empty
            continue
    return [part for part in parts if isinstance(part, FunctionType | MethodType | partial)]
