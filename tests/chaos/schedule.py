"""A schedule of actions that one thread carries out."""

import heapq
import itertools
import time
from collections.abc import Callable


class Schedule:
    """Actions, each with the moment at which it is due."""

    def __init__(self) -> None:
        self.actions: list[tuple[float, int, Callable[[], None]]] = []
        self.numbers = itertools.count()

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Add an action that is due in so many seconds."""
        heapq.heappush(self.actions, (time.monotonic() + seconds, next(self.numbers), action))

    def run(self, deadline: float) -> None:
        """Run each action when it is due, until the deadline."""
        while (now := time.monotonic()) < deadline:
            while self.actions and self.actions[0][0] <= now:
                heapq.heappop(self.actions)[2]()
            time.sleep(0.01)

    def finish(self) -> None:
        """Run the remaining actions now, in the order of their moments."""
        while self.actions:
            heapq.heappop(self.actions)[2]()
            time.sleep(0.01)
