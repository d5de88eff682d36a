"""The signals of a runner, and the guard of its signal handlers and descriptors against tasks."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

HAS_REAL_TIME = hasattr(signal, "SIGRTMIN")

#: The task has passed its soft time limit.  Users' own code rarely uses real-time signals.
LATE = signal.SIGRTMIN + 1 if HAS_REAL_TIME else signal.SIGUSR1
#: The task was revoked, and is to be stopped.
STOP = signal.SIGRTMIN + 2 if HAS_REAL_TIME else signal.SIGUSR2
#: The reader lock was broken, as its holder is stuck: wait for the new one.
READER_LOCK = signal.SIGRTMIN + 3 if HAS_REAL_TIME else signal.SIGURG
#: The runner is to take no more messages.
FINISH = signal.SIGRTMIN + 4 if HAS_REAL_TIME else signal.SIGTERM

#: Exit code of a forked child of a task that returns from the task, other than by ``sys.exit``: it
#: is no runner, and the connections are not its own.
STRAY = 99
#: Exit code of a greenlet pool whose descriptors a task has closed.
LOST_DESCRIPTORS = 98

#: ``signal.getsignal`` and ``signal.pthread_sigmask`` without the conversion of their result to
#: enums, which takes 3 µs; and ``signal.signal`` without gevent's patch, which for SIGCHLD begins
#: to wait for every child.
handler_of: Callable[[int], Any] = getattr(
    sys.modules.get("_signal"), "getsignal", signal.getsignal
)
set_handler: Callable[[int, Any], Any] = getattr(
    sys.modules.get("_signal"), "signal", signal.signal
)
mask: Callable[[int, Iterable[int]], set[int]] = getattr(
    sys.modules.get("_signal"), "pthread_sigmask", signal.pthread_sigmask
)

#: Sent only by a supervisor, or by the runner to itself.
CONTROL = (LATE, STOP, READER_LOCK, FINISH)
#: Sent by anybody.  A runner sets no SIGALRM, and ignores one that a task has left.
COMMON = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGALRM)
#: All signals that a runner handles.
RUNNER_SIGNALS = (*COMMON, signal.SIGCHLD, *CONTROL)


class ProcessGuard:
    """The guard of a runner against its tasks: it restores signals, and notices closed descriptors.

    ``descriptor`` stands for all that the runner has open.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        # Only the main thread can set a handler.
        in_main = threading.current_thread() is threading.main_thread()
        self.handlers = (
            {int(number): handler_of(number) for number in RUNNER_SIGNALS} if in_main else {}
        )
        self.blocked = mask(signal.SIG_BLOCK, ())

    def restore(self) -> None:
        """Restore the signal handlers, and the signals that this thread lets through."""
        if mask(signal.SIG_BLOCK, ()) != self.blocked:
            mask(signal.SIG_SETMASK, self.blocked)
        for number, handler in self.handlers.items():
            if handler_of(number) is not handler:
                signal.signal(number, handler)

    @property
    def descriptors_closed(self) -> bool:
        """Whether a task has closed our descriptors."""
        try:
            os.get_inheritable(self.descriptor)  # the cheapest check
        except OSError:
            return True
        return False


def end_child(error: SystemExit) -> NoReturn:
    """End a forked child of a task that has called ``sys.exit``, as a program would end."""
    code = error.code
    if not (code is None or isinstance(code, int)):
        print(code, file=sys.stderr)
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # its reader has gone, or it is closed
            stream.flush()
    os._exit((code or 0) & 0xFF)


def interrupt_main_thread() -> None:
    """Send ``LATE`` to this process, whose main thread runs a task past its soft limit."""
    os.kill(os.getpid(), LATE)
