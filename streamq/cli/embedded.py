"""The commands of streamq inside of the command line of another program: ``flask streamq``."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from streamq.cli.command import GivenOptions, explained
from streamq.cli.main import main
from streamq.discovery import Found, remember
from streamq.errors import ConfigError


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


@contextmanager
def shown_by(program: type) -> Iterator[None]:
    """Turn a ConfigError inside the block into an error that another program shows by itself.

    ``program`` is the kind of object in its contexts; outside of it the error stays as it is.
    """
    try:
        yield
    except ConfigError as error:
        context = click.get_current_context(silent=True)
        if context is None or context.find_object(program) is None:
            raise
        raise click.ClickException(explained(error)) from error
