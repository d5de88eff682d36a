"""A pool of resources, each lent to one thread or greenlet of the process at a time."""

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


class ResourcePool(Generic[T]):
    """A pool of at most ``most`` resources, made when they are needed; a caller may wait.

    A time limit may interrupt a task anywhere, also after it has borrowed a resource and before
    it has noted that.  So the pool counts the resources that still exist, not those that are out.
    After a fork the child starts with none: a reply must never reach the other process.  It gives
    back what it had borrowed before like any other; a connection opens anew by itself.
    """

    def __init__(self, make: Callable[[], T], most: int) -> None:
        self.make = make
        self.most = most
        self.reset()

    def reset(self) -> None:
        """Start with no resources: at the beginning, and in a forked child."""
        self.forks = FORKS.count
        self.idle: deque[T] = deque()
        self.made: WeakSet[T] = WeakSet()
        self.waiting = 0
        self.lock = threading.RLock()  # entered in one step, unlike the condition itself
        self.returned = threading.Condition(self.lock)

    @contextmanager
    def lent(self, until: float = inf) -> Iterator[T]:
        """Borrow one for a block, as ``borrow`` does."""
        resource = self.borrow(until)
        try:
            yield resource
        finally:
            self.give_back(resource)

    def borrow(self, until: float = inf) -> T:
        """Take one, the last used if there is a choice; ``give_back`` must follow.

        Raises TimeoutError if none was free by ``until`` (monotonic seconds).
        """
        if self.forks != FORKS.mark[0]:
            self.reset()
        try:
            return self.idle.pop()
        except IndexError:
            pass  # outside of `except`: later errors get no context
        return self.make_or_wait(until)

    def make_or_wait(self, until: float = inf) -> T:
        """Make a resource, or wait until one is free; as ``borrow``."""
        with self.lock:
            self.waiting += 1
            try:
                while True:
                    try:
                        return self.idle.pop()
                    except IndexError:
                        pass
                    if len(self.made) < self.most:
                        resource = self.make()
                        self.made.add(resource)
                        return resource
                    left = until - monotonic()
                    if left <= 0:
                        raise TimeoutError(f"none of {self.most} was free in time")
                    self.returned.wait(min(1.0, left))
            finally:
                self.waiting -= 1

    def give_back(self, resource: T) -> None:
        """Give back a resource, for the next caller."""
        if self.forks != FORKS.mark[0]:
            self.reset()
        self.idle.append(resource)
        if self.waiting:
            with self.lock:
                self.returned.notify()

    def clear(self) -> list[T]:
        """Take out the idle resources, so that the caller can close them."""
        taken: list[T] = []
        while self.idle:
            taken.append(self.idle.pop())
            self.made.discard(taken[-1])
        return taken
