"""Schedules as values: ``cron``, ``crontab``, ``every`` and ``at``; each knows its next moment.

app.schedule("report", report, cron("30 2 * * *"), tz="Europe/Berlin")
"""

import ast
import zoneinfo
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cached_property, lru_cache
from typing import Protocol, runtime_checkable

from cronsim.explain import explain

from streamq.core.calendar import Pattern
from streamq.core.cron import (
    FIELDS,
    cron_fields,
    cron_pattern,
    crontab_pattern,
    is_readable,
    numbers_of,
)
from streamq.core.text import nearest, shown
from streamq.core.units import duration_text, seconds
from streamq.errors import ConfigError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
#: The shortest time between two runs, in seconds: each is one call of a script.
SHORTEST = 0.1
#: The fields of a crontab in the order of cron.
ORDER = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")


@runtime_checkable
class When(Protocol):
    """Anything that knows its next moment: ours, or a class of your own.

    A class of your own also has a ``repr`` that says all that it depends on: by it workers tell
    whether two versions of the code mean the same.
    """

    def next_after(self, moment: datetime, /) -> datetime | None:
        """The first moment after this one, with a time zone; None if there is none."""


class ByCalendar:
    """The base of schedules by local time; ``tz`` is the name of a time zone.

    Without one the schedule takes that of the app, or of the moment from which it reckons.
    """

    def __init__(self, pattern: Pattern, tz: str | None) -> None:
        self.pattern = pattern
        self.tz = tz
        self.zone = None if tz is None else zone_of(tz)

    def next_after(self, moment: datetime) -> datetime | None:
        """The first moment after this one, in the schedule's zone."""
        zone = self.in_zone(moment)
        try:
            found = self.pattern.next_after(aware(moment, zone), zone)
            return None if found is None else found.astimezone(zone)
        except OverflowError:  # the calendar of datetime ends
            return None

    @property
    def gap(self) -> timedelta:
        """A bound on the time from one moment to the next."""
        return timedelta(days=self.pattern.gap)

    def in_zone(self, moment: datetime) -> tzinfo:
        """The zone to reckon in: the schedule's own, else the moment's, else UTC."""
        return self.zone or moment.tzinfo or UTC

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and repr(other) == repr(self)

    def __hash__(self) -> int:
        return hash(repr(self))


class Cron(ByCalendar):
    """At the moments that a cron text names, by the rules of Debian's cron.

    Five fields, or six that begin with seconds, or ``@hourly`` and the like.
    """

    def __init__(self, text: str, tz: str | None = None) -> None:
        super().__init__(cron_pattern(text), tz)
        self.text = " ".join(cron_fields(text))

    @cached_property
    def words(self) -> str:
        """The schedule in words, such as "At 02:30 every day"."""
        return explain(self.text)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"cron({self.text!r})" if self.tz is None else f"cron({self.text!r}, {self.tz!r})"


class Crontab(ByCalendar):
    """At the moments whose local time all fields match, as Celery's crontab."""

    def __init__(self, given: Mapping[str, object], tz: str | None = None) -> None:
        #: The fields as they were given, for people.
        self.given = dict(given)
        self.fields = {name: numbers_of(name, value) for name, value in given.items()}
        self.texts = {name: field_text(value) for name, value in given.items()}
        stars = [self.texts[name].startswith("*") for name in ("minute", "hour")]
        super().__init__(crontab_pattern(self.fields, fixed=not any(stars)), tz)

    @cached_property
    def words(self) -> str:
        """The schedule in words, such as "At 08:00 on the third day of month if it's on Monday"."""
        *others, weekday = map(self.readable, ORDER)
        if self.texts["day_of_month"] == "*" or weekday == "*":
            return explain(" ".join([*others, weekday]))
        days = explain(f"* * * * {weekday}").removeprefix("Every minute on ")
        return f"{explain(' '.join([*others, '*']))} if it's on {days}"

    def readable(self, name: str) -> str:
        """A field as cron can read it: its numbers, if its text is a range that wraps."""
        text = self.texts[name]
        if is_readable(tuple(text if each == name else "*" for each in ORDER)):
            return text
        return ",".join(map(str, sorted(self.fields[name])))

    def __str__(self) -> str:
        return " ".join(self.texts[name] for name in ORDER)

    def __repr__(self) -> str:
        given = [f"{name}={text!r}" for name, text in self.texts.items() if text != "*"]
        given += [] if self.tz is None else [f"tz={self.tz!r}"]
        return f"crontab({', '.join(given)})"


class Every:
    """Every so often, counted from the epoch in UTC: "30s" is at :00 and :30 of each minute."""

    def __init__(self, interval: float | timedelta | str) -> None:
        length = seconds(interval, "every")
        if length < SHORTEST:
            raise ConfigError(
                f"every({shown(interval)}) is too often",
                known={"shortest": duration_text(SHORTEST)},
            )
        self.interval = self.gap = timedelta(milliseconds=round(length * 1000))

    def next_after(self, moment: datetime) -> datetime | None:
        """The first moment after this one, in its zone."""
        passed = (aware(moment, UTC) - EPOCH) // self.interval
        try:
            return (EPOCH + (passed + 1) * self.interval).astimezone(moment.tzinfo or UTC)
        except OverflowError:  # the calendar of datetime ends
            return None

    @property
    def words(self) -> str:
        """The schedule in words."""
        return f"Every {self}"

    def __str__(self) -> str:
        return duration_text(self.interval.total_seconds())

    def __repr__(self) -> str:
        return f"every({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Every) and other.interval == self.interval

    def __hash__(self) -> int:
        return hash(self.interval)


