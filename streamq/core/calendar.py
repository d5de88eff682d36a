"""Calendar patterns: the moments whose local time matches fields, also where clocks change.

A pattern of fixed times (no ``*`` in minute or hour) follows Debian's cron: a time that a change of
the clocks skips runs right after the change, and one that is repeated runs once.  Any other pattern
runs in real time: at each moment whose local time matches.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

SECOND, DAY = timedelta(seconds=1), timedelta(days=1)
#: Two changes of a zone's clocks are further apart than that.
PROBE = timedelta(hours=6)
#: No change of clocks moves local time back by more than that: further ahead days may be skipped.
FAR = timedelta(days=2)
#: Years after which a pattern that has not matched never will: 29 February on a given weekday
#: comes back after at most 40 years.
YEARS = 41


@dataclass(frozen=True)
class Pattern:
    """The fields of a calendar pattern; numbers are sorted, ``matches`` says which days match.

    ``fixed`` says that its times are fixed ones, for which changes of the clocks are made up.
    ``gap`` is a bound on the days between two days that match.
    """

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    months: frozenset[int]
    matches: Callable[[date], bool]
    fixed: bool
    gap: int = YEARS * 366

    def first_from(self, local: datetime) -> datetime | None:
        """The first match at or after a local time without a zone; None if there is none."""
        today = local.date()
        for day in self.days_from(today):
            found = self.time_from(local.time() if day == today else time())
            if found is not None:
                return datetime.combine(day, found)
        return None

    def days_from(self, day: date) -> Iterator[date]:
        """Yield the days that match, from this one on."""
        last = day.year + YEARS
        while day.year < min(last, date.max.year):
            if day.month not in self.months:
                day = (day.replace(day=1) + 32 * DAY).replace(day=1)
                continue
            if self.matches(day):
                yield day
            day += DAY

    def time_from(self, least: time) -> time | None:
        """The first time of a day that matches, from this one on; None if there is none."""
        hour, minute, second = least.hour, least.minute, least.second
        hour_at = bisect_left(self.hours, hour)
        if hour_at < len(self.hours) and self.hours[hour_at] == hour:
            minute_at = bisect_left(self.minutes, minute)
            if minute_at < len(self.minutes) and self.minutes[minute_at] == minute:
                second_at = bisect_left(self.seconds, second)
                if second_at < len(self.seconds):
                    return time(hour, minute, self.seconds[second_at])
                minute_at += 1
            if minute_at < len(self.minutes):
                return time(hour, self.minutes[minute_at], self.seconds[0])
            hour_at += 1
        if hour_at < len(self.hours):
            return time(self.hours[hour_at], self.minutes[0], self.seconds[0])
        return None

    def next_after(self, moment: datetime, zone: tzinfo) -> datetime | None:
        """The first moment after this one, in UTC; None if there is none.

        The time between two changes of the zone's clocks is searched as a whole: in it, local time
        is real time and an offset.
        """
        start = moment.astimezone(UTC).replace(microsecond=0) + SECOND
        while True:
            offset, before = offset_at(start, zone), offset_at(start - SECOND, zone)
            local = start.replace(tzinfo=None) + offset
            found = self.first_from(local)
            if self.fixed and offset != before:
                expected = start.replace(tzinfo=None) + before
                found = self.first_from(expected)  # what has been skipped, or not been before
                if found is not None and found < local:
                    return start
            if found is None:
                return None
            end = start + FAR
            change = change_between(start, end, zone)
            moment = found.replace(tzinfo=UTC) - offset
            if moment < (change or end):
                if not (self.fixed and is_repeated(moment, zone)):
                    return moment
                start = moment + SECOND
            elif change:
                start = change
            else:
                start = max(end, moment - FAR)


def offset_at(moment: datetime, zone: tzinfo) -> timedelta:
    """The offset of a zone's local time at this moment."""
    return moment.astimezone(zone).utcoffset() or timedelta()


def is_repeated(moment: datetime, zone: tzinfo) -> bool:
    """Whether the local time of this moment has been before: the clocks were turned back."""
    return bool(moment.astimezone(zone).fold)


def change_between(start: datetime, end: datetime, zone: tzinfo) -> datetime | None:
    """The first change of a zone's clocks after ``start`` and not after ``end``, or None."""
    offset = offset_at(start, zone)
    while start < end:
        probe = min(start + PROBE, end)
        if offset_at(probe, zone) != offset:
            break
        start = probe
    else:
        return None
    while probe - start > SECOND:
        middle = start + timedelta(seconds=(probe - start) // SECOND // 2)
        if offset_at(middle, zone) == offset:
            start = middle
        else:
            probe = middle
    return probe


def ordered(numbers: Iterable[int]) -> tuple[int, ...]:
    """These numbers as fields of a pattern."""
    return tuple(sorted(set(numbers)))
