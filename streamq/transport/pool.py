"""Things that one caller uses at a time, lent to the threads or greenlets of a process."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from typing import Generic, TypeVar
from weakref import WeakSet

from streamq.host.clock import monotonic
from streamq.host.forks import FORKS

T = TypeVar("T")


class Lending(Generic[T]):
    """Lends at most ``most`` things, made when they are first needed; a caller may wait.

    A time limit may interrupt a task anywhere, also between taking a thing and knowing that
    it has to be given back.  So what counts is which things still exist.
    After a fork the child starts with none: a reply must never reach the other process.  What
    it had borrowed before it gives back like anything else; a connection opens anew by itself.
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
    def lent(self, until: float = inf) -> Iterator[T]:
        """Borrow one for a block, as ``borrow`` does."""
        thing = self.borrow(until)
        try:
            yield thing
        finally:
            self.give_back(thing)

    def borrow(self, until: float = inf) -> T:
        """Take one, the last used if there is a choice; ``give_back`` must follow.

        Raises TimeoutError if none was free by ``until`` (monotonic seconds).
        """
        if self.forks != FORKS.mark[0]:
            self.reset()
        try:
            return self.idle.pop()
        except IndexError:
            pass  # what is raised from here on has not come of this
        return self.make_or_wait(until)

    def make_or_wait(self, until: float = inf) -> T:
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
                    left = until - monotonic()
                    if left <= 0:
                        raise TimeoutError(f"none of {self.most} was free in time")
                    self.returned.wait(min(1.0, left))
            finally:
                self.waiting -= 1

    def give_back(self, thing: T) -> None:
        """Return what was borrowed, for the next caller."""
        if self.forks != FORKS.mark[0]:
            self.reset()
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
