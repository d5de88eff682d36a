"""The command ``streamq``: imports the module of a command when that is used.

Nothing here imports the app or Redis, so that ``streamq --help`` answers at once, and so
that a gevent worker can patch the standard library before anything else is imported.
"""

import importlib
from collections.abc import Mapping
from typing import Any

import click

from streamq.cli.command import Root
from streamq.cli.instead import AT_THE_ROOT, LATER

#: Command, which is also the name of its module → its line in ``--help``.
COMMANDS: Mapping[str, str] = {
    "worker": "Run tasks.",
    "beat": "Fire schedules, and run no task.",
    "enqueue": "Send a task.",
    "result": "Show the state and the outcome of a task.",
    "revoke": "Keep tasks from running, or stop them.",
    "queues": "List queues; look into them, purge, repair and delete them.",
    "exchanges": "Show and change exchanges and their bindings.",
    "workers": "List workers, and the tasks that they run.",
    "status": "Say which workers are up.",
    "inspect": "Ask the workers, with Celery's words: ping.",
    "control": "Revoke tasks, with Celery's words.",
    "celery": "Run a command line of Celery's.",
    "schedules": "List schedules; preview, run, pause, add and remove them.",
    "dead": "List, retry, delete and move dead letters.",
    "doctor": "Check the Redis of the app, and say what to do.",
    "migrate": "Move a project from Celery to streamq.",
    "acl": "Print the rights of producers, workers and monitors for redis-cli.",
    "config": "Show every setting, and where its value comes from.",
    "server": "The bundled server of this project (development only).",
    "redis": "Run any Redis command, and print the reply.",
}


class LazyCommands(Root):
    """A root group that knows its commands by name, and imports one when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(f"streamq.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=LazyCommands, later=LATER, instead=AT_THE_ROOT)
def main(**_: Any) -> None:
    """A task queue for Python, native to Redis Streams."""
