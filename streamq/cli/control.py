"""``streamq control``: Celery's commands to workers; ``revoke`` and ``terminate`` act in Redis."""

import click

from streamq.admin.remote import CONTROL
from streamq.cli.command import Command, GivenOptions, unknown
from streamq.cli.remote_options import remote_options
from streamq.cli.shared import app_if_any, print_json, say, usage_errors, warn
from streamq.core.termination import signal_name


@click.command(cls=Command)
@click.argument("method")
@click.argument("words", nargs=-1, metavar="[SIGNAL] [ID]…")
@remote_options
@click.pass_context
def control(
    ctx: click.Context,
    /,
    method: str,
    words: tuple[str, ...],
    destination: tuple[str, ...],
    timeout: float | None,
    as_json: bool,
) -> None:
    """Revoke tasks, with Celery's words; see also: streamq revoke.

    \b
    streamq control revoke ID…             keeps tasks from running
    streamq control terminate SIGNAL ID…   also stops them if they run
    """
    if method in CONTROL:
        raise click.UsageError(f"not in this version: control {method}\n  → {CONTROL[method]}")
    if method not in ("revoke", "terminate"):
        raise unknown("method of control", method, ["revoke", "terminate", *CONTROL], ctx)
    signal, ids = (words[:1], words[1:]) if method == "terminate" else ((), words)
    if not ids:
        what = "SIGNAL ID…" if method == "terminate" else "ID…"
        raise click.UsageError(f"streamq control {method} {what}: which tasks?")
    if destination:
        warn("-d is not needed: a revocation holds for every worker")
    revoke(ctx.obj, ids, "".join(signal), as_json=as_json)


def revoke(given: GivenOptions, ids: tuple[str, ...], signal: str, *, as_json: bool) -> None:
    """Revoke tasks; with a signal, also stop those that run."""
    with usage_errors():
        name = signal_name(signal or "SIGTERM")
    app, states = app_if_any(given), {}
    for id in ids:
        result = app.result(id)
        result.revoke(terminate=bool(signal), signal=name)
        states[id] = result.state
    if as_json:
        print_json(states)
        return
    for id, state in states.items():
        say(f"{id}  {state}")
