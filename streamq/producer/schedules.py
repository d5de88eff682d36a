"""The schedules that an app declares: what is called, when, and by which rules."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from streamq.core.message import Publication
from streamq.core.text import shown
from streamq.core.ticks import CATCH_UP, OVERLAP, Timing, millis, moment_of
from streamq.core.units import choice, duration_text, seconds
from streamq.errors import ConfigError
from streamq.host.clock import monotonic
from streamq.producer.encoding import encoded
from streamq.producer.sending import CallSender
from streamq.routing import check_name
from streamq.schedule import Cron, Every, When, zone_of
from streamq.tasks import Signature

#: What a schedule is told besides the options of its call.
RULES = ("tz", "jitter", "overlap", "catch_up", "deadline")

#: Bytes of a schedule's name: with the moment behind it, it is a task id.
LONGEST_NAME = 170


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A schedule: a call, its moments, and the rules for those that were missed.

    ``tz`` names the zone of local times, None for that of the app.  ``jitter`` and ``deadline``
    are in seconds.
    """

    name: str
    call: Signature
    when: When
    tz: str | None = None
    jitter: float = 0.0
    overlap: str = "allow"
    catch_up: str = "one"
    deadline: float | None = None
    #: Who has declared it: the code, or the API.
    source: str = field(default="code", compare=False)

    @classmethod
    def checked(cls, name: str, call: Signature, when: Any, **rules: Any) -> "Schedule":
        """Make a schedule of values as users give them.  Raises ConfigError for a wrong one."""
        what = f"schedule {name}"
        if len(check_name(name, "schedule name").encode()) > LONGEST_NAME:
            raise ConfigError(f"the name of a schedule has {LONGEST_NAME} bytes at most: {name!r}")
        tz, deadline = rules.get("tz"), rules.get("deadline")
        if tz is not None:
            zone_of(tz)
        return cls(
            name=name,
            call=call,
            when=as_when(when, what),
            tz=tz,
            jitter=seconds(rules.get("jitter", 0), f"{what}: jitter"),
            overlap=choice(rules.get("overlap", "allow"), f"{what}: overlap", OVERLAP),
            catch_up=choice(rules.get("catch_up", "one"), f"{what}: catch_up", CATCH_UP),
            deadline=None if deadline is None else seconds(deadline, f"{what}: deadline"),
        )

    def zone(self, default: str | None) -> tzinfo:
        """The zone in which it reckons, where ``default`` is that of the app."""
        name = self.tz or getattr(self.when, "tz", None) or default
        return UTC if name is None else zone_of(name)

    def timing(self, default: str | None) -> Timing:
        """Its timing, where ``default`` is the zone of the app."""
        zone, when, name = self.zone(default), self.when, self.name

        def next_after(moment: int) -> int | None:
            found = when.next_after(moment_of(moment).astimezone(zone))
            return None if found is None else checked_moment(found, moment, name)

        return Timing(
            name=self.name,
            next_after=next_after,
            jitter=round(self.jitter * 1000),
            catch_up=self.catch_up,
            deadline=None if self.deadline is None else round(self.deadline * 1000),
        )

    def described(self, default: str | None) -> dict[str, str]:
        """What is declared, as fields for people and programs."""
        zone = self.tz or getattr(self.when, "tz", None) or default or "UTC"
        found = {
            "task": self.call.name,
            "when": text_of(self.when),
            "tz": "" if isinstance(self.when, Every) else zone,
            "args": shown_json(list(self.call.args)),
            "kwargs": shown_json(dict(self.call.kwargs)),
            "options": shown_json(dict(self.call.options)),
            "jitter": duration_text(self.jitter) if self.jitter else "",
            "overlap": self.overlap,
            "catch_up": self.catch_up,
            "deadline": "" if self.deadline is None else duration_text(self.deadline),
        }
        return {name: value for name, value in found.items() if value not in ("", "{}", "[]")}


