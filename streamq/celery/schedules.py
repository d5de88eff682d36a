"""Schedules by Celery's names: values that settings hold; in this version nothing runs them.

They may be made anywhere, also before there is an app: they are compared, printed and pickled.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any

from streamq.context import NotInThisVersion
from streamq.errors import ConfigError

__all__ = ["BaseSchedule", "ParseException", "crontab", "maybe_schedule", "schedule", "solar"]

DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
MONTHS = (
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"
)  # fmt: skip

#: One element of a field of a crontab: ``*``, ``*/5``, ``3``, ``mon-fri``, ``10-20/2``.
ELEMENT = re.compile(r"(?:\*|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>\d+))?")


class ParseException(ConfigError):
    """A field of a crontab cannot be read."""


class BaseSchedule:
    """The base class of schedules, also of a user's own."""

    #: The schedule is told nothing of an app: it is a value.
    app: Any = None

    def __init__(self, nowfun: Callable[[], Any] | None = None, app: Any = None) -> None:
        self.nowfun = nowfun
        self.app = app

    def is_due(self, last_run_at: Any) -> Any:
        """Refuse: a schedule does not run in this version."""
        raise NotInThisVersion(f"not in this version: {type(self).__name__}.is_due")

    def remaining_estimate(self, last_run_at: Any) -> Any:
        """Refuse: a schedule does not run in this version."""
        raise NotInThisVersion(f"not in this version: {type(self).__name__}.remaining_estimate")

    def __eq__(self, other: object) -> bool:
        return NotImplemented if not isinstance(other, BaseSchedule) else self is other

    def __hash__(self) -> int:
        return id(self)


class schedule(BaseSchedule):
    """Every so often: ``run_every`` is seconds or a timedelta."""

    def __init__(
        self,
        run_every: float | timedelta | None = None,
        relative: bool = False,
        nowfun: Callable[[], Any] | None = None,
        app: Any = None,
    ) -> None:
        super().__init__(nowfun, app)
        if not isinstance(run_every, timedelta):
            run_every = timedelta(seconds=run_every or 0)
        self.run_every = run_every
        self.relative = relative

    @property
    def seconds(self) -> float:
        """The seconds between two runs."""
        return max(self.run_every.total_seconds(), 0)

    @property
    def human_seconds(self) -> str:
        """The time between two runs, for people."""
        return f"{self.seconds:.2f} seconds"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, timedelta):
            return self.run_every == other
        return isinstance(other, schedule) and self.run_every == other.run_every

    def __hash__(self) -> int:
        return hash(self.run_every)

    def __repr__(self) -> str:
        return f"<freq: {self.human_seconds}>"

    def __reduce__(self) -> Any:
        return type(self), (self.run_every, self.relative)


class crontab(BaseSchedule):
    """At the moments that five fields name, as in a crontab of Unix.

    A field is a number, text such as ``*/15``, ``mon-fri`` or ``0,30``, or a collection of numbers.
    Raises ParseException for a field that cannot be read.
    """

    #: The fields, each with its first and last number and the names of its numbers.
    FIELDS: Mapping[str, tuple[int, int, tuple[str, ...]]] = {
        "minute": (0, 59, ()),
        "hour": (0, 23, ()),
        "day_of_week": (0, 6, DAYS),
        "day_of_month": (1, 31, ()),
        "month_of_year": (1, 12, MONTHS),
    }

    def __init__(
        self,
        minute: Any = "*",
        hour: Any = "*",
        day_of_week: Any = "*",
        day_of_month: Any = "*",
        month_of_year: Any = "*",
        **more: Any,
    ) -> None:
        super().__init__(**more)
        given = (minute, hour, day_of_week, day_of_month, month_of_year)
        #: The fields as they were given, for people.
        self.given = dict(zip(self.FIELDS, given, strict=True))
        found = {name: numbers_of(name, value) for name, value in self.given.items()}
        self.minute, self.hour = found["minute"], found["hour"]
        self.day_of_week = found["day_of_week"]
        self.day_of_month, self.month_of_year = found["day_of_month"], found["month_of_year"]

    @property
    def fields(self) -> tuple[frozenset[int], ...]:
        """The numbers of each field, in the order of ``FIELDS``."""
        return tuple(getattr(self, name) for name in self.FIELDS)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, crontab) and self.fields == other.fields

    def __hash__(self) -> int:
        return hash(self.fields)

    def __str__(self) -> str:
        given = self.given
        order = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
        return " ".join(field_text(given[name]) for name in order)

    def __repr__(self) -> str:
        return f"<crontab: {self} (m/h/dM/MY/d)>"

    def __reduce__(self) -> Any:
        return type(self), tuple(self.given.values())


class solar(BaseSchedule):
    """At sunrise, sunset and the like: a value only, as all schedules in this version."""

    def __init__(
        self, event: str, lat: float, lon: float, nowfun: Any = None, app: Any = None
    ) -> None:
        super().__init__(nowfun, app)
        self.event, self.lat, self.lon = event, lat, lon

    def __eq__(self, other: object) -> bool:
        return isinstance(other, solar) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((self.event, self.lat, self.lon))

    def __repr__(self) -> str:
        return f"<solar: {self.event} at latitude {self.lat}, longitude: {self.lon}>"

    def __reduce__(self) -> Any:
        return type(self), (self.event, self.lat, self.lon)


def maybe_schedule(given: Any, relative: bool = False, app: Any = None) -> Any:
    """Make a schedule of seconds or a timedelta; return anything else as it is."""
    if isinstance(given, int | float | timedelta) and not isinstance(given, bool):
        return schedule(given, relative, app=app)
    return given


def field_text(value: Any) -> str:
    """Write a field as it was given."""
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ",".join(map(str, value))
    return str(value).replace(" ", "")


def numbers_of(name: str, value: Any) -> frozenset[int]:
    """The numbers that a field of a crontab names.  Raises ParseException if it cannot be read."""
    first, last, _ = crontab.FIELDS[name]
    parts = value if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    found: set[int] = set()
    for part in parts:
        for element in str(part).replace(" ", "").split(","):
            found |= element_numbers(name, element.lower())
    found = {number % 7 for number in found} if name == "day_of_week" else found
    wrong = sorted(number for number in found if not first <= number <= last)
    if wrong or not found:
        raise unreadable(name, value)
    return frozenset(found)


def element_numbers(name: str, element: str) -> set[int]:
    """The numbers of one element, such as ``*/15`` or ``mon-fri``."""
    first, last, _ = crontab.FIELDS[name]
    found = ELEMENT.fullmatch(element)
    if found is None or found["step"] == "0":
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
    first, last, names = crontab.FIELDS[name]
    if text.isdecimal():
        number = int(text)
        if first <= number <= last or (name == "day_of_week" and number == 7):
            return number
    elif text[:3] in names:
        return names.index(text[:3]) + first
    raise unreadable(name, text)


def unreadable(name: str, value: Any) -> ParseException:
    """Make the error of a field that cannot be read."""
    first, last, names = crontab.FIELDS[name]
    known = {"allowed": f"{first} to {last}" + (f", or {names[0]} to {names[-1]}" if names else "")}
    return ParseException(
        f"crontab: cannot read {name}={value!r}",
        known=known,
        advice=["a number, '*/5', '1-5', '0,30', or a list of numbers"],
    )
