"""A reckoning by minutes: the moments of a calendar pattern, found by walking through time.

It has nothing in common with what it is compared with: changes of the clocks are found by walking
too.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache

from streamq.core.calendar import Pattern
from streamq.core.cron import cron_pattern
from streamq.schedule import crontab

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)

#: Cron texts that fall into changes of the clocks, of fixed times and of wildcards.
TEXTS = (
    "30 2 * * *", "0 */6 * * *", "*/10 3 * * *", "*/15 * * * *", "0,30 1,2,3 * * *",
    "15 0 * * *", "59 23 * * *", "0 0 * * *", "5 1-3 * * sun", "*/7 */2 * * *", "10-20 2 * * *",
    "0 0-23 * * *", "* 2 * * *", "45 * * * sat,sun",
)  # fmt: skip

#: Fields of Celery's crontab that do.
FIELDS: tuple[dict[str, object], ...] = (
    {"minute": 30, "hour": 2}, {"minute": 0, "hour": "*/6"}, {"minute": "*/10", "hour": 3},
    {"minute": "*/15"}, {"minute": "0,30", "hour": "22-3"}, {"minute": 5, "hour": {0, 1, 2, 3}},
    {"minute": 0, "hour": 0}, {"minute": "50-10/5", "hour": "0-4", "day_of_week": "sat-sun"},
)  # fmt: skip

#: The patterns of both, by what they were made of.
PATTERNS = {
    **{text: cron_pattern(text) for text in TEXTS},
    **{str(fields): crontab(**fields).pattern for fields in FIELDS},
}

#: How far apart the moments are from which a search begins that are none of the pattern.
ELSEWHERE = timedelta(minutes=23)
#: How far apart moments are looked at to find a change: two of them are never that near.
STRIDE = 3 * HOUR


def changes(zone: tzinfo, start: datetime, count: int) -> Iterator[datetime]:
    """Yield the next changes of a zone's clocks, so many of them within two years."""
    end = start + timedelta(days=2 * 366)
    before = offset(start, zone)
    while count and start < end:
        following = start + STRIDE
        if offset(following, zone) != before:
            while offset(start, zone) == before:
                start += MINUTE
            count -= 1
            before = offset(start, zone)
            yield start
        else:
            start = following


def offset(moment: datetime, zone: tzinfo) -> timedelta | None:
    """The offset of a zone at a moment in UTC."""
    return moment.astimezone(zone).utcoffset()


@lru_cache(maxsize=2)
def walk(
    zone: tzinfo, start: datetime, end: datetime, step: timedelta = MINUTE
) -> list[tuple[datetime, datetime]]:
    """Every minute from ``start`` to ``end``: in UTC, and by the clock of a zone."""
    steps, moment = [], start.astimezone(UTC)
    while moment <= end:
        steps.append((moment, moment.astimezone(zone).replace(tzinfo=None)))
        moment += step
    return steps


def moments_of(
    pattern: Pattern, steps: list[tuple[datetime, datetime]], step: timedelta = MINUTE
) -> list[datetime]:
    """The moments of a pattern among these minutes, in UTC, by the rules of the design."""
    found, seen = set(), set()
    before = steps[0][1] - step
    for moment, local in steps:
        if not pattern.fixed:
            if fits(pattern, local):
                found.add(moment)
            continue
        skipped = before + step
        while skipped < local:
            if fits(pattern, skipped):
                found.add(moment)
            skipped += step
        if local not in seen and fits(pattern, local):
            found.add(moment)
        seen.add(local)
        before = local
    return sorted(found)


def fits(pattern: Pattern, local: datetime) -> bool:
    """Whether a local time matches all fields."""
    clock = local.minute in pattern.minutes and local.hour in pattern.hours
    day = local.month in pattern.months and pattern.matches(local.date())
    return clock and day and local.second in pattern.seconds


def differences(
    pattern: Pattern, zone: tzinfo, change: datetime, around: timedelta, step: timedelta = MINUTE
) -> set[datetime]:
    """The moments around a change of the clocks that only one of the two reckonings has.

    Also those from which one of them finds another next moment.
    """
    start, end = change.replace(second=0) - around, change.replace(second=0) + around
    walked = moments_of(pattern, walk(zone, start - around, end, step), step)
    expected = [each for each in walked if each > start]
    found, moment = [], pattern.next_after(start, zone)
    while moment is not None and moment <= end:
        found.append(moment)
        moment = pattern.next_after(moment, zone)
    wrong = set(expected) ^ set(found) | ({start} if found != sorted(found) else set())
    while (start := start + ELSEWHERE) < end:
        following = next((each for each in expected if each > start), None)
        if following is not None and pattern.next_after(start, zone) != following:
            wrong.add(start)
    return wrong
