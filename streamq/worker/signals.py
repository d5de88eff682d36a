"""The signals of a worker: requests to stop, stop now, exit at once, reload, or suspend."""

import contextlib
import os
import select
import signal
from types import FrameType
from typing import Any

from streamq.host import clock
from streamq.runner.inherited import OWN
from streamq.runner.signals import CONTROL, handler_of

#: Seconds within which two signals are one request: shells and ``timeout`` send one to the
#: process and one to its group.
SAME_REQUEST = 0.05
#: The signals that request a stop.
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


def exit_on_signals() -> None:
    """Let signals end a worker that is still starting, also as the first process of a container.

    To that one the kernel delivers no signal that it has no handler for.
    """
    if os.getpid() == 1:
        numbers = (*ENDING, signal.SIGHUP)
        OWN.handle({n: exit_now for n in numbers if handler_of(n) == signal.SIG_DFL})


def exit_now(number: int, frame: FrameType | None) -> None:
    """Exit, with the code that a shell gives to a process that this signal has ended."""
    os._exit(128 + number)


def ignore_signals() -> None:
    """Ignore requests from here on: this worker has ended, and its exit code must stay.

    Python resets handlers before it ends, and then any of these signals would end the process.
    """
    for number in (*ENDING, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt in a worker that is still starting; ignore further signals."""
    ignore_signals()
    raise KeyboardInterrupt


class StopSignals:
    """The stop requests of a worker: counted by signal handlers, which also end a ``sleep``."""

    def __init__(self) -> None:
        self.count = 0
        self.reload = False
        #: Whether it is to be suspended: Ctrl-Z was pressed.
        self.suspended = False
        #: The last signal that requested a stop or a reload; and when it came (monotonic s).
        self.number = 0
        self.signalled = 0.0
        self.wakeup_r, self.wakeup_w = os.pipe()

    def listen(self) -> None:
        """Handle the signals of this process.

        They may have been blocked or ignored by what started it, or by a module of the user's.
        """
        os.set_blocking(self.wakeup_w, False)
        os.set_blocking(self.wakeup_r, False)
        OWN.keep(self.wakeup_r, self.wakeup_w)
        OWN.set_wakeup(self.wakeup_w)
        OWN.handle(
            {
                signal.SIGTERM: self.request_stop,
                signal.SIGINT: self.request_stop,
                signal.SIGQUIT: self.request_stop_now,
                signal.SIGCHLD: lambda *_: None,
            }
        )
        if signal.SIGHUP in OWN.given.ignored:  # by nohup
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        else:
            terminal = OWN.given.terminal
            OWN.handle({signal.SIGHUP: self.hang_up if terminal else self.request_reload})
        if handler_of(signal.SIGTSTP) == signal.SIG_DFL:
            OWN.handle({signal.SIGTSTP: self.request_suspend})
        # Where `stty tostop` is set, a line of the log would stop this process in the background,
        # and not its runners: they would go on and lose their leases.
        blocked = (*CONTROL, signal.SIGTTOU)
        OWN.set_mask(through=(*ENDING, signal.SIGHUP, signal.SIGCHLD), blocked=blocked)

    def block_reloads(self) -> None:
        """Block SIGHUP until the program that takes our place handles it.

        One that came before that would end it.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])

    def restore_signals(self) -> bool:
        """Restore the default handlers, so that stop requests end the process from here on.

        Returns False, and restores nothing, if a stop was requested before.  Counted here, a
        request would be lost with the program that takes our place.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)  # what came before has been counted
        if not self.count:
            for number in ENDING:
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        return not self.count

    def request_stop(self, number: int, frame: FrameType | None) -> None:
        """Count a request: the first stops the worker, the second now, the third exits at once."""
        self.count += self.is_new(number)

    def request_stop_now(self, number: int, frame: FrameType | None) -> None:
        """Count a request to stop now; a further one exits at once."""
        self.count = max(self.count + self.is_new(number), 2)

    def hang_up(self, number: int, frame: FrameType | None) -> None:
        """Count one request: the terminal is gone, so that nobody could stop the worker there.

        The kernel may send this, and a shell again, which also sends SIGTERM to what is suspended:
        together they are never more than one request.
        """
        self.is_new(number)
        self.count = max(self.count, 1)

    def is_new(self, number: int) -> bool:
        """Whether a signal that comes now is a request of its own; notes it, and when it came."""
        self.number = number
        before, self.signalled = self.signalled, clock.monotonic()
        return self.signalled - before > SAME_REQUEST

    def request_reload(self, number: int, frame: FrameType | None) -> None:
        """Note a request to reload: to stop, and start again with the code as it is on disk."""
        self.reload, self.number = True, number

    def request_suspend(self, number: int, frame: FrameType | None) -> None:
        """Note a request to suspend this process and its runners."""
        self.suspended = True

    def suspend_process(self) -> None:
        """Suspend this process as the system does at Ctrl-Z; return when it is continued.

        Where no shell could continue it, the system does not suspend it.
        """
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTSTP)
        self.suspended = False
        OWN.handle({signal.SIGTSTP: self.request_suspend})

    def sleep(self, seconds: float, *others: Any) -> None:
        """Wait for a signal, until one of ``others`` can be read, or for this many seconds."""
        watched = [self.wakeup_r, *others]
        if self.wakeup_r in select.select(watched, [], [], max(0.0, seconds))[0]:
            with contextlib.suppress(BlockingIOError):
                os.read(self.wakeup_r, 4096)
