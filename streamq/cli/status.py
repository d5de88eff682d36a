"""``streamq status``: says which workers are up; for people and for health checks."""

import json

import click

from streamq.admin.remote import ping
from streamq.cli.command import UNREACHABLE, Command, GivenOptions
from streamq.cli.remote_options import remote_options
from streamq.cli.shared import app_if_any, print_json, say, warn
from streamq.core.text import first_few

#: Names of workers that an error lists.
MOST_NAMED = 10


@click.command(cls=Command)
@remote_options
@click.pass_context
def status(
    ctx: click.Context, destination: tuple[str, ...], timeout: float | None, as_json: bool
) -> None:
    """Say which workers are up; exit with 69 if none is.

    Redis answers, at once: a worker is up that has renewed its lease in time.
    """
    replies = pinged(ctx, destination, timeout, as_json=as_json)
    if not as_json:
        for node in replies:
            say(f"{node}: OK")
        say_online(replies)


def pinged(
    ctx: click.Context, destination: tuple[str, ...], timeout: float | None, *, as_json: bool
) -> dict[str, dict[str, str]]:
    """The replies of the workers that are up and meant, printed if ``as_json``.

    Without any, says so and exits.
    """
    given: GivenOptions = ctx.obj
    broker = app_if_any(given).broker
    everyone = ping(broker.client, broker.keys, timeout=timeout)
    replies = {node: reply for node, reply in everyone.items() if node in (destination or everyone)}
    if as_json:
        print_json(replies)
    if not replies:
        warn(nobody(destination, list(everyone)))
        ctx.exit(UNREACHABLE)
    return replies


def nobody(destination: tuple[str, ...], up: list[str]) -> str:
    """The line for no reply: who is up, else how to start a worker."""
    if not up:
        return "no worker is up\n  → streamq worker -A MODULE"
    names = ", ".join(destination)
    return f"no worker is up that is named {names}\n  up  {first_few(up, MOST_NAMED)}"


def say_online(replies: dict[str, dict[str, str]]) -> None:
    """Print how many workers have answered, as Celery does."""
    say(f"\n{len(replies)} {'node' if len(replies) == 1 else 'nodes'} online.", lines=True)


def reply_text(reply: dict[str, str]) -> str:
    """The text of a reply, as Celery prints it: without the ``ok``."""
    return reply.get("ok") or json.dumps(reply)
