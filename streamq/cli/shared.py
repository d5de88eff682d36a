"""Functions that commands share: finding the app, options, printing, and confirmation."""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import click

from streamq.admin.inspector import Inspector
from streamq.app import App
from streamq.cli.command import GivenOptions
from streamq.config.config import Config, flag_of
from streamq.core.text import nearest, visible
from streamq.core.units import seconds
from streamq.discovery import Found, NoApp, find_app
from streamq.errors import ConfigError, StreamqError
from streamq.serialization.strict_json import once_each

as_json = click.option("--json", "as_json", is_flag=True, help="For programs.")
#: Nouns with a command that lists them, such as ``streamq queues ls``.
LISTED = frozenset({"queue", "exchange", "worker", "schedule"})
#: Digits of the largest number of milliseconds that is shown as a time.
LONGEST_NUMBER = 15

#: The type of ``-n``: a larger number is a mistake, and more than Redis can count.
COUNT = click.IntRange(1, 1_000_000)

yes = click.option("--yes", "-y", is_flag=True, help="Do not ask.")


@contextmanager
def usage_errors() -> Iterator[None]:
    """Turn a ConfigError inside the block into a UsageError: the command line has the mistake."""
    try:
        yield
    except ConfigError as error:
        raise click.UsageError(str(error), click.get_current_context(silent=True)) from error


