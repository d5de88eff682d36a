"""``streamq revoke``: keeps tasks from running, or stops them."""

import click

from streamq.cli.command import Command, GivenOptions
from streamq.cli.shared import app_if_any, as_json, print_json, say, task_id, usage_errors
from streamq.core.termination import signal_name


@click.command(cls=Command)
@click.argument("ids", nargs=-1, required=True, metavar="ID…", callback=task_id)
@click.option("--terminate", is_flag=True, help="Also stop them if they run.")
@click.option("--signal", help="With --terminate: how they are stopped; else by SIGTERM.")
@as_json
@click.pass_obj
def revoke(
    given: GivenOptions, /, ids: tuple[str, ...], terminate: bool, signal: str | None, as_json: bool
) -> None:
    """Keep tasks from starting, on any worker.

    Tasks that run go on, unless --terminate stops them; they are not tried again.
    """
    if signal is not None and not terminate:
        raise click.UsageError("--signal says how --terminate stops a task: give both")
    with usage_errors():
        signal = signal_name("SIGTERM" if signal is None else signal)
    app = app_if_any(given)
    states, stopped = {}, set()
    for id in ids:
        result = app.result(id)
        if terminate and result.state == "STARTED":  # soon afterwards it may be REVOKED already
            stopped.add(id)
        result.revoke(terminate=terminate, signal=signal)
        states[id] = result.state
    if as_json:
        print_json(states)
        return
    for id, state in states.items():
        if id in stopped and state in ("STARTED", "REVOKED"):
            say(f"{id}  STARTED: it is being stopped")
        else:
            say(f"{id}  {state}{MEANINGS.get(state, '')}")


#: State of a task → what it means after a revocation.
MEANINGS = {
    "UNKNOWN": ": not known here; should its message be met, it is not run",
    "STARTED": ": it runs, and is not tried again",
    "SUCCESS": ": it had ended",
    "FAILURE": ": it had ended",
}
