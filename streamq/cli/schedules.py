"""``streamq schedules``: shows, previews, runs, pauses, adds and removes schedules."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, tzinfo

import click

from streamq.app import App
from streamq.cli.command import Command, GivenOptions, Group
from streamq.cli.enqueue import Arguments, arguments_of
from streamq.cli.schedule_texts import (
    ago,
    described,
    facts_of,
    from_now,
    local_text,
    run_of,
    state_text,
    utc_text,
    when_text,
    words_of,
    zone_in,
)
from streamq.cli.shared import (
    UnknownName,
    app_if_any,
    as_json,
    format_duration,
    print_json,
    say,
    unknown_name,
    usage_errors,
)
from streamq.cli.tables import show_facts, show_list, show_table
from streamq.core.ticks import millis
from streamq.errors import ConfigError
from streamq.host import clock
from streamq.producer.schedules import StoredSchedule
from streamq.producer.scheduling import Schedule, checked_moment
from streamq.schedule import At, Cron, Every, When, aware

#: Moments that a preview shows at most.
MOST_SHOWN = 1000
#: Runs that ``show`` lists.
LAST_RUNS = 10
#: The years of moments from which a preview begins.
FIRST_YEAR, LAST_YEAR = 1970, 9998

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
    firing, now = app.schedules.store.firing(), clock.time()
    show_list(
        [described(each, firing, now) for each in found],
        ("schedule", "when", "next", "last", "state"),
        lambda each: (
            *(each["name"], when_text(each), from_now(each["next"], now, brief=True)),
            *(ago(each["last"], now, brief=True), state_text(each)),
        ),
        empty="no schedule yet: a worker that starts declares those of its code, and\n"
        "streamq schedules add NAME TASK --every 30s  needs no code",
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
    found, now = stored(app, name), clock.time()
    about = described(found, app.schedules.store.firing(), now)
    runs = [run_of(fields) for fields in app.schedules.store.runs(name, LAST_RUNS)]
    if as_json:
        print_json({**about, "runs": runs})
        return
    show_facts(f"{name}  {state_text(about)}", facts_of(found, about, now))
    failed = any(each["error"] for each in runs)
    show_table(
        ("moment", "outcome", "late", "missed", *(["error"] if failed else [])),
        [
            (
                *(local_text(each["tick"], zone_in(found)), each["outcome"]),
                "–" if each["late"] is None else format_duration(each["late"]),
                *(each["missed"] or "–", *([each["error"] or "–"] if failed else [])),
            )
            for each in runs
        ],
        empty="it has not run yet",
    )


@schedules.command(cls=Command)
@click.argument("name")
@click.option(
    *("-n", "many"),
    type=click.IntRange(1, MOST_SHOWN),
    default=5,
    metavar="NUMBER",
    help=f"How many: 5, or up to {MOST_SHOWN}.",
)
@click.option(
    *("--from", "begin"),
    metavar="MOMENT",
    help="Those after that, and not after now: 2027-03-28T00:00.",
)
@as_json
@click.pass_obj
def preview(given: GivenOptions, name: str, many: int, begin: str | None, as_json: bool) -> None:
    """Show the next moments of a schedule.

    What the app declares is asked first, with -A also without a worker and without Redis; then
    Redis.
    """
    when, zone = moments_named(app_if_any(given), name)
    moment = datetime.fromtimestamp(clock.time(), UTC)
    if begin is not None:
        with usage_errors():
            moment = moment_given(begin, zone)
    moments = list(next_moments(name, when, moment.astimezone(zone), many))
    if as_json:
        print_json([{"utc": utc_text(each), "local": each.isoformat()} for each in moments])
        return
    rows = [(f"{each:%a %Y-%m-%d %H:%M:%S %z}", utc_text(each)) for each in moments]
    only = str(zone) == "UTC"
    show_table(
        ("UTC",) if only else (str(zone), "UTC"),
        [row[:1] for row in rows] if only else rows,
        empty=f"{words_of(when)}: no moment after {moment.isoformat(timespec='seconds')}",
    )


@schedules.command(cls=Command)
@click.argument("name")
@as_json
@click.pass_obj
def run(given: GivenOptions, name: str, as_json: bool) -> None:
    """Send the call of a schedule now.

    Prints the id of the task.  The next moment of the schedule stays.  One that code declares
    needs that code: -A.
    """
    app = app_if_any(given)
    if name not in declared_by(app):
        stored(app, name)
    result = app.schedules.run(name)
    if as_json:
        print_json({"id": result.id})
    else:
        say(f"✓ {result.id}")


@schedules.command(cls=Command)
@click.argument("names", nargs=-1, metavar="NAME…")
@all_of_them
@as_json
@click.pass_obj
def pause(given: GivenOptions, names: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Pause schedules until they are resumed.

    What falls into the pause is not missed.
    """
    app = app_if_any(given)
    chosen = chosen_of(app, names, everything=everything)
    change(app, app.schedules.pause, chosen, ("paused", "is paused"), as_json=as_json)


