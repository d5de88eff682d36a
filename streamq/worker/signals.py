"""What signals ask of a worker: end warmly, end now, leave at once, begin anew, stand still."""

import contextlib
import os
import select
import signal
from types import FrameType
from typing import Any

from streamq.host import clock
from streamq.runner.inherited import OWN
from streamq.runner.signals import CONTROL, handler_of

#: Seconds within which two signals are one request: shells and ``timeout`` send one to us
#: and one to our group.
SAME_REQUEST = 0.05
#: The signals that ask for an end.
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


def be_mortal() -> None:
    """Let signals end a worker that has not begun, though it is the first process of a container.

    From that one the kernel keeps every signal that it has no handler for.
    """
    if os.getpid() == 1:
        numbers = (*ENDING, signal.SIGHUP)
        OWN.handle({n: end for n in numbers if handler_of(n) == signal.SIG_DFL})


def end(number: int, frame: FrameType | None) -> None:
    """End this process, with the code that a shell gives to one that a signal has ended."""
    os._exit(128 + number)


def be_deaf() -> None:
    """Hear no more requests: this worker has ended, and nothing may change how.

    Python itself resets handlers before it ends, and then any of them would end the process.
    """
    for number in (*ENDING, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def interrupt(number: int, frame: FrameType | None) -> None:
    """End a worker that has not begun; asked once, it needs no second request."""
    be_deaf()
    raise KeyboardInterrupt


class Stops:
    """Counts the requests to stop, and rings a bell that ``sleep`` hears."""

    def __init__(self) -> None:
        self.count = 0
        self.reload = False
        #: Whether it is to stand still: somebody has pressed Ctrl-Z.
        self.suspended = False
        self.asked = 0.0
        self.bell, self.rope = os.pipe()

    def listen(self) -> None:
        """Take the signals of this process.

        Whoever started us, or a module of the user's, may have kept them from us.
        """
        os.set_blocking(self.bell, False)
        os.set_blocking(self.rope, False)
        OWN.keep(self.bell, self.rope)
        OWN.wake(self.rope)
        OWN.handle(
            {
                signal.SIGTERM: self.ask,
                signal.SIGINT: self.ask,
                signal.SIGQUIT: self.ask_now,
                signal.SIGCHLD: lambda *_: None,
            }
        )
        if signal.SIGHUP in OWN.given.ignored:  # by nohup
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        else:
            terminal = OWN.given.terminal
            OWN.handle({signal.SIGHUP: self.hang_up if terminal else self.ask_to_reload})
        if handler_of(signal.SIGTSTP) == signal.SIG_DFL:
            OWN.handle({signal.SIGTSTP: self.ask_to_suspend})
        # Where `stty tostop` holds, a line of our log would stop us, in the background, and not
        # our runners: they would go on and lose their leases.
        blocked = (*CONTROL, signal.SIGTTOU)
        OWN.let(through=(*ENDING, signal.SIGHUP, signal.SIGCHLD), blocked=blocked)

    def hold_reloads(self) -> None:
        """Keep requests to begin anew for the program that takes our place, until it listens.

        It would be ended by one that comes before that.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])

    def let_go(self) -> bool:
        """Leave it to the system to end this process from here on; False if it is to stop.

        A request that was still noted here would be forgotten by the program that takes our
        place.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)  # whatever came before has been noted
        if not self.count:
            for number in ENDING:
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        return not self.count

    def ask(self, number: int, frame: FrameType | None) -> None:
        """Stop; asked again, stop now; once more, leave."""
        self.count += self.is_new()

    def ask_now(self, number: int, frame: FrameType | None) -> None:
        """Stop now; asked again, leave."""
        self.count = max(self.count + self.is_new(), 2)

    def hang_up(self, number: int, frame: FrameType | None) -> None:
        """Stop: the terminal is gone, and nobody could do it by hand.

        The kernel may say so, and a shell again, which ends those that stand still with SIGTERM
        besides: it is never more than one request.
        """
        self.is_new()
        self.count = max(self.count, 1)

    def is_new(self) -> bool:
        """Whether a signal that comes now is a request of its own."""
        before, self.asked = self.asked, clock.monotonic()
        return self.asked - before > SAME_REQUEST

    def ask_to_reload(self, number: int, frame: FrameType | None) -> None:
        """Begin anew, with the code as it is on disk then."""
        self.reload = True

    def ask_to_suspend(self, number: int, frame: FrameType | None) -> None:
        """Stand still, with what runs, until somebody lets us go on."""
        self.suspended = True

    def stand_still(self) -> None:
        """Stop as the system stops a process, and come back when somebody lets it go on.

        Where no shell could do that, the system does not stop it.
        """
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTSTP)
        self.suspended = False
        OWN.handle({signal.SIGTSTP: self.ask_to_suspend})

    def sleep(self, seconds: float, *others: Any) -> None:
        """Wait for a signal, for something to read from the others, or until the time is up."""
        watched = [self.bell, *others]
        if self.bell in select.select(watched, [], [], max(0.0, seconds))[0]:
            with contextlib.suppress(BlockingIOError):
                os.read(self.bell, 4096)
