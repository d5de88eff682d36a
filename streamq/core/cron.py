"""Cron texts and Celery's crontab fields, read into calendar patterns."""

import re
from collections.abc import Iterable, Mapping, Set
from datetime import date, datetime
from functools import lru_cache
from typing import cast

from cronsim import CronSim, CronSimError

from streamq.core.calendar import YEARS, Pattern, ordered
from streamq.core.text import count, nearest, shown
from streamq.errors import ConfigError

#: Names for frequent patterns, as in Debian's cron.
ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
MONTHS = (
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"
)  # fmt: skip

#: The fields of a crontab in Celery's order, each with its first and last number and the names of
#: its numbers.
FIELDS: Mapping[str, tuple[int, int, tuple[str, ...]]] = {
    "minute": (0, 59, ()),
    "hour": (0, 23, ()),
    "day_of_week": (0, 6, DAYS),
    "day_of_month": (1, 31, ()),
    "month_of_year": (1, 12, MONTHS),
}

#: One element of a field of a crontab: ``*``, ``*/5``, ``3``, ``mon-fri``, ``10-20/2``.
ELEMENT = re.compile(r"(?:\*|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>\d+))?")

#: The most days from one day that matches to the next.
RAREST = YEARS * 366
#: Fields that are kept as they were read: a thousand schedules have few of them.
CACHED = 1024
#: Where the search for a match begins: no date is impossible that this many years do not have.
ANY_YEAR = datetime(2000, 1, 1)

ADVICE = [
    'five fields: minute, hour, day of month, month, day of week: "30 2 * * mon-fri"',
    'six fields begin with seconds: "*/10 * * * * *"',
    "or " + ", ".join(ALIASES),
]


def cron_pattern(text: str) -> Pattern:
    """Read a cron text of five or six fields, by the rules of Debian's cron.

    If neither the day of month nor the day of week begins with ``*``, one of them must match; else
    both.  Raises ConfigError for a text that cannot be read, or that never matches.
    """
    if not isinstance(text, str):
        raise ConfigError(f"cron needs a text, not {shown(text)}", advice=ADVICE)
    fields = cron_fields(text)
    try:
        parsed = CronSim(" ".join(fields), ANY_YEAR)
    except CronSimError as error:
        what = str(error).removeprefix("Bad ").lower()
        if what == "day-of-month" and is_readable((*fields[:-2], "*", fields[-1])):
            raise no_such_date(f"cron {text!r}") from None
        raise ConfigError(f"cron: {shown(text)} cannot be read: {what}", advice=ADVICE) from None
    minute, hour = fields[-5], fields[-4]
    pattern = Pattern(
        seconds=ordered(parsed.seconds),
        minutes=ordered(parsed.minutes),
        hours=ordered(parsed.hours),
        months=frozenset(parsed.months),
        matches=parsed.match_day,
        fixed=not (minute.startswith("*") or hour.startswith("*")),
        gap=longest_gap(
            parsed.months, cast(set[object], parsed.days), set(parsed.weekdays), both=parsed.day_and
        ),
    )
    check_possible(pattern, f"cron {text!r}")
    return pattern


def cron_fields(text: str) -> list[str]:
    """The five or six fields of a cron text; those of an alias are looked up."""
    text = text.strip()
    if text.startswith("@"):
        found = ALIASES.get(text.lower())
        if found is None:
            near = nearest(text.lower(), ALIASES)
            advice = [f"did you mean {near}?"] if near else []
            raise ConfigError(f"cron: {text!r} is no alias", advice=[*advice, *ADVICE])
        text = found
    fields = text.split()
    if len(fields) not in (5, 6):
        has = count(len(fields), "field")
        raise ConfigError(f"cron: {text!r} has {has}, not 5 or 6", advice=ADVICE)
    return fields


@lru_cache(CACHED)
def is_readable(fields: tuple[str, ...]) -> bool:
    """Whether cronsim can read these fields."""
    try:
        CronSim(" ".join(fields), ANY_YEAR)
    except CronSimError:
        return False
    return True


