"""A child that a greenlet forks goes on with that greenlet alone, as with a thread.

gevent's own child has all greenlets of its parent, and runs them: it would read messages with
the connection of its parent, and go on with every other task that was running, a second time.
"""

import gc
import sys
from types import FrameType
from typing import Any

from gevent import getcurrent
from gevent.hub import _get_hub, reinit
from gevent.subprocess import Popen

#: Where a child is made that runs a program.
STARTS_PROGRAM = Popen._execute_child.__code__


def go_on_alone() -> None:
    """Stop whatever would resume another greenlet than the one that has forked."""
    hub = _get_hub()
    if hub is None or runs_a_program():
        return
    reinit(hub)
    me = getcurrent()
    for each in resumers(hub.loop):
        if resumes_another(each, me):
            each.stop()


def resumers(loop: Any) -> list[Any]:
    """All that this loop has been asked to call, and more; it keeps no list of its own."""
    watcher = next(kind for kind in type(loop.timer(1)).__mro__ if kind.__name__ == "watcher")
    kinds = (watcher, type(loop.run_callback(int)))
    return [each for each in gc.get_objects() if isinstance(each, kinds)]


def resumes_another(what: Any, me: Any) -> bool:
    """Whether this is going to call something that is not for this greenlet.

    A loop's watchers for forks are gevent's own: threads of its pools are made anew by them.
    """
    if type(what).__name__ == "fork" or not (what.pending or getattr(what, "active", False)):
        return False
    return not (getattr(what.callback, "__self__", None) is me or me in (what.args or ()))


def runs_a_program() -> bool:
    """Whether this child runs a program before anything of its own."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code is STARTS_PROGRAM:
            return frame.f_locals.get("preexec_fn") is None
        frame = frame.f_back
    return False
