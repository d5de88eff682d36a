"""The commands of streamq inside of the command line of another program: ``flask streamq``."""

from collections.abc import Callable

import click

from streamq.cli.command import GivenOptions
from streamq.cli.main import main
from streamq.discovery import Found, remember


class EmbeddedCommand(click.Command):
    """All commands of streamq as one command of another program, which has an app.

    ``find`` returns that app for the context of the other program.
    """

    def __init__(self, name: str, find: Callable[[click.Context], Found]) -> None:
        super().__init__(name, short_help="Run tasks; send and look after them.")
        self.find = find

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Leave all arguments to the commands of streamq."""
        ctx.args = list(args)
        return ctx.args

    def invoke(self, ctx: click.Context) -> None:
        """Run the command line of streamq with the app of the other program, and exit."""
        found = self.find(ctx)
        remember(found)
        given = GivenOptions(app=found.spec, program=ctx.command_path)
        ctx.exit(main.run(list(ctx.args), given))
