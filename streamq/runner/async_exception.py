"""Asynchronous exceptions: has an exception raised inside a task from outside reached it?

The exception is raised wherever the task happens to be: in a ``__del__``, whose errors Python
prints and drops, or below a callback that is called with ``except Exception: pass`` around it.
Then the task does not notice, and the exception is raised again.
"""

import sys
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any

#: References to an exception that only we hold: our attribute, and the argument of getrefcount.
OURS_ALONE = 2


class Raised:
    """An asynchronous exception that was raised inside a run of this function."""

    def __init__(self, error: BaseException, function: Any) -> None:
        self.error = error
        self.own = codes_of(function)

    @property
    def arrived(self) -> bool:
        """Whether the exception has reached the function's own frame, handled there or not."""
        step = self.error.__traceback__
        while step is not None and step.tb_frame.f_code not in self.own:
            step = step.tb_next
        return step is not None or not self.own

    @property
    def is_handled(self) -> bool:
        """Whether this thread is in an ``except`` or ``finally`` that handles the exception."""
        found = sys.exc_info()[1]
        while found is not None and found is not self.error:
            found = found.__context__
        return found is not None

    @property
    def is_held(self) -> bool:
        """Whether other code refers to the exception: it handles it, or keeps it for later."""
        return sys.getrefcount(self.error) > OURS_ALONE


def codes_of(function: Any) -> set[CodeType]:
    """The code objects of a function, and of the functions that its decorators have wrapped.

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
    """The functions that a callable wraps or consists of."""
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