@schedules.command(cls=Command)
@click.argument("names", nargs=-1, metavar="NAME…")
@all_of_them
@as_json
@click.pass_obj
def resume(given: GivenOptions, names: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Let paused schedules run again."""
    app = app_if_any(given)
    chosen = chosen_of(app, names, everything=everything)
    change(app, app.schedules.resume, chosen, ("resumed", "runs again"), as_json=as_json)


@schedules.command(cls=Arguments, context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("task")
@click.argument("arguments", nargs=-1, metavar="[ARGUMENT | NAME=VALUE]…")
@click.option("--cron", metavar="TEXT", help='Cron text: "30 2 * * *", or @daily.')
@click.option("--every", metavar="INTERVAL", help="An interval: 30s, 1h30m.")
@click.option("--at", metavar="MOMENT", help="Once: 2027-01-31T08:00.")
@click.option("--tz", metavar="ZONE", help="The zone of local times: Europe/Berlin.")
@click.option("--jitter", metavar="DURATION", help="Send each run up to so much later: 20s.")
@click.option(
    "--overlap",
    metavar="RULE",
    help="While the last run has not ended: allow, skip, or replace it.",
)
@click.option("--catch-up", metavar="RULE", help="Of those that were missed, run: one, none, all.")
@click.option("--deadline", metavar="DURATION", help="What is later than this is missed: 10m.")
@click.option("--queue", metavar="QUEUE", help="The queue that takes it.")
@as_json
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
    as_json: bool,
    **rules: str | None,
) -> None:
    """Add a schedule that needs no code.

    It replaces one of that name, unless code declares that.  Arguments are JSON, else text.

    \b
    streamq schedules add ping shop.ping --every 30s
    streamq schedules add clean shop.clean 7 --cron "30 2 * * *" --tz Europe/Rome
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
    about = described(stored(app, name), app.schedules.store.firing(), clock.time())
    if as_json:
        print_json(about)
        return
    say(f"✓ {name}: {words_of(schedule.when)}, {task}")
    if about["state"] == "ended":
        say("  that is over: it will not run")
    elif about["state"] == "no worker":
        say("  no worker is up that could fire it")


@schedules.command(cls=Command)
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@as_json
@click.pass_obj
def rm(given: GivenOptions, names: tuple[str, ...], as_json: bool) -> None:
    """Remove schedules.

    One that code declares is put back by its workers: pause keeps it quiet.
    """
    app = app_if_any(given)
    firing = app.schedules.store.firing()
    found = [stored(app, name) for name in chosen_of(app, names, everything=False)]
    names = tuple(each.name for each in found)
    change(app, app.schedules.remove, names, ("removed", "is removed"), as_json=as_json)
    for each in found:
        declared = each.fields.get("source") == "code" and each.fields.get("revision") in firing
        if declared and not as_json:
            say(f"  workers declare {each.name}, and put it back: streamq schedules pause instead")


def change(
    app: App,
    act: Callable[[str], bool],
    names: Sequence[str],
    words: tuple[str, str],
    *,
    as_json: bool,
) -> None:
    """Change schedules one by one; say so, by a word for programs, or one for people."""
    done = {}
    for name in names:
        if not act(name):
            raise unknown(app, name)
        done[name] = words[0]
        if not as_json:
            say(f"{name} {words[1]}")
    if as_json:
        print_json(done)


def chosen_of(app: App, names: Sequence[str], *, everything: bool) -> Sequence[str]:
    """The schedules that a command is about.  Raises UsageError, and UnknownName."""
    if everything == bool(names):
        raise click.UsageError("name schedules, or --all")
    if everything:
        return sorted(each.name for each in app.schedules.stored() if each.wrong is None)
    there = {each.name for each in app.schedules.stored(names)}
    for name in names:
        if name not in there:
            raise unknown(app, name)
    return names


def stored(app: App, name: str) -> StoredSchedule:
    """A schedule as Redis holds it.  Raises UnknownName."""
    for found in app.schedules.stored([name]):
        return found
    raise unknown(app, name)


def unknown(app: App, name: str) -> UnknownName:
    """The error for a schedule that is not there; suggests the nearest one, or by its last part."""
    declared = [each.name for each in app.schedules]
    if name in declared:
        return UnknownName(
            f"no worker has declared schedule {name!r} yet",
            advice=["start one: streamq worker", "streamq schedules preview needs none"],
        )
    known = [*app.schedules.store.names(), *declared]
    same = [each for each in known if each.rpartition(".")[2] == name]
    return unknown_name("schedule", name, known, near=same[0] if same else None)


def declared_by(app: App) -> dict[str, Schedule]:
    """The schedules that the app's code declares, by name."""
    app.import_tasks()
    return {each.name: each for each in app.schedules}


def moments_of(cron: str | None, every: str | None, at: str | None, tz: str | None) -> When:
    """The moments that options name."""
    if cron is not None:
        return Cron(cron)
    return Every(every) if every is not None else At(at or "", tz)


def moments_named(app: App, name: str) -> tuple[When, tzinfo]:
    """The moments of a schedule, and its zone.  Raises UnknownName."""
    found = declared_by(app).get(name)
    if found is not None:
        return found.when, found.zone(app.conf.timezone)
    kept = stored(app, name)
    if kept.wrong is not None:
        raise kept.wrong
    if kept.when is None:
        text = kept.fields.get("when", "")
        if kept.fields.get("source") == "api":
            raise ConfigError(
                f"schedule {name}: {text!r} in Redis does not say when",
                advice=["streamq schedules add replaces it"],
            )
        raise ConfigError(
            f"only the code knows the moments of {name}: {text}",
            advice=[f"streamq -A MODULE schedules preview {name}"],
        )
    return kept.when, zone_in(kept)


def next_moments(name: str, when: When, moment: datetime, many: int) -> Iterator[datetime]:
    """Yield the next moments, as many as that.  Raises ConfigError for a wrong one."""
    zone = moment.tzinfo
    for _ in range(many):
        found = when.next_after(moment)
        if found is None:
            return
        checked_moment(found, millis(moment), name)
        moment = found.astimezone(zone)
        yield moment


def moment_given(text: str, zone: tzinfo) -> datetime:
    """A moment that a user names.  Raises ConfigError."""
    try:
        moment = aware(datetime.fromisoformat(text), zone)
    except ValueError:
        raise ConfigError(
            f"--from {text!r} is no moment",
            advice=["2027-03-28T00:00, or with an offset: 2027-03-28T00:00+01:00"],
        ) from None
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise ConfigError(f"--from is in the years {FIRST_YEAR} to {LAST_YEAR}, not {text!r}")
    return moment
