"""What commands share: finding the app, answering programs, asking before destroying."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import click

from streamq.admin.inspector import Inspector
from streamq.app import App
from streamq.cli.command import Given
from streamq.config.config import Config
from streamq.core.text import nearest, visible
from streamq.core.units import seconds
from streamq.discovery import Found, NoApp, find_app
from streamq.errors import ConfigError, StreamqError
from streamq.serialization.strict_json import once_each

as_json = click.option("--json", "as_json", is_flag=True, help="For programs.")
#: What a command of its own lists: ``streamq queues ls``.
LISTED = frozenset({"queue", "exchange", "worker"})
#: Digits of what can be a number of milliseconds.
LONGEST_NUMBER = 15

#: What ``-n`` takes: more is a mistake, and would leave what Redis can count.
most = click.IntRange(1, 1_000_000)

yes = click.option("--yes", "-y", is_flag=True, help="Do not ask.")


@contextmanager
def typed() -> Iterator[None]:
    """Let a value that was typed be a mistake in the command line, and not in the configuration."""
    try:
        yield
    except ConfigError as error:
        raise click.UsageError(str(error), click.get_current_context(silent=True)) from error


def duration(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """The callback of an option that is a duration, in seconds."""
    with typed():
        return None if value is None else seconds(value, param.opts[0])


timeout = click.option("--timeout", metavar="SECONDS", callback=duration,
                       help="How long to wait: 5, 90s, 2h.")  # fmt: skip


def task_id(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """The callback of an argument that is the id of a task, or several."""
    for id in value if isinstance(value, tuple) else (value,):
        if not id.strip():
            raise click.UsageError("the id of a task is not empty", ctx)
    return value


class NotThere(StreamqError, LookupError):
    """What a command is about does not exist."""


def required_app(given: Given) -> Found:
    """The app of a command that runs its code.  Raises ConfigError if there is none."""
    return find_app(*spec_of(given))


def app_if_any(given: Given) -> App:
    """The app of a command that needs no code: without any, one made from configuration."""
    spec, how = spec_of(given)
    if spec:
        return find_app(spec, how).app
    try:
        return find_app(None).app
    except NoApp:
        return App()
    except ConfigError as error:
        return without_code(error)


def without_code(error: ConfigError) -> App:
    """An app for a folder whose module is broken.

    Raises the error where nothing else says which Redis to use: the module may name one, and
    the bundled server would be the wrong one.
    """
    app = App()
    if app.conf.url is None:
        error.add_note("  → or say where Redis is, to go on without it: export STREAMQ_URL=…")
        raise error
    warn(f"{error}\n  going on without the app in this folder")
    return app


def spec_of(given: Given) -> tuple[str | None, str]:
    """Where the app is said to be, and who says so."""
    if given.app:
        return given.app, "-A"
    conf = Config.load()
    return conf.app, conf.origin("app")


def inspector_of(app: App) -> Inspector:
    """For commands that look into Redis; at their end they say what could not be seen."""
    inspector = Inspector(app.store.client, app.store.keys)
    click.get_current_context().call_on_close(lambda: say_what_is_hidden(inspector))
    return inspector


def say_what_is_hidden(inspector: Inspector) -> None:
    """Say what is missing from an answer: the user may not read it, or it is not ours."""
    if inspector.hidden:
        what = " and ".join(sorted(inspector.hidden))
        warn(f"the Redis user of the URL may not read {what}: tasks and ids are not shown")
    for foreign in inspector.foreign.values():
        warn(str(foreign))


def not_there(what: str, name: str, known: Iterable[str]) -> NotThere:
    """An error about a name that is not in Redis, with the one that may have been meant."""
    near = nearest(name, known)
    advice = [f"did you mean {near!r}?"] if near else []
    lists = [f"streamq {noun}s ls" for noun in what.split(" or ") if noun in LISTED]
    return NotThere(f"there is no {what} {name!r}", advice=advice + lists)


def say(text: object, *, lines: bool = False, err: bool = False) -> None:
    """Print a line; or several, with ``lines``.

    Whatever stands in it: a name out of Redis does nothing to a terminal, and makes no line of
    its own.
    """
    click.echo(visible(text, kept="\t\n" if lines else "\t"), err=err)


def warn(text: str) -> None:
    say(f"streamq: {text}", lines=True, err=True)


def print_json(value: Any) -> None:
    """One document; what JSON does not know is written as text."""
    click.echo(document(value))


def document(value: Any) -> str:
    """A value as JSON that may also be looked at: what would not be seen is escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=2, default=str)
    if visible(text) == text:
        return text
    return json.dumps(value, ensure_ascii=True, indent=2, default=str)


def inline(value: Any) -> str:
    """A value on one line, as JSON; what JSON does not know is written as text."""
    return visible(json.dumps(value, ensure_ascii=False, default=str))


def value_of(text: str) -> Any:
    """An argument as it was typed: JSON, else text.

    What only looks like JSON is text as a whole: NaN, or a name that stands twice in one object.
    """
    try:
        return json.loads(text, parse_constant=no_value, object_pairs_hook=once_each)
    except (ValueError, RecursionError):
        return text


def no_value(name: str) -> Any:
    raise ValueError(f"JSON has no {name}")


def pairs_of(words: Iterable[str], option: str) -> dict[str, Any]:
    """What ``NAME=VALUE`` words say."""
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (name and equals):
            raise click.UsageError(f"{option} is NAME=VALUE, not {word!r}")
        found[name] = value_of(value)
    return found


def confirm(what: str, *, yes: bool) -> None:
    """Ask before something is destroyed; ``what`` says how much.

    Where nobody can answer, and nobody said yes, that is a mistake in the command line.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{visible(what, kept='')}; nobody is here to ask: say --yes")
    click.confirm(f"{visible(what, kept='')}. Go on?", abort=True, err=True)


def moment(seconds: float | None) -> str:
    """A time since the epoch, as clocks here show it."""
    if seconds is None:
        return "–"
    try:
        return datetime.fromtimestamp(seconds).isoformat(" ", "milliseconds")
    except (OverflowError, ValueError, OSError):  # what somebody else wrote into Redis
        return f"{seconds:g} s"


def number(text: Any, divided: int = 1) -> float | int | None:
    """A number out of Redis that may not be there, or not be one; milliseconds become seconds."""
    text = str(text or "")
    if not (text.isascii() and text.isdecimal() and len(text) <= LONGEST_NUMBER):
        return None
    return int(text) if divided == 1 else int(text) / divided


def story(history: Iterable[Mapping[str, Any]]) -> list[str]:
    """The deaths of a message that was put back, a line for each."""
    return [
        f"{moment(death['at'])}  {death.get('reason')}: {death.get('error')}"
        + (f"  ({worker})" if (worker := death.get("worker")) else "")
        for death in history
    ]


def span(seconds: float | None) -> str:
    """A duration that a person reads at a glance."""
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
