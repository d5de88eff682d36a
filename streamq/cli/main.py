"""The command ``streamq``: a name for each part, loaded when it is used.

Nothing here imports the app or Redis, so that ``streamq --help`` answers at once, and so
that a gevent worker can patch the standard library before anything else is imported.
"""

import importlib
from collections.abc import Mapping
from typing import Any

import click

from streamq.cli.command import Root

#: Every command: its name, which is that of its module too, and what ``--help`` says of it.
COMMANDS: Mapping[str, str] = {
    "worker": "Run tasks.",
    "enqueue": "Send a task.",
    "result": "What became of a task.",
    "revoke": "Keep tasks from running, or stop them.",
    "queues": "What waits, what runs; look into queues, empty and delete them.",
    "exchanges": "Where messages go: exchanges and their bindings.",
    "workers": "Which workers are up, and what each is running.",
    "dead": "Messages that could not be run: look, retry, delete, move.",
    "doctor": "Check the Redis of the app, and say what to do.",
    "acl": "The rights of producers, workers and monitors, for redis-cli.",
    "config": "Every setting, and where its value comes from.",
    "server": "The bundled server of this project (development only).",
    "redis": "Run any Redis command, readably.",
}


class LazyCommands(Root):
    """Knows its commands by name, and imports the one that is asked for."""

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


@click.command(cls=LazyCommands)
def main(**_: Any) -> None:
    """A task queue for Python, native to Redis Streams."""
