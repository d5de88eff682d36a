"""Results as they end, first the first: of one call or of thousands, of one app or of several."""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from typing import Any, Generic, TypeVar

from streamq.broker.waiter import Record
from streamq.errors import ResultTimeout
from streamq.host import clock
from streamq.result import Result, deadline_after, patience

R = TypeVar("R")

#: Seconds for which one server is listened to, where results of several are awaited.
TURN = 0.1


def as_completed(results: Iterable[Result[R]], timeout: float | None = None) -> Iterator[Result[R]]:
    """Yield results as they end, first the first.  ``timeout``, in seconds, is for all of them.

    They may be of several apps.  Raises ResultTimeout, naming how many are still open, when
    the timeout passes.
    """
    everyone = dict.fromkeys(results)
    timeout = patience(timeout)
    deadline = deadline_after(timeout)
    ended = dict.fromkeys(result for result in everyone if result.is_settled())
    yield from ended
    with ExitStack() as stack:
        groups = by_server(result for result in everyone if result not in ended)
        races = [stack.enter_context(closing(Race(group))) for group in groups]
        while left := sum(len(race.left) for race in races):
            result = first_of([race for race in races if race.left], deadline)
            if result is None:
                raise ResultTimeout(f"{left} of the results did not come within {timeout:g} s")
            yield result


def by_server(results: Iterable[Result[R]]) -> list[list[Result[R]]]:
    """The results that can be awaited together: those of one server and namespace."""
    groups: dict[Any, list[Result[R]]] = {}
    for result in results:
        waits = result.results.waits
        groups.setdefault((waits.client.url, waits.keys.root), []).append(result)
    return list(groups.values())


class Race(Generic[R]):
    """Results that are awaited together, and how many parts of each have not ended yet."""

    def __init__(self, results: list[Result[R]]) -> None:
        self.waits = results[0].results.waits
        self.left: dict[Result[R], int] = {}
        self.owners: dict[str, list[Result[R]]] = {}
        self.ended: deque[Result[R]] = deque()
        ids = [id for result in results for id in self.enter(result, result.parts())]
        self.wait = self.waits.begin(ids)

    def enter(self, result: Result[R], parts: list[Result[R]]) -> list[str]:
        """Wait for all of these before the result has ended; their ids."""
        self.left[result] = len(parts)
        for part in parts:
            self.owners.setdefault(part.id, []).append(result)
        return [part.id for part in parts]

    def next(self, deadline: float) -> Result[R] | None:
        """The next result that has ended; None when none has by the deadline."""
        while not self.ended:
            answer = self.waits.next(self.wait, deadline)
            if answer is None:
                return None
            for result in self.owners.pop(answer[0]):
                self.take(result, answer[1])
        result = self.ended.popleft()
        del self.left[result]
        return result

    def take(self, result: Result[R], record: Record) -> None:
        """Take the answer for a part; one that lists copies only says what to wait for."""
        copies = list(result.copies.values()) if "copies" in record else []
        if copies:
            self.waits.extend(self.wait, self.enter(result, copies))
            return
        self.left[result] -= 1
        if not self.left[result]:
            self.ended.append(result)

    def close(self) -> None:
        """Wait no more."""
        self.waits.end(self.wait)


def first_of(races: list[Race[R]], deadline: float) -> Result[R] | None:
    """The next result of any of these that has ended; None when none has by the deadline.

    Several are listened to in turns.
    """
    while True:
        for race in races:
            turn = clock.monotonic() + TURN if len(races) > 1 else deadline
            result = race.next(min(turn, deadline))
            if result is not None:
                return result
        if clock.monotonic() >= deadline:
            return None
