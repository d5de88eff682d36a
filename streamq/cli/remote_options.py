"""Options of the commands that Celery sends to workers: status, inspect, control."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from streamq.cli.shared import broker, duration

F = TypeVar("F", bound=Callable[..., Any])


def names_of(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...]:
    """The callback of ``-d``: names with commas between them."""
    return tuple(name for name in map(str.strip, (value or "").split(",")) if name)


def remote_options(function: F) -> F:
    """Give a command ``-d``, ``-t``, ``--json`` and ``-b``."""
    for option in (
        click.option("--json", "-j", "as_json", is_flag=True, help="For programs."),
        click.option(
            "--timeout", "-t", metavar="SECONDS", callback=duration,
            help="How long to wait for Redis: 5, 90s.",
        ),
        click.option(
            "--destination", "-d", metavar="WORKERS", callback=names_of,
            help="The workers that are meant, with commas; else all.",
        ),
        broker,
    ):  # fmt: skip
        function = option(function)
    return function
