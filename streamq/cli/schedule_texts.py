"""Schedules as ``streamq schedules`` shows them: their data for programs, and texts for people."""

from collections.abc import Set
from datetime import UTC, datetime, tzinfo
from typing import Any

from streamq.cli.shared import format_duration, number
from streamq.core.ticks import moment_of
from streamq.errors import ConfigError
from streamq.producer.schedules import StoredSchedule
from streamq.producer.scheduling import RULES
from streamq.schedule import When, zone_of

#: Seconds by which a schedule may be late before it is said.
LATE = 5.0
#: The end of the calendar of datetime, in seconds since 1970: another program wrote what is later.
LAST_SECOND = 253_402_300_799
#: Where a schedule was declared, for people.
SOURCES = {"code": "the code of the workers", "api": "streamq schedules add, or app.schedules.add"}


def described(each: StoredSchedule, firing: Set[str], now: float) -> dict[str, Any]:
    """The data of a schedule for ``--json``; the same names for every schedule.

    ``firing`` are the revisions that living workers fire, "" for those without code.
    """
    fields, when = each.fields, each.when
    due = None if each.due is None else each.due / 1000
    return {
        "name": each.name,
        "task": fields.get("task"),
        "words": words_of(when) if when else fields.get("when"),
        "tz": fields.get("tz"),
        "next": due,
        "last": number(fields.get("last"), 1000),
        "last_id": fields.get("last_id"),
        "last_late": number(fields.get("last_late_ms"), 1000),
        "missed": number(fields.get("missed")) or 0,
        "skipped": number(fields.get("skipped")) or 0,
        "failed": number(fields.get("failed")) or 0,
        "state": state_of(each, firing, now),
        "paused": number(fields.get("paused"), 1000),
        "source": None if each.wrong else fields.get("source", "code"),
        "declared": {
            name: fields[name]
            for name in ("when", *RULES, "args", "kwargs", "options")
            if name in fields
        },
    }


def state_of(each: StoredSchedule, firing: Set[str], now: float) -> str:
    """The state of a schedule, for programs."""
    fired = "" if each.fields.get("source") == "api" else each.fields.get("revision")
    if each.wrong is not None:
        return "damaged"
    if "paused" in each.fields:
        return "paused"
    if each.due is None:
        return "ended"
    if fired not in firing:
        return "no worker"
    return "late" if now - each.due / 1000 > LATE else "ok"


def state_text(about: dict[str, Any]) -> str:
    """The state of a schedule, for people."""
    if about["state"] == "no worker":
        return "no worker declares it" if about["source"] == "code" else "no worker is up"
    failed = f", {about['failed']} could not be sent" if about["failed"] else ""
    return f"{about['state']}{failed}"


def when_text(about: dict[str, Any]) -> str:
    """The moments of a schedule in words, and the zone of local times."""
    words, zone = about["words"] or "–", about["tz"]
    once = str(about["declared"].get("when")).startswith("at(")  # it says its offset
    return words if not zone or once else f"{words} ({zone})"


def run_of(fields: dict[str, str]) -> dict[str, Any]:
    """One run of a schedule, for ``--json``."""
    return {
        "tick": number(fields.get("tick"), 1000),
        "outcome": fields.get("outcome"),
        "late": number(fields.get("late_ms"), 1000),
        "missed": number(fields.get("missed")) or 0,
        "id": fields.get("id"),
        "error": fields.get("error"),
    }


def words_of(when: When) -> str:
    """The moments of a schedule in words."""
    return str(getattr(when, "words", when))


def zone_in(found: StoredSchedule) -> tzinfo:
    """The zone of a schedule that Redis holds; UTC where it names none that there is."""
    try:
        return zone_of(found.fields.get("tz") or "UTC")
    except ConfigError:
        return UTC


def utc_text(moment: datetime) -> str:
    """A moment in UTC, as ISO text."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def local_text(seconds: float | None, zone: tzinfo) -> str:
    """A moment of the server by the clock of a zone."""
    if seconds is None:
        return "–"
    try:
        return f"{moment_of(round(seconds * 1000)).astimezone(zone):%Y-%m-%d %H:%M:%S %z}"
    except OverflowError:
        return f"{seconds:g} s"


def from_now(seconds: float | None, now: float, *, brief: bool = False) -> str:
    """How far away a moment is, ``brief`` in one unit; ``–`` for one that no calendar has."""
    if seconds is None or abs(seconds) > LAST_SECOND:
        return "–"
    if seconds < now:
        return ago(seconds, now, brief=brief)
    return f"in {length(seconds - now, brief=brief)}"


def ago(seconds: float | None, now: float, *, brief: bool = False) -> str:
    """How long ago a moment was, ``brief`` in one unit."""
    return "–" if seconds is None else f"{length(max(0.0, now - seconds), brief=brief)} ago"


def length(seconds: float, *, brief: bool) -> str:
    """A duration, ``brief`` in one unit: the columns of a table are narrow."""
    text = format_duration(seconds)
    return " ".join(text.split()[:2]) if brief else text


def arguments_text(declared: dict[str, str]) -> str | None:
    """The arguments of a schedule, for people."""
    return " ".join(declared[name] for name in ("args", "kwargs") if name in declared) or None


def facts_of(found: StoredSchedule, about: dict[str, Any], now: float) -> dict[str, Any]:
    """What is known of a schedule, for people: names and values, None for what is not."""
    zone, declared = zone_in(found), about["declared"]

    def both(seconds: float | None, said: str) -> str | None:
        return None if seconds is None else f"{local_text(seconds, zone)} ({said})"

    return {
        "when": when_text(about),
        "declared": declared.get("when"),
        "declared by": SOURCES.get(about["source"], about["source"]),
        "task": about["task"],
        "arguments": arguments_text(declared),
        **{rule.replace("_", " "): declared.get(rule) for rule in RULES if rule != "tz"},
        "options": declared.get("options"),
        "paused since": both(about["paused"], ago(about["paused"], now)),
        "next": both(about["next"], from_now(about["next"], now)),
        "last": about["last_id"] and f"{about['last_id']} ({ago(about['last'], now)})",
        "missed": about["missed"] or None,
        "skipped": about["skipped"] or None,
        "not sent": about["failed"] or None,
        "damaged": found.wrong,
    }
