"""Forks of a greenlet: the child goes on with that greenlet alone, as after a fork in a thread.

Otherwise gevent's child would run all greenlets of its parent: it would read messages on the
connection of its parent, and run every other running task a second time.
"""

import gc
import sys
from types import FrameType
from typing import Any

from gevent import getcurrent
from gevent.hub import _get_hub, reinit
from gevent.subprocess import Popen

#: The code that forks a child to run a program.
STARTS_PROGRAM = Popen._execute_child.__code__


def go_on_alone() -> None:
    """Stop all that would resume a greenlet other than the one that has forked."""
    hub = _get_hub()
    if hub is None or runs_a_program():
        return
    reinit(hub)
    me = getcurrent()
    for each in resumers(hub.loop):
        if resumes_another(each, me):
            each.stop()


def resumers(loop: Any) -> list[Any]:
    """Return all watchers and callbacks of this loop, and more: gevent has no list of them."""
    watcher = next(kind for kind in type(loop.timer(1)).__mro__ if kind.__name__ == "watcher")
    kinds = (watcher, type(loop.run_callback(int)))
    return [each for each in gc.get_objects() if isinstance(each, kinds)]


def resumes_another(what: Any, me: Any) -> bool:
    """Whether a watcher or callback would resume a greenlet other than ``me``.

    A loop's fork watchers are gevent's own: they restart the threads of its pools.
    """
    if type(what).__name__ == "fork" or not (what.pending or getattr(what, "active", False)):
        return False
    return not (getattr(what.callback, "__self__", None) is me or me in (what.args or ()))


def runs_a_program() -> bool:
    """Whether this child was forked to run a program, without a ``preexec_fn``."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code is STARTS_PROGRAM:
            return frame.f_locals.get("preexec_fn") is None
        frame = frame.f_back
    return False