def checked_moment(found: Any, after: int, name: str) -> int:
    """The moment that a schedule gave, in milliseconds.  Raises ConfigError for a wrong one."""
    if not isinstance(found, datetime) or found.tzinfo is None:
        raise ConfigError(
            f"schedule {name}: next_after must return a datetime with a zone, not {shown(found)}"
        )
    moment = millis(found)
    if moment <= after:
        raise ConfigError(f"schedule {name}: next_after returned {found}, which is not later")
    return moment


def as_when(given: Any, what: str) -> When:
    """The moments that a user gives: a schedule, cron text, or an interval."""
    if isinstance(given, When) and not isinstance(given, type):
        return given
    if isinstance(given, timedelta | int | float) and not isinstance(given, bool):
        return Every(given)
    if isinstance(given, str):
        cron = given.startswith("@") or len(given.split()) > 4
        return Cron(given) if cron else Every(given)
    raise ConfigError(
        f"{what}: {shown(given)} does not say when",
        advice=['cron("30 2 * * *"), crontab(minute=30, hour=2), every("30s"), at(moment)'],
    )


def text_of(when: When) -> str:
    """A text of the moments: by it versions of the code are compared."""
    text = repr(when)
    return text if " at 0x" not in text else f"{type(when).__module__}.{type(when).__qualname__}"


def shown_json(value: Any) -> str:
    """A value as JSON, as far as it can be written so."""
    return json.dumps(value, default=repr, ensure_ascii=False, sort_keys=True)


def revision_of(described: Mapping[str, str]) -> str:
    """The revision of a declaration: equal for equal ones."""
    return hashlib.blake2b(shown_json(described).encode(), digest_size=6).hexdigest()


class Schedules:
    """The schedules that the code of an app declares."""

    def __init__(self) -> None:
        self.declared: dict[str, Schedule] = {}
        #: Called before they are read: Celery's setting, and functions that declare some.
        self.sources: list[Callable[[], None]] = []

    def add(self, schedule: Schedule) -> Schedule:
        """Declare a schedule.  Raises ConfigError if there is another of that name."""
        before = self.declared.get(schedule.name)
        if before is not None and before != schedule:
            raise ConfigError(
                f"two schedules are named {schedule.name}",
                known={"first": text_of(before.when), "second": text_of(schedule.when)},
                advice=['name one of them: name="…"'],
            )
        self.declared[schedule.name] = schedule
        return schedule

    def __iter__(self) -> Iterator[Schedule]:
        for source in self.sources:
            source()
        return iter(list(self.declared.values()))


class ScheduleSource:
    """The schedules of an app as a supervisor fires them: their declarations and messages."""

    def __init__(self, app: CallSender, schedules: Schedules) -> None:
        self.app = app
        self.schedules = schedules

    def declared(self) -> list[tuple[Schedule, Timing, dict[str, str]]]:
        """The schedules that the code declares, with their timing and their description."""
        zone = self.app.conf.timezone
        return [(each, each.timing(zone), each.described(zone)) for each in self.schedules]

    def publication(self, call: Signature, id: str, nominal: int, missed: int) -> Publication:
        """The message of a tick, as the scripts take it."""
        call = replace(call, options={**call.options, "task_id": id})
        template = self.app.templates.template(call)
        args, kwargs = encoded(call, template, self.app.payloads)
        more = ["tick", str(nominal)] + (["missed", str(missed)] if missed else [])
        expires = self.app.moment(template, monotonic())
        found = template.publication(id, args, kwargs, given=True, expires=expires, more=tuple(more))
        # Without a dedup window: that a moment runs once is the script's to see to.
        return (*found[:3], "none", *found[4:])

    def declare_missing(self, call: Signature) -> bool:
        """Declare the queues that a message did not find; return whether that may help."""
        queues = self.app.templates.missed_by([call])
        if queues:
            self.app.broker.topology.declare(queues)
        return bool(queues)


def call_of(
    signature: Signature,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    options: Mapping[str, Any],
) -> Signature:
    """The call of a schedule: a signature with these further arguments and options."""
    found = signature.with_args(tuple(args), kwargs)
    return Signature(found.name, found.args, found.kwargs, {**found.options, **options}, found.task)
