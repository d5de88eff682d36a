"""``streamq celery``: Celery's command line, for units and scripts that have one::

streamq celery -A proj -b redis://host/0 worker -l INFO -c 4
streamq celery -A proj inspect ping -d celery@web
"""

import importlib
import os
from collections.abc import Mapping
from typing import Any

import click

from streamq.cli.command import GivenOptions, Group
from streamq.cli.instead import LATER, OF_CELERY

#: Command → its line in ``--help``, and its module.
COMMANDS: Mapping[str, tuple[str, str]] = {
    "worker": ("Run tasks.", "worker"),
    "beat": ("Fire schedules, and run no task.", "beat"),
    "status": ("Say which workers are up.", "status"),
    "inspect": ("Ask the workers: ping.", "inspect"),
    "control": ("Revoke tasks.", "control"),
    "call": ("Send a task; print its id.", "celery_commands"),
    "result": ("Print the value of a task.", "celery_commands"),
    "purge": ("Remove what waits in the queues of the app.", "celery_commands"),
}


class CeleryCommands(Group):
    """Celery's commands, each imported when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"streamq.cli.{COMMANDS[cmd_name][1]}")
        command = getattr(module, cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (line, _) in COMMANDS.items()])


def change_folder(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    """The callback of ``--workdir``.  Raises UsageError."""
    if value is None:
        return
    if not os.path.isabs(value):  # a worker that reloads would go there again, from there
        raise click.UsageError(f"--workdir takes the whole path of a folder, not {value!r}")
    try:
        os.chdir(value)
    except OSError as error:
        raise click.UsageError(f"--workdir {value}: {error.strerror}") from None


def refuse(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    """The callback of ``--loader`` and ``--config``.  Raises UsageError if they are given."""
    if value is not None:
        raise click.UsageError(
            f"not in this version: {param.opts[-1]}\n"
            "  → app.config_from_object(…) in the module of the app"
        )


def say_unneeded(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """The callback of options that change nothing: say why."""
    reasons = {
        "result_backend": "--result-backend: not needed: results are in the same Redis",
        "no_color": "--no-color: not needed: set NO_COLOR=1; output to a file has no colours",
    }
    if value:
        from streamq.cli.shared import warn

        warn(reasons[param.name or ""])


@click.command(cls=CeleryCommands, later=LATER, instead=OF_CELERY)
@click.option("-b", "--broker", metavar="URL", help="Where Redis is.")
@click.option(
    "--workdir",
    metavar="FOLDER",
    is_eager=True,
    expose_value=False,
    callback=change_folder,
    help="The folder of the project.",
)
@click.option("--result-backend", hidden=True, expose_value=False, callback=say_unneeded)
@click.option(
    "-C", "--no-color", is_flag=True, hidden=True, expose_value=False, callback=say_unneeded
)
@click.option("-q", "--quiet", is_flag=True, hidden=True, expose_value=False)
@click.option("--loader", hidden=True, expose_value=False, callback=refuse)
@click.option("--config", hidden=True, expose_value=False, callback=refuse)
@click.pass_obj
def celery(given: GivenOptions, broker: str | None) -> None:
    """Run Celery's command lines.

    \b
    streamq celery -A proj worker -l INFO
    streamq celery -A proj inspect ping
    """  # fmt: skip
    given.broker = broker or given.broker
    given.celery = True
