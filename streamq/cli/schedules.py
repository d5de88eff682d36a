"""``streamq schedules``: shows, previews, runs, pauses, adds and removes schedules."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any

import click

from streamq.app import App
from streamq.cli.command import Command, GivenOptions, Group
from streamq.cli.enqueue import arguments_of
from streamq.cli.shared import (
    app_if_any,
    as_json,
    format_duration,
    inspector_of,
    number,
    print_json,
    say,
    unknown_name,
    usage_errors,
)
from streamq.cli.tables import show_facts, show_list, show_table
from streamq.core.ticks import moment_of
from streamq.errors import ConfigError
from streamq.host import clock
from streamq.producer.schedules import StoredSchedule
from streamq.producer.scheduling import RULES
from streamq.schedule import At, Cron, Every, When, aware, zone_of

#: Moments that a preview shows at most.
MOST_SHOWN = 1000
#: Runs that ``show`` lists.
LAST_RUNS = 10
#: Seconds by which a schedule may be late before it is said.
LATE = 5.0

all_of_them = click.option("--all", "everything", is_flag=True, help="All schedules.")


@click.group(cls=Group)
def schedules() -> None:
    """List schedules; preview, run, pause, add and remove them."""


@schedules.command(cls=Command)
@as_json
@click.pass_obj
def ls(given: GivenOptions, as_json: bool) -> None:
    """List the schedules, the next one first."""
    app = app_if_any(given)
    found = sorted(app.schedules.stored(), key=lambda each: (each.due is None, each.due, each.name))
    living, now = living_revisions(app), clock.time()
    show_list(
        [described(each, living, now) for each in found],
        ("schedule", "when", "next", "last", "state"),
        lambda each: (
            *(each["name"], each["words"], from_now(each["next"], now)),
            *(ago(each["last"], now), state_text(each)),
        ),
        empty="no schedule yet: @app.every(…), @app.cron(…), or streamq schedules add",
        as_json=as_json,
        described=dict,
    )


@schedules.command(cls=Command)
@click.argument("name")
@as_json
@click.pass_obj
def show(given: GivenOptions, name: str, as_json: bool) -> None:
    """Show one schedule: what is declared, and its last runs."""
    app = app_if_any(given)
    found = stored(app, name)
    about = described(found, living_revisions(app), clock.time())
    runs = [run_of(fields) for fields in app.schedules.store.runs(name, LAST_RUNS)]
    if as_json:
        print_json({**about, "runs": runs})
        return
    rules = {rule: about["declared"].get(rule) for rule in (*RULES, "options")}
    show_facts(
        f"{name}  {state_text(about)}".rstrip(),
        {
            "when": about["words"],
            "declared": about["declared"].get("when"),
            "task": about["task"],
            "arguments": arguments_text(about["declared"]),
            **{rule.replace("_", " "): value for rule, value in rules.items()},
            "next": about["next"] and both(about["next"], zone_in(found)),
            "last": about["last_id"],
            "missed": about["missed"] or None,
            "skipped": about["skipped"] or None,
            "failed": about["failed"] or None,
        },
    )
    show_table(
        ("moment", "outcome", "late", "missed", "id"),
        [
            (
                *(local_text(each["tick"], zone_in(found)), each["outcome"]),
                "–" if each["late"] is None else format_duration(each["late"]),
                *(each["missed"] or "–", each["id"] or each["error"] or "–"),
            )
            for each in runs
        ],
        empty="it has not run yet",
    )


@schedules.command(cls=Command)
@click.argument("name")
@click.option("-n", "many", type=click.IntRange(1, MOST_SHOWN), default=5, help="How many.")
@click.option("--from", "begin", metavar="MOMENT", help="After that; else after now.")
@as_json
@click.pass_obj
def preview(given: GivenOptions, name: str, many: int, begin: str | None, as_json: bool) -> None:
    """Show the next moments of a schedule: of the app's, without a worker, else of Redis'."""
    app = app_if_any(given)
    when, zone, words = moments_named(app, name)
    moment = datetime.fromtimestamp(clock.time(), UTC)
    if begin is not None:
        with usage_errors():
            moment = moment_given(begin, zone)
    moments = list(next_moments(when, moment.astimezone(zone), many))
    if as_json:
        print_json([{"utc": utc_text(each), "local": each.isoformat()} for each in moments])
        return
    rows = [(f"{each:%a %Y-%m-%d %H:%M:%S %z}", utc_text(each)) for each in moments]
    only = str(zone) == "UTC"
    show_table(
        ("UTC",) if only else (str(zone), "UTC"),
        [row[:1] for row in rows] if only else rows,
        empty=f"{words}: no moment after {moment.isoformat()}",
    )


@schedules.command(cls=Command)
@click.argument("name")
@as_json
@click.pass_obj
def run(given: GivenOptions, name: str, as_json: bool) -> None:
    """Send the call of a schedule now; its next moment stays."""
    result = app_if_any(given).schedules.run(name)
    if as_json:
        print_json({"id": result.id})
    else:
        say(f"✓ {result.id}")


@schedules.command(cls=Command)
@click.argument("names", nargs=-1, metavar="NAME…")
@all_of_them
@click.pass_obj
def pause(given: GivenOptions, names: tuple[str, ...], everything: bool) -> None:
    """Pause schedules until they are resumed; what falls into the pause is not missed."""
    app = app_if_any(given)
    for name in chosen(app, names, everything=everything):
        if not app.schedules.pause(name):
            raise unknown_name("schedule", name, app.schedules.store.names())
        say(f"{name} is paused")


@schedules.command(cls=Command)
@click.argument("names", nargs=-1, metavar="NAME…")
@all_of_them
@click.pass_obj
def resume(given: GivenOptions, names: tuple[str, ...], everything: bool) -> None:
    """Let schedules run again."""
    app = app_if_any(given)
    for name in chosen(app, names, everything=everything):
        if not app.schedules.resume(name):
            raise unknown_name("schedule", name, app.schedules.store.names())
        say(f"{name} runs again")


@schedules.command(cls=Command, context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("task")
@click.argument("arguments", nargs=-1, metavar="[ARGUMENT | NAME=VALUE]…")
@click.option("--cron", metavar="TEXT", help='Cron text: "30 2 * * *", or @daily.')
@click.option("--every", metavar="INTERVAL", help="An interval: 30s, 1h30m.")
@click.option("--at", metavar="MOMENT", help="Once: 2027-01-31T08:00.")
@click.option("--tz", metavar="ZONE", help="The zone of local times: Europe/Berlin.")
@click.option("--jitter", metavar="DURATION", help="Delay each run by up to so long.")
@click.option("--overlap", metavar="RULE", help="allow, skip or replace.")
@click.option("--catch-up", metavar="RULE", help="one, none or all of those that were missed.")
@click.option("--deadline", metavar="DURATION", help="What is later than this is missed.")
@click.option("--queue", metavar="QUEUE", help="The queue that takes it.")
@click.pass_obj
def add(
    given: GivenOptions,
    /,
    name: str,
    task: str,
    arguments: tuple[str, ...],
    cron: str | None,
    every: str | None,
    at: str | None,
    **rules: str | None,
) -> None:
    """Add a schedule that needs no code, or replace one of that name.

    \b
    streamq schedules add nightly shop.report --cron "30 2 * * *" --tz Europe/Berlin
    streamq schedules add ping shop.ping --every 30s
    """
    makers = {"--cron": cron, "--every": every, "--at": at}
    if sum(value is not None for value in makers.values()) != 1:
        raise click.UsageError(f"one of {', '.join(makers)} says when")
    app = app_if_any(given)
    args, kwargs = arguments_of(arguments)
    options = {rule: value for rule, value in rules.items() if value is not None}
    with usage_errors():
        when = moments_of(cron, every, at, rules["tz"])
        schedule = app.schedules.add(name, task, when, args, kwargs, **options)
    say(f"✓ {name}: {words_of(schedule.when)}, {task}")


@schedules.command(cls=Command)
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@click.pass_obj
def rm(given: GivenOptions, names: tuple[str, ...]) -> None:
    """Remove schedules; one that code declares is put back by its workers."""
    app = app_if_any(given)
    living = living_revisions(app)
    for name in names:
        found = stored(app, name)
        app.schedules.remove(name)
        say(f"{name} is removed")
        if found.fields.get("source") == "code" and found.fields.get("revision") in living:
            say("  workers that declare it put it back: streamq schedules pause keeps it quiet")


def chosen(app: App, names: Sequence[str], *, everything: bool) -> Sequence[str]:
    """The schedules that a command is about.  Raises UsageError."""
    if everything == bool(names):
        raise click.UsageError("name schedules, or --all")
    return sorted(app.schedules.store.names()) if everything else names


def stored(app: App, name: str) -> StoredSchedule:
    """A schedule as Redis holds it.  Raises UnknownName."""
    for found in app.schedules.stored([name]):
        return found
    raise unknown_name("schedule", name, app.schedules.store.names())


def living_revisions(app: App) -> set[str]:
    """The revisions of the schedules that living workers fire; "" for those without code."""
    found: set[str] = set()
    for state in inspector_of(app).workers():
        if state.up and "schedules" in state.about:
            found |= {"", *state.about["schedules"].split()}
    return found


def described(each: StoredSchedule, living: set[str], now: float) -> dict[str, Any]:
    """The data of a schedule for ``--json``; the same names for every schedule."""
    fields = each.fields
    source = fields.get("source", "code")
    due = None if each.due is None else each.due / 1000
    fired = "" if source == "api" else fields.get("revision")
    if "paused" in fields:
        state = "paused"
    elif due is None:
        state = "ended"
    elif fired not in living:
        state = "no worker"
    else:
        state = "late" if now - due > LATE else "ok"
    return {
        "name": each.name,
        "task": fields.get("task"),
        "words": words_of(each.when) if each.when else fields.get("when"),
        "tz": fields.get("tz"),
        "next": due,
        "last": number(fields.get("last"), 1000),
        "last_id": fields.get("last_id"),
        "last_late": number(fields.get("last_late_ms"), 1000),
        "missed": number(fields.get("missed")) or 0,
        "skipped": number(fields.get("skipped")) or 0,
        "failed": number(fields.get("failed")) or 0,
        "state": state,
        "source": source,
        "declared": {
            name: fields[name]
            for name in ("when", *RULES, "args", "kwargs", "options")
            if name in fields
        },
    }


def state_text(about: dict[str, Any]) -> str:
    """The state of a schedule, for people."""
    if about["state"] == "no worker":
        return "no living worker declares it" if about["source"] == "code" else "no worker is up"
    return "" if about["state"] == "ok" else str(about["state"])


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


def moments_of(cron: str | None, every: str | None, at: str | None, tz: str | None) -> When:
    """The moments that options name."""
    if cron is not None:
        return Cron(cron)
    return Every(every) if every is not None else At(at or "", tz)


def moments_named(app: App, name: str) -> tuple[When, tzinfo, str]:
    """The moments of a schedule, its zone, and its moments in words.  Raises UnknownName."""
    declared = {each.name: each for each in app.schedules}
    if name in declared:
        found = declared[name]
        return found.when, found.zone(app.conf.timezone), words_of(found.when)
    kept = stored(app, name)
    if kept.when is None:
        raise ConfigError(
            f"only the code knows the moments of {name}: {kept.fields.get('when')}",
            advice=["streamq -A MODULE schedules preview NAME"],
        )
    return kept.when, zone_in(kept), words_of(kept.when)


def zone_in(found: StoredSchedule) -> tzinfo:
    """The zone of a schedule that Redis holds."""
    return zone_of(found.fields.get("tz") or "UTC")


def next_moments(when: When, moment: datetime, many: int) -> Iterator[datetime]:
    """Yield the next moments, as many as that."""
    zone = moment.tzinfo
    for _ in range(many):
        found = when.next_after(moment)
        if found is None:
            return
        moment = found.astimezone(zone)
        yield moment


def moment_given(text: str, zone: tzinfo) -> datetime:
    """A moment that a user names.  Raises ConfigError."""
    try:
        return aware(datetime.fromisoformat(text), zone)
    except ValueError:
        raise ConfigError(
            f"--from {text!r} is no moment", advice=["2027-03-28T00:00, or with a zone: …+01:00"]
        ) from None


def utc_text(moment: datetime) -> str:
    """A moment in UTC, as ISO text."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def local_text(seconds: float | None, zone: tzinfo) -> str:
    """A moment of the server by the clock of a zone."""
    if seconds is None:
        return "–"
    return f"{moment_of(round(seconds * 1000)).astimezone(zone):%Y-%m-%d %H:%M:%S %z}"


def both(seconds: float, zone: tzinfo) -> str:
    """A moment by the clock of a zone, and how far away it is."""
    return f"{local_text(seconds, zone)} ({from_now(seconds, clock.time())})"


def from_now(seconds: float | None, now: float) -> str:
    """How far away a moment is."""
    if seconds is None:
        return "–"
    return f"in {format_duration(seconds - now)}" if seconds >= now else f"{ago(seconds, now)}"


def ago(seconds: float | None, now: float) -> str:
    """How long ago a moment was."""
    return "–" if seconds is None else f"{format_duration(max(0.0, now - seconds))} ago"


def arguments_text(declared: dict[str, str]) -> str | None:
    """The arguments of a schedule, for people."""
    return " ".join(declared[name] for name in ("args", "kwargs") if name in declared) or None
