"""``streamq revoke``: keep tasks from running."""

import click

from streamq.cli.command import Command, Given
from streamq.cli.shared import app_if_any, as_json, print_json, say, task_id, typed
from streamq.core.termination import signal_name


@click.command(cls=Command)
@click.argument("ids", nargs=-1, required=True, metavar="ID…", callback=task_id)
@click.option("--terminate", is_flag=True, help="Also stop them if they run.")
@click.option("--signal", help="With --terminate: how they are stopped; else by SIGTERM.")
@as_json
@click.pass_obj
def revoke(
    given: Given, /, ids: tuple[str, ...], terminate: bool, signal: str | None, as_json: bool
) -> None:
    """See to it that tasks do not start any more, on any worker.

    Those that run go on, unless --terminate stops them; they are not tried again.
    """
    if signal is not None and not terminate:
        raise click.UsageError("--signal says how --terminate stops a task: say that too")
    with typed():
        signal = signal_name("SIGTERM" if signal is None else signal)
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
        say(f"{id}  {state}{MEANINGS.get(state, '')}")


#: What the state of a task means for somebody who wanted it revoked.
MEANINGS = {
    "UNKNOWN": ": not known here; should its message be met, it is not run",
    "STARTED": ": it runs, and is not tried again",
    "SUCCESS": ": it had ended",
    "FAILURE": ": it had ended",
}
