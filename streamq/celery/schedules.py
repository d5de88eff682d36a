"""Schedules by Celery's names: values that settings hold, and that know their next moments.

They may be made anywhere, also before there is an app: they are compared, printed and pickled.
"""

import copy
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from streamq.context import NotInThisVersion
from streamq.core.cron import FIELDS, numbers_of
from streamq.errors import ConfigError
from streamq.host import clock
from streamq.schedule import Crontab, Every

__all__ = ["BaseSchedule", "ParseException", "crontab", "maybe_schedule", "schedule", "solar"]


class ParseException(ConfigError):
    """A field of a crontab cannot be read."""


class Due(NamedTuple):
    """Whether a schedule is due, and the seconds until it is again."""

    is_due: bool
    next: float


class BaseSchedule:
    """The base class of schedules, also of a user's own."""

    #: The schedule is told nothing of an app: it is a value.
    app: Any = None

    def __init__(self, nowfun: Callable[[], Any] | None = None, app: Any = None) -> None:
        self.nowfun = nowfun
        self.app = app

    def now(self) -> datetime:
        """The time now, in UTC; that of ``nowfun`` if it was given."""
        if self.nowfun is not None:
            return aware(self.nowfun())
        return datetime.fromtimestamp(clock.time(), UTC)

    def next_after(self, moment: datetime) -> datetime | None:
        """The first moment after this one.

        That of a class of one's own, which says by ``is_due`` how long to wait.
        """
        if type(self).is_due is BaseSchedule.is_due:
            remaining = type(self).remaining_estimate
            if remaining is BaseSchedule.remaining_estimate:
                raise ConfigError(
                    f"{type(self).__qualname__} does not say when it is due",
                    advice=["def next_after(self, moment): …", "or is_due, as for Celery"],
                )
        then = copy.copy(self)
        then.nowfun = lambda: moment
        _, wait = then.is_due(moment)
        return moment + timedelta(seconds=max(float(wait), 0.001))

    def is_due(self, last_run_at: datetime) -> "Due":
        """Whether it is due, and the seconds until the next moment."""
        left = self.remaining_estimate(last_run_at).total_seconds()
        if left > 0:
            return Due(False, left)
        now = self.now()
        return Due(True, max(self.remaining_estimate(now).total_seconds(), 0.0))

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        """The time until the first moment after the last run."""
        found = self.next_after(aware(last_run_at))
        return timedelta.max if found is None else found - self.now()

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

    def next_after(self, moment: datetime) -> datetime | None:
        """The first moment after this one: counted from the epoch in UTC."""
        return self.when.next_after(moment)

    @property
    def when(self) -> Every:
        """The same as a schedule of streamq.  Raises ConfigError if it is too often."""
        return Every(self.run_every)

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
        self.given = dict(zip(FIELDS, given, strict=True))
        try:
            found = {name: numbers_of(name, value) for name, value in self.given.items()}
        except ConfigError as error:
            raise ParseException(*error.args) from None
        self.minute, self.hour = found["minute"], found["hour"]
        self.day_of_week = found["day_of_week"]
        self.day_of_month, self.month_of_year = found["day_of_month"], found["month_of_year"]

    @property
    def fields(self) -> tuple[frozenset[int], ...]:
        """The numbers of each field, in the order of ``FIELDS``."""
        return tuple(getattr(self, name) for name in FIELDS)

    @property
    def when(self) -> Crontab:
        """The same as a schedule of streamq.  Raises ConfigError if there is no such date."""
        return Crontab(self.given)

    def next_after(self, moment: datetime) -> datetime | None:
        """The first moment after this one, by the clock of the moment's zone."""
        return self.when.next_after(moment)

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
    """At sunrise, sunset and the like: a value only, which is refused where it is to run."""

    def __init__(
        self, event: str, lat: float, lon: float, nowfun: Any = None, app: Any = None
    ) -> None:
        super().__init__(nowfun, app)
        self.event, self.lat, self.lon = event, lat, lon

    def next_after(self, moment: datetime) -> datetime | None:
        """Refuse: nobody reckons the sun here."""
        raise NotInThisVersion(
            f"not in this version: solar ({self.event})",
            advice=["a class with next_after(moment), by a library such as astral"],
        )

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


def aware(moment: datetime) -> datetime:
    """This moment with a time zone; one that names none is in UTC."""
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def field_text(value: Any) -> str:
    """Write a field as it was given."""
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ",".join(map(str, value))
    return str(value).replace(" ", "")
