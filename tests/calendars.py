"""A reckoning by minutes: the moments of a calendar pattern, found by walking through time."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo

from streamq.core.calendar import Pattern, change_between

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)

#: Cron texts that fall into changes of the clocks, of fixed times and of wildcards.
TEXTS = (
    "30 2 * * *", "0 */6 * * *", "*/10 3 * * *", "*/15 * * * *", "0,30 1,2,3 * * *",
    "15 0 * * *", "59 23 * * *", "0 0 * * *", "5 1-3 * * sun", "*/7 */2 * * *", "10-20 2 * * *",
)  # fmt: skip


def changes(zone: tzinfo, start: datetime, count: int) -> Iterator[datetime]:
    """Yield the next changes of a zone's clocks, so many of them within two years."""
    end = start + timedelta(days=2 * 366)
    while count and start < end:
        found = change_between(start, start + timedelta(days=30), zone)
        if found:
            count -= 1
            yield found
        start = found or start + timedelta(days=30)


def walk(zone: tzinfo, start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    """Every minute from ``start`` to ``end``: in UTC, and by the clock of a zone."""
    minutes, moment = [], start.astimezone(UTC)
    while moment <= end:
        minutes.append((moment, moment.astimezone(zone).replace(tzinfo=None)))
        moment += MINUTE
    return minutes


def moments_of(pattern: Pattern, minutes: list[tuple[datetime, datetime]]) -> list[datetime]:
    """The moments of a pattern among these minutes, in UTC, by the rules of the design."""
    found, seen = set(), set()
    before = minutes[0][1] - MINUTE
    for moment, local in minutes:
        if not pattern.fixed:
            if fits(pattern, local):
                found.add(moment)
            continue
        skipped = before + MINUTE
        while skipped < local:
            if fits(pattern, skipped):
                found.add(moment)
            skipped += MINUTE
        if local not in seen and fits(pattern, local):
            found.add(moment)
        seen.add(local)
        before = local
    return sorted(found)


def fits(pattern: Pattern, local: datetime) -> bool:
    """Whether a local time matches all fields."""
    clock = local.minute in pattern.minutes and local.hour in pattern.hours
    return clock and local.month in pattern.months and pattern.matches(local.date())


def differences(
    pattern: Pattern, zone: tzinfo, change: datetime, around: timedelta
) -> set[datetime]:
    """The moments around a change of the clocks that only one of the two reckonings has."""
    start, end = change.replace(second=0) - around, change.replace(second=0) + around
    expected = [
        each for each in moments_of(pattern, walk(zone, start - around, end)) if each > start
    ]
    found, moment = [], pattern.next_after(start, zone)
    while moment is not None and moment <= end:
        found.append(moment)
        moment = pattern.next_after(moment, zone)
    return set(expected) ^ set(found) | ({start} if found != sorted(found) else set())
