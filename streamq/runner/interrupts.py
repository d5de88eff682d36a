"""The signals with which a task is interrupted, and what becomes of its stray children."""

import os
import signal

HAS_REAL_TIME = hasattr(signal, "SIGRTMIN")

#: The task has passed its soft time limit.  Users' own code rarely uses real-time signals.
LATE = signal.SIGRTMIN + 1 if HAS_REAL_TIME else signal.SIGUSR1
#: The task was revoked, and is to be stopped.
STOP = signal.SIGRTMIN + 2 if HAS_REAL_TIME else signal.SIGUSR2

#: How a child that a task has forked ends if it comes back from the task: it is no runner,
#: and the connections are not its own.
STRAY = 99


def warn_ourselves() -> None:
    """Interrupt the thread that runs the task: it is late."""
    os.kill(os.getpid(), LATE)
