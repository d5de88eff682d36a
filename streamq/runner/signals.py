"""The signals that a runner hears, and what it keeps from its tasks: its signal handlers, its
descriptors, and stray children.
"""

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
#: The turn to read may never be passed on: wait for another one.
TURN = signal.SIGRTMIN + 3 if HAS_REAL_TIME else signal.SIGURG
#: The runner is to take no more messages.
FINISH = signal.SIGRTMIN + 4 if HAS_REAL_TIME else signal.SIGTERM

#: How a child that a task has forked ends if it comes back from the task, other than by
#: ``sys.exit``: it is no runner, and the connections are not its own.
STRAY = 99
#: How a process of greenlets ends that has been robbed of its descriptors.
ROBBED = 98

#: ``signal.getsignal`` and ``signal.pthread_sigmask`` without their search for enums of the
#: answer, which takes 3 µs; and ``signal.signal`` as it is without a patch of gevent's, which for
#: SIGCHLD begins to wait for every child.
handler_of: Callable[[int], Any] = getattr(
    sys.modules.get("_signal"), "getsignal", signal.getsignal
)
set_handler: Callable[[int, Any], Any] = getattr(
    sys.modules.get("_signal"), "signal", signal.signal
)
mask: Callable[[int, Iterable[int]], set[int]] = getattr(
    sys.modules.get("_signal"), "pthread_sigmask", signal.pthread_sigmask
)

#: What only a supervisor sends, and a runner itself.
CONTROL = (LATE, STOP, TURN, FINISH)
#: What anybody may send.  A runner has no alarm of its own, and ignores one that a task has left.
COMMON = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGALRM)
#: The signals of a runner.
OURS = (*COMMON, signal.SIGCHLD, *CONTROL)


class Property:
    """What a task may take from its runner: signals that it ignores or blocks are taken back.

    ``descriptor`` stands for all that the runner has open.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        # Elsewhere than in the main thread neither we nor a task can set one.
        in_main = threading.current_thread() is threading.main_thread()
        self.handlers = {int(number): handler_of(number) for number in OURS} if in_main else {}
        self.blocked = mask(signal.SIG_BLOCK, ())

    def take_back(self) -> None:
        """Restore the signal handlers, and the signals that this thread lets through."""
        if mask(signal.SIG_BLOCK, ()) != self.blocked:
            mask(signal.SIG_SETMASK, self.blocked)
        for number, handler in self.handlers.items():
            if handler_of(number) is not handler:
                signal.signal(number, handler)

    @property
    def stolen(self) -> bool:
        """Whether a task has closed our descriptors."""
        try:
            os.get_inheritable(self.descriptor)  # the cheapest question
        except OSError:
            return True
        return False


def end_child(error: SystemExit) -> NoReturn:
    """End a child of a task that wants to, as the end of a program would."""
    code = error.code
    if not (code is None or isinstance(code, int)):
        print(code, file=sys.stderr)
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # nobody reads it any more, or it is closed
            stream.flush()
    os._exit((code or 0) & 0xFF)


def warn_ourselves() -> None:
    """Interrupt the thread that runs the task: it is late."""
    os.kill(os.getpid(), LATE)
