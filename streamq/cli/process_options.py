"""Options of commands that start a process of long life: its log, its name, its account."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def level_of(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """The callback of the log level: FATAL, which Celery takes too, is critical."""
    return "critical" if value is not None and value.strip().lower() == "fatal" else value


OPTIONS = (
    click.option(
        *("-l", "--loglevel", "--log-level", "log_level"),
        metavar="LEVEL",
        callback=level_of,
        help="debug … critical.",
    ),
    click.option(
        *("-n", "--hostname", "--name", "worker_name"),
        metavar="NAME",
        help="The worker's name; %h is the host's.",
    ),
    click.option("--log-format", metavar="FORMAT", help="text or json."),
    click.option("-b", "--broker", "url", metavar="URL", help="Where Redis is."),
    click.option(
        "-f", "--logfile", metavar="FILE", help="Write the log, and what tasks print, into a file."
    ),
    click.option("--pidfile", metavar="FILE", help="Write the pid there while the worker runs."),
    click.option("--uid", metavar="USER", help="The user to become, if root starts the worker."),
    click.option("--gid", metavar="GROUP", help="The group to become, if root starts the worker."),
)


def process_options(function: F) -> F:
    """Give a command these options."""
    for option in reversed(OPTIONS):
        function = option(function)
    return function
