"""``streamq config``: shows every setting, and where its value comes from."""

from decimal import Decimal
from typing import Any

import click

from streamq.cli.command import Command, GivenOptions, Group
from streamq.cli.shared import app_if_any, as_json, print_json
from streamq.cli.tables import show_table
from streamq.core.units import DURATIONS


@click.group(cls=Group)
def config() -> None:
    """Show every setting, and where its value comes from."""


@config.command(cls=Command)
@as_json
@click.option("--origin/--no-origin", default=True, help="Say where each value comes from.")
@click.pass_obj
def show(given: GivenOptions, as_json: bool, origin: bool) -> None:
    """Show every setting; passwords are masked."""
    settings = app_if_any(given).conf.shown()
    if as_json:
        parts = ("name", "value", "origin") if origin else ("name", "value")
        print_json([{part: plain(getattr(one, part)) for part in parts} for one in settings])
        return
    columns = ("setting", "value", "from") if origin else ("setting", "value")
    rows = [(one.name, str(readable(one.value)), one.origin)[: len(columns)] for one in settings]
    show_table(columns, rows, empty="")


def plain(value: Any) -> Any:
    """A value that JSON can hold; other types become text."""
    return value if isinstance(value, str | int | float | tuple | None) else repr(value)


def readable(value: Any) -> Any:
    """A value as it is written in a configuration; floats are durations in seconds."""
    match value:
        case None | ():
            return "none"
        case bool():
            return str(value).lower()
        case tuple():
            return ", ".join(map(str, value))
        case float():
            return duration(value)
        case _:
            return value


def duration(seconds: float) -> str:
    """A duration as a whole number of the largest unit that fits: 1d, 90s, 250ms."""
    exact = Decimal(str(seconds))
    for unit, each in DURATIONS.items():
        if exact >= each and exact % each == 0:
            return f"{exact // each}{unit}"
    return f"{exact.normalize():f}s"
