"""What a worker was given by whoever started it, and what of ours a forked child must not have.

Whoever starts a worker may ignore or block signals: ``nohup`` does, and a shell does for what
it runs in the background.  What a task starts gets them in the same way.  For a program that
is started the kernel sees to that, as far as we leave alone what it hands on: signals that are
ignored, and that are blocked.  So a runner handles a common signal only where it was not
ignored, unblocks none, and is spoken to by signals of its own (``interrupts.CONTROL``).

A child that is forked has all that we have.  It gives up our handlers, our pipes and our place
in them before it runs a line of the task's.
"""

import contextlib
import os
import posix
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import msgspec

from streamq.runner.signals import COMMON, CONTROL, handler_of, mask, set_handler

#: Carries what a worker was given over to the one that takes its place by exec.
VARIABLE = "_STREAMQ_SIGNALS"


class Inherited(msgspec.Struct, frozen=True):
    """Which signals were ignored, and which blocked, when the worker was started.

    SIGCHLD is not among them: without it no program learns how its children end.
    """

    ignored: frozenset[int] = frozenset()
    blocked: frozenset[int] = frozenset()
    #: Whether it had a terminal that may hang up; after that nobody can tell.
    terminal: bool = False

    @classmethod
    def look(cls) -> Self:
        """What this process was given; to be called before it takes or blocks a signal."""
        handed = os.environ.pop(VARIABLE, None)
        if handed is not None:
            return msgspec.json.decode(handed, type=cls)
        ignored = (n for n in (*COMMON, *CONTROL) if handler_of(n) == signal.SIG_IGN)
        blocked = frozenset(map(int, mask(signal.SIG_BLOCK, ())))
        return cls(frozenset(map(int, ignored)), blocked - {signal.SIGCHLD}, has_terminal())

    def environment(self) -> dict[str, str]:
        """The environment of the program that takes our place: it starts with our signals."""
        return os.environ | {VARIABLE: msgspec.json.encode(self).decode()}

    def handler(self, number: int) -> Any:
        """What does with a signal who has not chosen anything."""
        if number in self.ignored:
            return int(signal.SIG_IGN)
        return signal.default_int_handler if number == signal.SIGINT else int(signal.SIG_DFL)


class Own:
    """What belongs to this process alone: signal handlers, pipes and locks, blocked signals.

    Forked without a word to Python, a child keeps them all.
    """

    def __init__(self) -> None:
        self.given = Inherited()
        self.handlers: dict[int, Any] = {}
        #: The descriptors, and what each of them leads to.
        self.opened: dict[int, tuple[int, int]] = {}
        #: The signals that we block or let through otherwise than they were given.
        self.changed: frozenset[int] = frozenset()
        self.wakes = False
        self.withheld = False
        self.before = threading.local()

    def handle(self, handlers: Mapping[Any, Callable[..., Any]]) -> None:
        """Handle these signals."""
        for number, handler in handlers.items():
            self.handlers[int(number)] = handler
            set_handler(number, handler)

    def ignore(self) -> None:
        """Ignore what was ignored among the common signals, whoever handles it now."""
        for number in self.given.ignored.intersection(COMMON):
            self.handlers.pop(number, None)
            set_handler(number, int(signal.SIG_IGN))

    def let(self, *, through: Iterable[int] = (), blocked: Iterable[int] = ()) -> None:
        """Let these signals through to this thread, and these not; all others as given."""
        through, blocked = frozenset(map(int, through)), frozenset(map(int, blocked))
        self.changed = through | blocked
        mask(signal.SIG_SETMASK, self.given.blocked - through | blocked)

    def wake(self, descriptor: int) -> None:
        """Have the interpreter write to this pipe when a signal arrives."""
        signal.set_wakeup_fd(descriptor, warn_on_full_buffer=False)
        self.wakes = descriptor >= 0

    def keep(self, *descriptors: int) -> int:
        """Count these among what is ours, the two ends of a pipe for example; return the first."""
        self.opened |= {descriptor: inode(descriptor) for descriptor in descriptors}
        return descriptors[0]

    @contextmanager
    def withholding(self) -> Iterator[None]:
        """Fork a process of ours in this block: it hears no signal before it says how."""
        before = mask(signal.SIG_BLOCK, (*COMMON, *CONTROL))
        self.withheld = True
        try:
            yield
        finally:  # in the parent, and in a child that does not run a program or end
            self.withheld = False
            mask(signal.SIG_SETMASK, before)

    # Hooks: nothing reaches a child before it is rid of our handlers

    def forks(self) -> None:
        """This thread is going to fork."""
        if self.handlers:
            self.before.mask = mask(signal.SIG_BLOCK, (*COMMON, *CONTROL))

    def forked(self) -> None:
        """It has, and this is the parent."""
        if self.handlers:
            mask(signal.SIG_SETMASK, self.before.mask)

    def born(self) -> None:
        """It has, and this is the child."""
        if not self.handlers:
            return
        handlers, self.handlers = self.handlers, {}
        if self.wakes:
            self.wake(-1)
        for number, handler in handlers.items():
            if handler_of(number) is handler:  # else the task has set one of its own
                set_handler(number, self.given.handler(number))
        opened, self.opened = self.opened, {}
        for descriptor, led_to in opened.items():
            with contextlib.suppress(OSError):
                if inode(descriptor) == led_to:
                    posix.close(descriptor)  # gevent's would wait for its loop
        if self.withheld:  # until it says what it wants to hear
            self.withheld = False
            return
        blocked = self.before.mask - self.changed | self.given.blocked & self.changed
        mask(signal.SIG_SETMASK, blocked)


def has_terminal() -> bool:
    """Whether this process has a controlling terminal, wherever its input and output lead."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def inode(descriptor: int) -> tuple[int, int]:
    """What tells the file behind a descriptor from every other."""
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


OWN = Own()
os.register_at_fork(
    before=lambda: OWN.forks(),
    after_in_parent=lambda: OWN.forked(),
    after_in_child=lambda: OWN.born(),
)