def duration(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """The callback of an option that is a duration.  Returns seconds."""
    with usage_errors():
        return None if value is None else seconds(value, param.opts[0])


broker = click.option(
    "-b", "--broker", metavar="URL", expose_value=False, help="Where Redis is.",
    callback=lambda ctx, param, value: take_broker(ctx, value),
)  # fmt: skip


def take_broker(ctx: click.Context, value: str | None) -> None:
    """Note the value of ``-b``, if it was given."""
    if value is not None:
        ctx.ensure_object(GivenOptions).broker = value


timeout = click.option("--timeout", metavar="SECONDS", callback=duration,
                       help="How long to wait: 5, 90s, 2h.")  # fmt: skip


def task_id(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """The callback of an argument that is the id of a task, or several.  Raises UsageError."""
    for id in value if isinstance(value, tuple) else (value,):
        if not id.strip():
            raise click.UsageError("the id of a task is not empty", ctx)
    return value


class UnknownName(StreamqError, LookupError):
    """A name on the command line does not exist in Redis."""


def required_app(given: GivenOptions) -> Found:
    """The app, for a command that needs its code.  Raises ConfigError if there is none."""
    return find_app(*spec_of(given))


def app_if_any(given: GivenOptions) -> App:
    """The app, for a command that needs no code; without one, an app from the configuration.

    It uses the Redis of ``-b``, for a command that has that option.
    """
    app = any_app(given)
    if given.broker is not None:
        with usage_errors():
            app.conf.with_flags(url=given.broker)
        check_broker(app)
    return app


def any_app(given: GivenOptions) -> App:
    """The app of the code, or else one from the configuration."""
    spec, how = spec_of(given)
    if spec:
        return find_app(spec, how).app
    try:
        return find_app(None).app
    except NoApp:
        return App()
    except ConfigError as error:
        return without_code(error, given)


def check_broker(app: App) -> None:
    """Raise UsageError if the app, which was given a URL by -b, names one that overrides it."""
    if app.conf.origin("url") != flag_of("url"):
        raise click.UsageError(
            "-b is in vain: the app names its Redis itself, by App(url=…)\n"
            "  → leave the url out there, and give it by -b, STREAMQ_URL or streamq.toml"
        )


def without_code(error: ConfigError, given: GivenOptions) -> App:
    """An app from the configuration, for a folder whose module cannot be imported.

    Raises the error again if the configuration has no URL: the module may name one, and the
    bundled server would be the wrong one.
    """
    app = App()
    if app.conf.url is None and given.broker is None:
        error.add_note("  → or say where Redis is, to go on without it: export STREAMQ_URL=…")
        raise error
    warn(f"{error}\n  going on without the app in this folder")
    return app


def spec_of(given: GivenOptions) -> tuple[str | None, str]:
    """The spec of the app, and where it comes from: ``-A`` or a setting's origin."""
    if given.app:
        return given.app, "-A"
    conf = Config.load()
    if conf.app is None and given.default_app is not None:
        return given.default_app, given.program
    return conf.app, conf.origin("app")


def inspector_of(app: App) -> Inspector:
    """The inspector of an app; the command warns at its end of data that it could not read."""
    inspector = Inspector(app.broker.client, app.broker.keys)
    click.get_current_context().call_on_close(lambda: warn_of_gaps(inspector))
    return inspector


def warn_of_gaps(inspector: Inspector) -> None:
    """Warn of data that an answer lacks: the user may not read it, or it is not streamq's."""
    if inspector.hidden:
        what = " and ".join(sorted(inspector.hidden))
        warn(f"the Redis user of the URL may not read {what}: tasks and ids are not shown")
    for foreign in inspector.foreign.values():
        warn(str(foreign))


def unknown_name(
    what: str, name: str, known: Iterable[str], near: str | None = None
) -> UnknownName:
    """The error for a name that is not in Redis; suggests ``near``, or else the nearest one."""
    near = near or nearest(name, known)
    advice = [f"did you mean {near!r}?"] if near else []
    lists = [f"streamq {noun}s ls" for noun in what.split(" or ") if noun in LISTED]
    return UnknownName(f"there is no {what} {name!r}", advice=advice + lists)


def say(text: object, *, lines: bool = False, err: bool = False) -> None:
    """Print a line, or several with ``lines``.

    Control characters are escaped: a name from Redis does nothing to the terminal, and does not
    start a new line.
    """
    click.echo(visible(text, kept="\t\n" if lines else "\t"), err=err)


def print_path(path: os.PathLike[str]) -> None:
    """Print a path on a line: as it is for a program that opens it, of whatever bytes it is."""
    if sys.stdout.isatty():
        say(path)
    else:
        click.echo(os.fsencode(path))


def warn(text: str) -> None:
    """Print a warning to standard error."""
    say(f"streamq: {text}", lines=True, err=True)


def print_json(value: Any) -> None:
    """Print a value as one JSON document."""
    click.echo(document(value))


def document(value: Any) -> str:
    """A value as indented JSON; characters that a terminal does not show are escaped.

    Values of other types become text.
    """
    text = json.dumps(value, ensure_ascii=False, indent=2, default=str)
    if visible(text) == text:
        return text
    return json.dumps(value, ensure_ascii=True, indent=2, default=str)


def inline(value: Any) -> str:
    """A value as JSON on one line; values of other types become text."""
    return visible(json.dumps(value, ensure_ascii=False, default=str))


def value_of(text: str) -> Any:
    """Parse an argument of the command line: JSON, else text.

    NaN, and objects with a repeated name, are text.
    """
    try:
        return json.loads(text, parse_constant=no_value, object_pairs_hook=once_each)
    except (ValueError, RecursionError):
        return text


def no_value(name: str) -> Any:
    raise ValueError(f"JSON has no {name}")


def pairs_of(words: Iterable[str], option: str) -> dict[str, Any]:
    """Parse ``NAME=VALUE`` words.  Raises UsageError if one is none."""
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (name and equals):
            raise click.UsageError(f"{option} is NAME=VALUE, not {word!r}")
        found[name] = value_of(value)
    return found


def confirm(what: str, *, yes: bool) -> None:
    """Ask before something is destroyed; ``what`` says how much.

    Raises UsageError if standard input is no terminal and ``--yes`` was not given, and Abort if
    the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(
            f"{visible(what, kept='')}; standard input is no terminal: use --yes"
        )
    click.confirm(f"{visible(what, kept='')}. Go on?", abort=True, err=True)


def format_time(seconds: float | None) -> str:
    """A time since the epoch as local date and time; ``–`` for None."""
    if seconds is None:
        return "–"
    try:
        return datetime.fromtimestamp(seconds).isoformat(" ", "milliseconds")
    except (OverflowError, ValueError, OSError):  # another program wrote it into Redis
        return f"{seconds:g} s"


def number(text: Any, divided: int = 1) -> float | int | None:
    """A number from Redis, divided by ``divided``; None if it is missing or no number."""
    text = str(text or "")
    if not (text.isascii() and text.isdecimal() and len(text) <= LONGEST_NUMBER):
        return None
    return int(text) if divided == 1 else int(text) / divided


def history_lines(history: Iterable[Mapping[str, Any]]) -> list[str]:
    """The earlier deaths of a message that was retried, one line each."""
    return [
        f"{format_time(death['at'])}  {death.get('reason')}: {death.get('error')}"
        + (f"  ({worker})" if (worker := death.get("worker")) else "")
        for death in history
    ]


def format_duration(seconds: float | None) -> str:
    """A duration in the largest units that fit; ``–`` for None."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{max(seconds, 0) * 1000:.3g} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} m" if hours else f"{minutes} m {rest} s"
