"""Inherited signals of a worker, and process resources that a forked child must not keep.

The process that starts a worker may ignore or block signals: ``nohup`` does, and a shell does for
background jobs.  Programs that a task starts must inherit the same.  The kernel passes on which
signals are ignored and blocked, as far as we do not change that.  So a runner handles a common
signal only where it was not ignored, unblocks none, and is controlled by signals of its own
(``signals.CONTROL``).

A forked child has all that its parent has.  It gives up our handlers, pipes and locks before it
runs any code of the task.
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

#: Environment variable that hands the inherited signals to a worker that replaces us by exec.
VARIABLE = "_STREAMQ_SIGNALS"


class Inherited(msgspec.Struct, frozen=True):
    """The signals that were ignored, and those blocked, when the worker was started.

    SIGCHLD is not among them: without it no program learns how its children end.
    """

    ignored: frozenset[int] = frozenset()
    blocked: frozenset[int] = frozenset()
    #: Whether it had a terminal that may hang up; afterwards that cannot be found out.
    terminal: bool = False

    @classmethod
    def read(cls) -> Self:
        """Read what this process inherited; call it before any signal is handled or blocked."""
        handed = os.environ.pop(VARIABLE, None)
        if handed is not None:
            return msgspec.json.decode(handed, type=cls)
        ignored = (n for n in (*COMMON, *CONTROL) if handler_of(n) == signal.SIG_IGN)
        blocked = frozenset(map(int, mask(signal.SIG_BLOCK, ())))
        return cls(frozenset(map(int, ignored)), blocked - {signal.SIGCHLD}, has_terminal())

    def environment(self) -> dict[str, str]:
        """The environment for a program that replaces us by exec, with these signals in it."""
        return os.environ | {VARIABLE: msgspec.json.encode(self).decode()}

    def handler(self, number: int) -> Any:
        """The handler that a process without handlers of its own has for a signal."""
        if number in self.ignored:
            return int(signal.SIG_IGN)
        return signal.default_int_handler if number == signal.SIGINT else int(signal.SIG_DFL)


class OwnResources:
    """The resources of this process alone: signal handlers, pipes and locks, blocked signals.

    The fork hooks below take them from each child; a fork past Python's hooks keeps them.
    """

    def __init__(self) -> None:
        self.given = Inherited()
        self.handlers: dict[int, Any] = {}
        #: Our descriptors, and the inode behind each of them.
        self.opened: dict[int, tuple[int, int]] = {}
        #: The signals whose blocking we have changed.
        self.changed: frozenset[int] = frozenset()
        self.has_wakeup = False
        #: Whether a process of ours is being forked, which unblocks its signals itself.
        self.keep_blocked = False
        #: Of each thread that forks: its signal mask.
        self.saved = threading.local()

    def handle(self, handlers: Mapping[Any, Callable[..., Any]]) -> None:
        """Set our handlers for these signals."""
        for number, handler in handlers.items():
            self.handlers[int(number)] = handler
            set_handler(number, handler)

    def ignore(self) -> None:
        """Ignore the common signals that were ignored at the start, even if handled now."""
        for number in self.given.ignored.intersection(COMMON):
            self.handlers.pop(number, None)
            set_handler(number, int(signal.SIG_IGN))

    def set_mask(self, *, through: Iterable[int] = (), blocked: Iterable[int] = ()) -> None:
        """Set the signal mask of this thread: these through, these blocked, others as inherited."""
        through, blocked = frozenset(map(int, through)), frozenset(map(int, blocked))
        self.changed = through | blocked
        mask(signal.SIG_SETMASK, self.given.blocked - through | blocked)

    def set_wakeup(self, descriptor: int) -> None:
        """Have the interpreter write to this wake-up pipe when a signal arrives; -1 for none."""
        signal.set_wakeup_fd(descriptor, warn_on_full_buffer=False)
        self.has_wakeup = descriptor >= 0

    def keep(self, *descriptors: int) -> int:
        """Register our descriptors, such as the ends of a pipe; return the first of them."""
        self.opened |= {descriptor: inode(descriptor) for descriptor in descriptors}
        return descriptors[0]

    @contextmanager
    def signals_blocked(self) -> Iterator[None]:
        """Block all our signals, to fork a process of ours inside: it unblocks them itself."""
        before = mask(signal.SIG_BLOCK, (*COMMON, *CONTROL))
        self.keep_blocked = True
        try:
            yield
        finally:  # in the parent, and in a child that does not run a program or end
            self.keep_blocked = False
            mask(signal.SIG_SETMASK, before)

    # Fork hooks: no signal reaches a child before our handlers are removed

    def before_fork(self) -> None:
        """Block signals: this thread is about to fork."""
        if self.handlers:
            self.saved.mask = mask(signal.SIG_BLOCK, (*COMMON, *CONTROL))

    def after_in_parent(self) -> None:
        """Restore the signal mask after the fork, in the parent."""
        if self.handlers:
            mask(signal.SIG_SETMASK, self.saved.mask)

    def after_in_child(self) -> None:
        """Remove our handlers, pipes and blocked signals after the fork, in the child."""
        if not self.handlers:
            return
        handlers, self.handlers = self.handlers, {}
        if self.has_wakeup:
            self.set_wakeup(-1)
        for number, handler in handlers.items():
            if handler_of(number) is handler:  # else the task has set its own
                set_handler(number, self.given.handler(number))
        opened, self.opened = self.opened, {}
        for descriptor, led_to in opened.items():
            with contextlib.suppress(OSError):
                if inode(descriptor) == led_to:
                    posix.close(descriptor)  # gevent's close would wait for its loop
        if self.keep_blocked:  # until it sets its signal mask
            self.keep_blocked = False
            return
        blocked = self.saved.mask - self.changed | self.given.blocked & self.changed
        mask(signal.SIG_SETMASK, blocked)


def has_terminal() -> bool:
    """Whether this process has a controlling terminal, wherever its input and output lead."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def inode(descriptor: int) -> tuple[int, int]:
    """Device and inode of the file behind a descriptor.  Raises OSError if it is closed."""
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


OWN = OwnResources()
os.register_at_fork(
    before=lambda: OWN.before_fork(),
    after_in_parent=lambda: OWN.after_in_parent(),
    after_in_child=lambda: OWN.after_in_child(),
)