class At:
    """Once, at a moment; one without a zone is in ``tz``, else in UTC."""

    def __init__(self, moment: datetime | str, tz: str | None = None) -> None:
        zone = UTC if tz is None else zone_of(tz)
        try:
            found = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
            self.moment = aware(found, zone)
            self.moment.astimezone(UTC)
        except (ValueError, AttributeError, TypeError, OverflowError):
            raise ConfigError(
                f"at: {shown(moment)} is no moment",
                advice=['a datetime, or text: "2027-01-31T08:00:00+01:00"'],
            ) from None

    def next_after(self, moment: datetime) -> datetime | None:
        """The moment, if it is after this one."""
        return self.moment if aware(moment, self.moment.tzinfo or UTC) < self.moment else None

    @property
    def words(self) -> str:
        """The schedule in words."""
        return f"Once, at {self}"

    def __str__(self) -> str:
        return self.moment.isoformat(sep=" ")

    def __repr__(self) -> str:
        return f"at({self.moment.astimezone(UTC).isoformat()!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, At) and other.moment == self.moment

    def __hash__(self) -> int:
        return hash(self.moment)


def cron(text: str, tz: str | None = None) -> Cron:
    """At the moments that a cron text names: ``cron("30 2 * * mon-fri", tz="Europe/Berlin")``.

    Five fields by Debian's rules, six that begin with seconds, or ``@hourly``, ``@daily`` and the
    like.  Raises ConfigError for a text that cannot be read, and for a date that does not exist.
    """
    return Cron(text, tz)


def crontab(
    minute: object = "*",
    hour: object = "*",
    day_of_week: object = "*",
    day_of_month: object = "*",
    month_of_year: object = "*",
    tz: str | None = None,
    **unknown: object,
) -> Crontab:
    """At the moments whose local time all fields match, as Celery's ``crontab``.

    A field is a number, text such as ``"*/15"``, ``"mon-fri"`` or ``"0,30"``, or a collection of
    numbers.  Raises ConfigError for a field that cannot be read, and for a date that does not
    exist.
    """
    if unknown:
        name = next(iter(unknown))
        near = nearest(name, FIELDS)
        seconds = 'seconds: cron("*/10 * * * * *"), of six fields, or every("10s")'
        raise ConfigError(
            f"crontab has no field {name!r}",
            known={"fields": ", ".join(FIELDS)},
            advice=[seconds]
            if name.startswith("second")
            else [f"did you mean {near}?"] * bool(near),
        )
    given = (minute, hour, day_of_week, day_of_month, month_of_year)
    return Crontab(dict(zip(FIELDS, given, strict=True)), tz)


def every(interval: float | timedelta | str) -> Every:
    """Every so often: seconds, a timedelta, or text such as "30s", "1h30m".

    Counted from the epoch in UTC: it does not matter when a worker starts.
    """
    return Every(interval)


def at(moment: datetime | str, tz: str | None = None) -> At:
    """Once, at a moment: a datetime, or text such as "2027-01-31T08:00".

    A moment without a zone is in ``tz``, else in UTC.
    """
    return At(moment, tz)


@lru_cache(1024)
def when_of(text: str) -> When | None:
    """The schedule that this text is the ``repr`` of; None if it is none of ours."""
    try:
        call = ast.parse(text, mode="eval").body
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
            return None
        args = [ast.literal_eval(each) for each in call.args]
        named = {each.arg or "": ast.literal_eval(each.value) for each in call.keywords}
        return MAKERS[call.func.id](*args, **named)
    except (SyntaxError, ValueError, KeyError, TypeError, ConfigError):
        return None


#: What the ``repr`` of a schedule calls.
MAKERS: dict[str, Callable[..., When]] = {
    "cron": cron,
    "crontab": crontab,
    "every": every,
    "at": at,
}


def zone_of(name: str) -> tzinfo:
    """The time zone of this name.  Raises ConfigError if there is none."""
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        near = nearest(str(name), zoneinfo.available_timezones())
        advice = [f"did you mean {near}?"] if near else ['such as "Europe/Berlin" or "UTC"']
        raise ConfigError(f"no time zone named {name!r}", advice=advice) from None


def aware(moment: datetime, zone: tzinfo) -> datetime:
    """This moment with a time zone: one that names none is in ``zone``."""
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)


def field_text(value: object) -> str:
    """Write a field of a crontab as it was given."""
    if isinstance(value, str):
        return value.replace(" ", "").lower()
    if isinstance(value, int):
        return str(value)
    return ",".join(map(str, sorted(value, key=str)))  # type: ignore[call-overload]
