"""``as_completed``: results in the order in which their tasks end, of one app or several."""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from typing import Any, Generic, TypeVar

from streamq.broker.waiter import Record
from streamq.errors import ResultTimeout
from streamq.host import clock
from streamq.result import Result, check_timeout, deadline_after, warn_in_event_loop

R = TypeVar("R")

#: Seconds to wait on one server at a time, where results of several servers are awaited.
SLICE = 0.1


def as_completed(results: Iterable[Result[R]], timeout: float | None = None) -> Iterator[Result[R]]:
    """Yield results in the order in which they end.  ``timeout`` (seconds) is for all of them.

    They may be of several apps.  Raises ResultTimeout, with the number of open ones, when
    the timeout passes.
    """
    awaited = dict.fromkeys(results)
    timeout = check_timeout(timeout)
    deadline = deadline_after(timeout)
    ended = dict.fromkeys(result for result in awaited if result.is_settled())
    yield from ended
    if len(ended) < len(awaited):
        one_by_one = "for result in results: await result.aget(timeout=…)"
        warn_in_event_loop("as_completed() waits", one_by_one, stacklevel=3)
    with ExitStack() as stack:
        groups = by_server(result for result in awaited if result not in ended)
        completions = [stack.enter_context(closing(Completion(group))) for group in groups]
        while left := sum(len(completion.left) for completion in completions):
            result = next_ended(
                [completion for completion in completions if completion.left], deadline
            )
            if result is None:
                raise ResultTimeout(f"{left} of the results did not come within {timeout:g} s")
            yield result


def by_server(results: Iterable[Result[R]]) -> list[list[Result[R]]]:
    """Group the results that one waiter can await: those of one server and namespace."""
    groups: dict[Any, list[Result[R]]] = {}
    for result in results:
        waiter = result.results.waiter
        groups.setdefault((waiter.client.url, waiter.keys.root), []).append(result)
    return list(groups.values())


class Completion(Generic[R]):
    """Results that are awaited together, with the number of open parts of each."""

    def __init__(self, results: list[Result[R]]) -> None:
        self.waiter = results[0].results.waiter
        self.left: dict[Result[R], int] = {}
        self.owners: dict[str, list[Result[R]]] = {}
        self.ended: deque[Result[R]] = deque()
        ids = [id for result in results for id in self.add(result, result.parts())]
        self.pending = self.waiter.begin(ids)

    def add(self, result: Result[R], parts: list[Result[R]]) -> list[str]:
        """Count these parts as open parts of the result; return their ids."""
        self.left[result] = len(parts)
        for part in parts:
            self.owners.setdefault(part.id, []).append(result)
        return [part.id for part in parts]

    def next(self, deadline: float) -> Result[R] | None:
        """Wait for the next result that ends; None if none does by the deadline."""
        while not self.ended:
            answer = self.waiter.next(self.pending, deadline)
            if answer is None:
                return None
            for result in self.owners.pop(answer[0]):
                self.part_ended(result, answer[1])
        result = self.ended.popleft()
        del self.left[result]
        return result

    def part_ended(self, result: Result[R], record: Record) -> None:
        """Count a part as ended; if its record lists copies, wait for these instead."""
        copies = list(result.copies.values()) if "copies" in record else []
        if copies:
            self.waiter.extend(self.pending, self.add(result, copies))
            return
        self.left[result] -= 1
        if not self.left[result]:
            self.ended.append(result)

    def close(self) -> None:
        """Stop waiting."""
        self.waiter.end(self.pending)


def next_ended(completions: list[Completion[R]], deadline: float) -> Result[R] | None:
    """Wait for the next result of any of these; None if none ends by the deadline.

    Several servers are asked in turn, ``SLICE`` seconds each.
    """
    while True:
        for completion in completions:
            slice_end = clock.monotonic() + SLICE if len(completions) > 1 else deadline
            result = completion.next(min(slice_end, deadline))
            if result is not None:
                return result
        if clock.monotonic() >= deadline:
            return None
