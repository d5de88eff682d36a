"""``streamq revoke``: keep tasks from running."""

import click

from streamq.cli.base import Command, Given
from streamq.cli.common import app_if_any, as_json, print_json
from streamq.units import visible


@click.command(cls=Command)
@click.argument("ids", nargs=-1, required=True, metavar="ID…")
@click.option("--terminate", is_flag=True, help="Also stop them if they run.")
@click.option("--signal", default="SIGTERM", show_default=True, help="How they are stopped.")
@as_json
@click.pass_obj
def revoke(
    given: Given, /, ids: tuple[str, ...], terminate: bool, signal: str, as_json: bool
) -> None:
    """See to it that tasks do not start any more, on any worker.

    Those that run go on, unless --terminate stops them; they are not tried again.
    """
    app = app_if_any(given)
    states = {}
    for id in ids:
        result = app.result(id)
        result.revoke(terminate=terminate, signal=signal)
        states[id] = result.state
    if as_json:
        print_json(states)
        return
    for id, state in states.items():
        click.echo(visible(f"{id}  {state}{MEANINGS.get(state, '')}"))


#: What the state of a task means for somebody who wanted it revoked.
MEANINGS = {
    "UNKNOWN": ": not known here; should its message be met, it is not run",
    "STARTED": ": it runs, and is not tried again",
    "SUCCESS": ": it had ended",
    "FAILURE": ": it had ended",
}
