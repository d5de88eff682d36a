"""``streamq inspect``: asks workers as Celery does; ``ping`` is answered from their leases."""

import click

from streamq.admin.remote import INSPECT
from streamq.cli.command import Command, unknown
from streamq.cli.remote_options import remote_options
from streamq.cli.shared import say
from streamq.cli.status import pinged, reply_text, say_online


@click.command(cls=Command)
@click.argument("method")
@click.argument("words", nargs=-1, metavar="")
@remote_options
@click.pass_context
def inspect(
    ctx: click.Context,
    /,
    method: str,
    words: tuple[str, ...],
    destination: tuple[str, ...],
    timeout: float | None,
    as_json: bool,
) -> None:
    """Ask the workers.  METHOD is ping: which of them are up?  Exits with 69 if none is.

    Redis answers, at once: a worker is up that has renewed its lease in time.
    """
    if method in INSPECT:
        raise click.UsageError(f"not in this version: inspect {method}\n  → {INSPECT[method]}")
    if method != "ping":
        raise unknown("method of inspect", method, ["ping", *INSPECT], ctx)
    replies = pinged(ctx, destination, timeout, as_json=as_json)
    if not as_json:
        for node, reply in replies.items():
            say(f"->  {node}: OK\n        {reply_text(reply)}", lines=True)
        say_online(replies)
