"""Ticks: which moments of a schedule run, which were missed, and which comes next.  Pure.

Moments are whole milliseconds since 1970, by the server's clock.  A moment is nominal, as the
schedule has it, or when it is due: with jitter that is a little later.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)

#: What is done about moments that were missed.
CATCH_UP = ("one", "none", "all")
#: What is done at a tick while the last run has not ended.
OVERLAP = ("allow", "skip", "replace")

#: Bytes of a schedule's name: with the moment behind it, it is a task id.
LONGEST_NAME = 170
#: How late a moment may run with ``catch_up="none"`` where no ``deadline`` says it, in ms: a worker
#: that is restarted is not an outage.
GRACE = 60_000
#: How many missed moments ``catch_up="all"`` runs at most; earlier ones are only counted.
MOST_CAUGHT_UP = 100
#: How many moments are counted at most; of more the last ones are looked up.
MOST_COUNTED = 1000


def millis(moment: datetime) -> int:
    """A moment as milliseconds since 1970."""
    return (moment - EPOCH) // MILLISECOND


def moment_of(ms: int) -> datetime:
    """Milliseconds since 1970 as a moment in UTC."""
    return EPOCH + ms * MILLISECOND


def tick_id(name: str, nominal: int) -> str:
    """The task id of a tick: the schedule's name and the nominal moment in UTC."""
    moment = moment_of(nominal)
    rest = f".{nominal % 1000:03}" if nominal % 1000 else ""
    return f"{name}-{moment:%Y%m%dT%H%M%S}{rest}Z"


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan for one tick: what runs, how many moments were missed, and what comes next.

    ``runs`` is the nominal moment of the run, None if nothing runs; ``next`` the nominal moment
    after it, None if there is none.
    """

    runs: int | None
    missed: int
    next: int | None


@dataclass(frozen=True, kw_only=True)
class Timing:
    """The timing of a schedule: its moments, and its rules for those that were missed.

    ``next_after`` gives the first nominal moment after one; ``jitter`` and ``deadline`` are in
    milliseconds.
    """

    name: str
    next_after: Callable[[int], int | None]
    jitter: int = 0
    catch_up: str = "one"
    deadline: int | None = None

    def due(self, nominal: int) -> int:
        """When a nominal moment is due: later by a hash of name and moment.

        Never as late as the moment after it: ticks stay in order.
        """
        if not self.jitter:
            return nominal
        following = self.next_after(nominal)
        room = self.jitter if following is None else min(self.jitter, following - nominal - 1)
        digest = hashlib.blake2b(f"{self.name} {nominal}".encode(), digest_size=4).digest()
        return nominal + int.from_bytes(digest, "big") * room // 2**32

    def first_due(self, now: int) -> int | None:
        """When the first moment from now on is due; None if there is none."""
        found = self.next_after(now)
        return None if found is None else self.due(found)

    def owed(self, due: int | None) -> int | None:
        """This moment, if one of the schedule is due then, else None."""
        if due is None:
            return None
        nominal = self.nominal(due)
        known = self.next_after(nominal - 1) == nominal and self.due(nominal) == due
        return due if known else None

    def nominal(self, due: int) -> int:
        """The nominal moment that is due then; the same moment if none is."""
        if not self.jitter:
            return due
        found = self.next_after(due - self.jitter - 1)
        while found is not None and found <= due:
            if self.due(found) == due:
                return found
            found = self.next_after(found)
        return due

    def due_after(self, due: int, now: int) -> int | None:
        """When the first moment is due after this due one and after now; None if there is none."""
        last = self.due_until(self.nominal(due), now)[-1]
        found = self.next_after(last)
        return None if found is None else self.due(found)

    def plan(self, nominal: int, now: int, *, since: int = 0) -> Plan:
        """The plan for a moment that is due, and for all that are due after it until now.

        What was due until ``since`` does not count: the schedule was paused.
        """
        due = self.due_until(nominal, now)
        missed = len(due) - 1
        if due[-1] <= since:
            return Plan(None, 0, self.next_after(due[-1]))
        paused = sum(each <= since for each in due)
        due, missed = due[paused:], missed - paused
        if self.catch_up == "all":
            return self.plan_all(due, now)
        last = due[-1]
        latest = self.deadline
        if latest is None and self.catch_up == "none":
            latest = GRACE
        late = latest is not None and now - self.due(last) > latest
        return Plan(None if late else last, missed + late, self.next_after(last))

    def plan_all(self, due: list[int], now: int) -> Plan:
        """The plan where every moment that was missed runs, one by one."""
        skipped = max(0, len(due) - MOST_CAUGHT_UP)
        while self.deadline is not None and skipped < len(due):
            if now - self.due(due[skipped]) <= self.deadline:
                break
            skipped += 1
        if skipped == len(due):
            return Plan(None, skipped, self.next_after(due[-1]))
        return Plan(due[skipped], skipped, self.next_after(due[skipped]))

    def due_until(self, nominal: int, now: int) -> list[int]:
        """The moments from this one on that are due now.

        Of very many the first ones, and the last ones, between which some are left out.
        """
        found = [nominal]
        for each in self.following(nominal, now):
            found.append(each)
            if len(found) == MOST_COUNTED:
                return self.with_last(found, now)
        return found

    def following(self, nominal: int, now: int) -> Iterator[int]:
        """Yield the moments after this one that are due now."""
        each = self.next_after(nominal)
        while each is not None and self.due(each) <= now:
            yield each
            each = self.next_after(each)

    def with_last(self, found: list[int], now: int) -> list[int]:
        """These moments, the last ones of which are replaced by the last that are due now."""
        reach = 1000
        while True:  # back from now, twice as far each time, until there are enough
            begin = max(now - reach, found[-1])
            last = list(self.following(begin, now))
            if len(last) >= MOST_CAUGHT_UP:
                return found[:-MOST_CAUGHT_UP] + last[-MOST_CAUGHT_UP:]
            if begin == found[-1]:
                return found + last
            reach *= 2
