"""What is to be done when, by one thread."""

import heapq
import itertools
import time
from collections.abc import Callable


class Agenda:
    """What is to be done when."""

    def __init__(self) -> None:
        self.acts: list[tuple[float, int, Callable[[], None]]] = []
        self.numbers = itertools.count()

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self.acts, (time.monotonic() + seconds, next(self.numbers), act))

    def run(self, deadline: float) -> None:
        """Do what is due until then."""
        while (now := time.monotonic()) < deadline:
            while self.acts and self.acts[0][0] <= now:
                heapq.heappop(self.acts)[2]()
            time.sleep(0.01)

    def finish(self) -> None:
        """Do all that is left now, in its order."""
        while self.acts:
            heapq.heappop(self.acts)[2]()
            time.sleep(0.01)