def crontab_pattern(fields: Mapping[str, frozenset[int]], *, fixed: bool) -> Pattern:
    """The pattern of a crontab of Celery's: all fields must match.

    ``fixed``: minute and hour are fixed ones.  Raises ConfigError if it never matches.
    """
    days, weekdays = fields["day_of_month"], fields["day_of_week"]

    def matches(day: date) -> bool:
        return day.day in days and (day.weekday() + 1) % 7 in weekdays

    pattern = Pattern(
        seconds=(0,),
        minutes=ordered(fields["minute"]),
        hours=ordered(fields["hour"]),
        months=fields["month_of_year"],
        matches=matches,
        fixed=fixed,
        gap=longest_gap(fields["month_of_year"], set(days), set(weekdays), both=True),
    )
    check_possible(pattern, "crontab")
    return pattern


def longest_gap(months: Set[int], days: Set[object], weekdays: Set[object], *, both: bool) -> int:
    """A bound on the days from one day that matches to the next, and a day for changed clocks.

    ``both``: day of month and weekday must match, else one of them is enough.
    """
    every_day, every_weekday = len(days) >= 31, len(weekdays) >= 7
    weekly = any(isinstance(each, int) for each in weekdays)
    monthly = any(not isinstance(each, int) or each <= 28 for each in days)
    if len(months) < 12:
        return RAREST
    if every_day and every_weekday:
        return 2
    if weekly and (every_day or not both):
        return 8
    return 33 if monthly and (every_weekday or not both) else RAREST


def check_possible(pattern: Pattern, name: str) -> None:
    """Raise ConfigError if no day ever matches, such as 30 February."""
    if pattern.first_from(ANY_YEAR) is None:
        raise no_such_date(name)


def no_such_date(name: str) -> ConfigError:
    """Make the error of a pattern whose days do not exist."""
    return ConfigError(f"{name} never matches: there is no such date")


def numbers_of(name: str, value: object) -> frozenset[int]:
    """The numbers that a field of a crontab names: a number, a text or a collection of them.

    Raises ConfigError if it cannot be read.
    """
    parts = value if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    found = frozenset[int]().union(*(numbers_in(name, str(part)) for part in parts))
    if not found:
        raise unreadable(name, value)
    return found


@lru_cache(CACHED)
def numbers_in(name: str, text: str) -> frozenset[int]:
    """The numbers that a text names, such as ``0,30``."""
    first, last, _ = FIELDS[name]
    found: set[int] = set()
    for element in text.replace(" ", "").split(","):
        found |= element_numbers(name, element.lower())
    found = {number % 7 for number in found} if name == "day_of_week" else found
    if not all(first <= number <= last for number in found):
        raise unreadable(name, text)
    return frozenset(found)


def element_numbers(name: str, element: str) -> set[int]:
    """The numbers of one element, such as ``*/15`` or ``mon-fri``."""
    first, last, _ = FIELDS[name]
    found = ELEMENT.fullmatch(element)
    if found is None or (found["step"] and not int(found["step"])):
        raise unreadable(name, element)
    step = int(found["step"] or 1)
    if found["first"] is None:
        return set(range(first, last + 1, step))
    begin = number_of(name, found["first"])
    if found["last"] is None:
        return set(range(begin, (last if found["step"] else begin) + 1, step))
    end = number_of(name, found["last"])
    if end < begin:  # over the end: 22-2, sat-mon
        end += last - first + 1
    return {(number - first) % (last - first + 1) + first for number in range(begin, end + 1, step)}


def number_of(name: str, text: str) -> int:
    """A number, or the number of a day's or a month's name."""
    first, last, names = FIELDS[name]
    if text.isdecimal():
        number = int(text)
        if first <= number <= last or (name == "day_of_week" and number == 7):
            return number
    elif text[:3] in names:
        return names.index(text[:3]) + first
    raise unreadable(name, text)


def unreadable(name: str, value: object) -> ConfigError:
    """Make the error of a field that cannot be read."""
    first, last, names = FIELDS[name]
    known = {"allowed": f"{first} to {last}" + (f", or {names[0]} to {names[-1]}" if names else "")}
    return ConfigError(
        f"crontab: cannot read {name}={value!r}",
        known=known,
        advice=["a number, '*/5', '1-5', '0,30', or a list of numbers"],
    )
