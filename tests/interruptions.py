"""Interrupting code where a signal handler could: as time limits do with tasks."""

import dis
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

#: After these instructions Python looks whether a signal has come.
HEEDED = ("CALL", "JUMP_BACKWARD", "RESUME")


class Interruption(BaseException):
    """What a time limit raises."""


def interrupted_at(step: int, module: ModuleType, act: Callable[[], object]) -> bool:
    """Do this and raise at the moment of this number inside a module; tell whether it came.

    The moments are those at which Python heeds signals: after calls and backward jumps.
    """
    moments = iter(range(step, -1, -1))
    before: dict[Any, str] = {}

    def trace(frame: Any, event: str, argument: object) -> Any:
        if frame.f_code.co_filename != module.__file__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            last = before.get(frame, "RESUME")
            before[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            if last.startswith(HEEDED) and next(moments, None) == 0:
                before.clear()
                raise Interruption
        return trace

    def traced() -> bool:
        sys.settrace(trace)
        try:
            act()
        except Interruption:
            return True
        finally:
            sys.settrace(None)
        return False

    # What is raised while Python looks at its trace may stay in a thread as the error that is
    # being handled, and would become the context of errors to come: so the thread ends.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(traced).result()
