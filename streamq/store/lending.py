"""Things that one caller uses at a time, lent to the threads or greenlets of a process."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar
from weakref import WeakSet

from streamq.forks import FORKS

T = TypeVar("T")


class Lending(Generic[T]):
    """Lends at most ``most`` things, made when they are first needed; a caller may wait.

    A time limit may interrupt a task anywhere, also between taking a thing and knowing that
    it has to be given back.  So what counts is which things still exist.
    After a fork the child starts with none: a reply must never reach the other process.
    """

    def __init__(self, make: Callable[[], T], most: int) -> None:
        self.make = make
        self.most = most
        self.reset()

    def reset(self) -> None:
        """Start with none: at the beginning, and in a forked child."""
        self.forks = FORKS.count
        self.idle: deque[T] = deque()
        self.made: WeakSet[T] = WeakSet()
        self.waiting = 0
        self.lock = threading.RLock()  # entered in one step, unlike the condition itself
        self.returned = threading.Condition(self.lock)

    @contextmanager
    def lent(self) -> Iterator[T]:
        """Borrow one for a block."""
        thing = self.borrow()
        try:
            yield thing
        finally:
            self.give_back(thing)

    def borrow(self) -> T:
        """Take one, the last used if there is a choice; ``give_back`` must follow."""
        if self.forks != FORKS.count:
            self.reset()
        try:
            return self.idle.pop()
        except IndexError:
            pass  # what is raised from here on has not come of this
        return self.make_or_wait()

    def make_or_wait(self) -> T:
        with self.lock:
            self.waiting += 1
            try:
                while True:
                    try:
                        return self.idle.pop()
                    except IndexError:
                        pass
                    if len(self.made) < self.most:
                        thing = self.make()
                        self.made.add(thing)
                        return thing
                    self.returned.wait(1.0)
            finally:
                self.waiting -= 1

    def give_back(self, thing: T) -> None:
        """Return what was borrowed, for the next caller."""
        self.idle.append(thing)
        if self.waiting:
            with self.lock:
                self.returned.notify()

    def clear(self) -> list[T]:
        """Take out what is idle, to be closed."""
        taken: list[T] = []
        while self.idle:
            taken.append(self.idle.pop())
            self.made.discard(taken[-1])
        return taken
