"""Scheduling: what a schedule calls, when, and by which rules; checked when it is declared."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from streamq.core.message import Message
from streamq.core.text import shown
from streamq.core.ticks import (
    CATCH_UP,
    LONGEST_NAME,
    MILLISECOND,
    OVERLAP,
    Timing,
    millis,
    moment_of,
)
from streamq.core.units import choice, duration_text, seconds
from streamq.errors import ConfigError, StreamqError
from streamq.routing import check_name
from streamq.schedule import Cron, Every, When, when_of, zone_of
from streamq.tasks import Signature

#: What a schedule is told besides the options of its call.
RULES = ("tz", "jitter", "overlap", "catch_up", "deadline")

#: The fields that say what is declared.
DESCRIBED = ("task", "when", *RULES, "args", "kwargs", "options", "message")


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
    #: The message of one that is stored in Redis, and needs no code.
    message: Message | None = None

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

    @classmethod
    def stored(cls, name: str, fields: Mapping[str, str]) -> "Schedule":
        """The schedule that these fields of Redis describe, with its message.

        Raises ConfigError or DecodeError if they do not describe one.
        """
        when = when_of(fields.get("when", ""))
        if when is None:
            raise ConfigError(f"schedule {name}: {shown(fields.get('when'))} does not say when")
        rules = {rule: fields[rule] for rule in RULES if fields.get(rule)}
        found = cls.checked(name, Signature(fields.get("task", "")), when, **rules)
        return replace(found, message=Message.from_json(fields.get("message", "")))

    def zone(self, default: str | None) -> tzinfo:
        """The zone in which it reckons, where ``default`` is that of the app."""
        name = self.tz or getattr(self.when, "tz", None) or default
        return UTC if name is None else zone_of(name)

    def timing(self, default: str | None) -> Timing:
        """Its timing, where ``default`` is the zone of the app."""
        zone, when, name = self.zone(default), self.when, self.name

        def next_after(moment: int) -> int | None:
            try:
                found = when.next_after(moment_of(moment).astimezone(zone))
            except StreamqError:
                raise
            except Exception as error:  # of a class of the user's
                raise ConfigError(f"schedule {name}: next_after failed: {error!r}") from error
            return None if found is None else checked_moment(found, moment, name)

        return Timing(
            name=self.name,
            next_after=next_after,
            jitter=round(self.jitter * 1000),
            catch_up=self.catch_up,
            deadline=None if self.deadline is None else round(self.deadline * 1000),
        )

    def bounds(self) -> dict[str, str]:
        """The field that bounds the time from one moment to the next (ms), if that is known."""
        gap = getattr(self.when, "gap", None)
        return {"gap": str(gap // MILLISECOND)} if isinstance(gap, timedelta) else {}

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
        ours = getattr(given, "when", None)  # Celery's have one of ours, unless they are of a class
        known = type(given).__module__.startswith("streamq.")
        return ours if known and isinstance(ours, When) else given
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


def revision_of(name: str, described: Mapping[str, str]) -> str:
    """The revision of a declaration: equal for equal ones of one name."""
    text = shown_json([name, dict(described)])
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
