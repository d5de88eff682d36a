"""Commands of ``streamq celery`` that have Celery's options: call, result, purge."""

import json
from collections.abc import Callable
from typing import Any

import click

from streamq.app import App
from streamq.cli.command import Command, GivenOptions
from streamq.cli.enqueue import sent
from streamq.cli.remote_options import names_of
from streamq.cli.shared import (
    app_if_any,
    broker,
    confirm,
    inline,
    inspector_of,
    say,
    task_id,
    usage_errors,
)
from streamq.core.text import count


def json_of(kind: type[Any]) -> Callable[[click.Context, click.Parameter, str], Any]:
    """The callback of an option whose value is a list or an object in JSON."""

    def read(ctx: click.Context, param: click.Parameter, value: str) -> Any:
        try:
            found = json.loads(value)
        except ValueError:
            found = None
        if not isinstance(found, kind):
            what = "a list" if kind is list else "an object"
            raise click.UsageError(f"{param.opts[-1]} is {what} in JSON, not {value!r}")
        return found

    return read


@click.command(cls=Command)
@click.argument("name")
@click.option(
    "-a",
    "--args",
    metavar="JSON",
    default="[]",
    callback=json_of(list),
    help="Positional arguments, such as '[1, 2]'.",
)
@click.option(
    "-k",
    "--kwargs",
    metavar="JSON",
    default="{}",
    callback=json_of(dict),
    help="Named arguments, such as '{\"x\": 1}'.",
)
@click.option("--eta", metavar="MOMENT", help="Run it then: 2026-12-24T18:00.")
@click.option("--countdown", metavar="SECONDS", help="Run it in so long.")
@click.option("--expires", metavar="WHEN", help="Not to start after that.")
@click.option("--serializer", metavar="NAME", help="json, pickle, yaml or msgpack.")
@click.option("--queue", metavar="QUEUE", help="The queue that takes it.")
@click.option("--exchange", metavar="EXCHANGE", help="The exchange that routes it.")
@click.option("--routing-key", metavar="KEY", help="The key the exchange routes by.")
@broker
@click.pass_obj
def call(
    given: GivenOptions,
    /,
    name: str,
    args: list[Any],
    kwargs: dict[str, Any],
    **options: str | None,
) -> None:
    """Send the task NAME; print its id."""
    app = app_if_any(given)
    with usage_errors():
        chosen = {option: value for option, value in options.items() if value is not None}
        signature = App.signature(app, name, args, kwargs, **chosen)
    say(sent(app, signature).id)


@click.command(cls=Command)
@click.argument("id", callback=task_id)
@click.option("-t", "--task", hidden=True, expose_value=False, help="Not needed.")
@click.option("--traceback", is_flag=True, help="Print its traceback instead.")
@broker
@click.pass_obj
def result(given: GivenOptions, id: str, traceback: bool) -> None:
    """Wait for the task ID; print its value."""
    found = app_if_any(given).result(id)
    if traceback:
        say(found.traceback or "None", lines=True)
        return
    value = found.get()
    say(value if isinstance(value, str) else inline(value), lines=True)


@click.command(cls=Command)
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option("-Q", "--queues", metavar="NAMES", callback=names_of, help="Only these queues.")
@click.option(
    "-X", "--exclude-queues", metavar="NAMES", callback=names_of, help="All queues but these."
)
@broker
@click.pass_obj
def purge(
    given: GivenOptions, force: bool, queues: tuple[str, ...], exclude_queues: tuple[str, ...]
) -> None:
    """Remove what waits in the queues of the app; the tasks end as REVOKED."""
    app = app_if_any(given)
    inspector = inspector_of(app)
    names = set(queues or queues_of(app)) - set(exclude_queues)
    states = inspector.queues(names)
    waiting = sum(state.ready for state in states)
    if waiting:
        where = ", ".join(state.name for state in states if state.ready)
        confirm(f"{count(waiting, 'message')} in {where} would be removed", yes=force)
    removed = sum(inspector.purge(state.name, app.conf.result_expires) for state in states)
    say(f"{count(removed, 'message')} removed from {count(len(states), 'queue')}")


def queues_of(app: App) -> set[str]:
    """The queues of an app: those that it declares, and the default one."""
    return {app.conf.task_default_queue, *(queue.name for queue in app.queues)}
