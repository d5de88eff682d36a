"""``streamq enqueue``: sends a task by its name."""

import re
from typing import Any

import click

from streamq.app import App
from streamq.cli.command import FAILED, Command, GivenOptions
from streamq.cli.shared import (
    inline,
    print_json,
    say,
    spec_of,
    usage_errors,
    value_of,
    warn,
    without_code,
)
from streamq.cli.shared import timeout as timeout_option
from streamq.cli.waiting import warn_if_unread
from streamq.core.text import mask_url
from streamq.devserver.server import project_folder
from streamq.discovery import NoApp, find_app
from streamq.errors import ConfigError, StreamqError, TaskError
from streamq.result import Result
from streamq.routing import check_name
from streamq.serialization.exceptions import message_of
from streamq.states import State
from streamq.tasks import Signature

NUMBER = re.compile(r"-\.?\d.*")


class Arguments(Command):
    """A command whose arguments may be negative numbers."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments.  Raises UsageError for an unknown option that is no number."""
        options, *_ = split_at("--", args)
        rest = super().parse_args(ctx, args)
        for word in (ctx.params.get("task") or "", *(ctx.params.get("arguments") or ())):
            if word[:1] == "-" and word != "-" and word in options and not NUMBER.fullmatch(word):
                raise self.no_such_option(ctx, word.partition("=")[0])
        return rest


def split_at(separator: str, words: list[str]) -> tuple[list[str], list[str]]:
    """The words before and after a separator."""
    at = words.index(separator) if separator in words else len(words)
    return words[:at], words[at + 1 :]


@click.command(cls=Arguments, context_settings={"ignore_unknown_options": True})
@click.argument("task")
@click.argument("arguments", nargs=-1, metavar="[ARGUMENT | NAME=VALUE]…")
@click.option("--queue", metavar="QUEUE", help="The queue that takes it.")
@click.option("--exchange", metavar="EXCHANGE", help="The exchange that routes it.")
@click.option("--routing-key", metavar="KEY", help="The key the exchange routes by.")
@click.option("--id", "task_id", metavar="ID", help="Its id: sent again, it is the same task.")
@click.option("--countdown", metavar="SECONDS", help="Run it in so long: 5, 90s, 2h.")
@click.option("--eta", metavar="MOMENT", help="Run it then: 2026-12-24T18:00 or …+01:00.")
@click.option("--expires", metavar="WHEN", help="Not to start after that: 10m, or a moment.")
@click.option("--wait", is_flag=True, help="Wait for the result and print it.")
@timeout_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_context
def enqueue(
    ctx: click.Context,
    /,
    task: str,
    arguments: tuple[str, ...],
    wait: bool,
    timeout: float | None,
    as_json: bool,
    **options: str | None,
) -> None:
    """Send TASK.  Arguments are JSON, else text.

    \b
    streamq enqueue shop.tasks.add 2 3 --wait
    streamq enqueue shop.tasks.mail ana@example.org subject="Good morning"
    """
    if options["queue"] and options["exchange"]:
        raise click.UsageError("--queue and --exchange exclude each other", ctx)
    app = sending_app(ctx.obj, task)
    args, kwargs = arguments_of(arguments)
    given = {name: value for name, value in options.items() if value is not None}
    with usage_errors():
        signature = App.signature(app, task, args, kwargs, **given)  # a subclass has its own kind
        if not options["exchange"] and (options["routing_key"], options["exchange"]) != (
            None,
            None,
        ):
            check_name(options["routing_key"] or "", "without an exchange, the key is a queue:")
    result = sent(app, signature)
    queues = queues_of(result)
    if not as_json:
        say(f"✓ {task} {result.id} on {', '.join(queues)}")
    output: dict[str, Any] = {"id": result.id, "task": task, "queues": queues}
    if wait or timeout is not None:
        output |= ending(result, timeout, quiet=as_json)
    if as_json:
        print_json(output)
    ctx.exit(0 if output.get("state", State.SUCCESS) == State.SUCCESS else FAILED)


def sent(app: App, signature: Signature) -> Result[Any]:
    """Send a call; what middleware of the app does instead is an error that says so."""
    try:
        result = app.send(signature)
    except (StreamqError, OSError):
        raise
    except Exception as error:
        if app.around_send is not None:
            what = f"{type(error).__name__}: {message_of(error)}"
            raise click.ClickException(
                f"middleware of the app, or the call, failed: {what}"
            ) from error
        if isinstance(error, TypeError):  # the arguments do not fit the function
            raise click.UsageError(str(error)) from error
        raise
    if not isinstance(result, Result):
        raise click.ClickException(f"not sent: middleware of the app returned {result!r}")
    return result


def sending_app(given: GivenOptions, task: str) -> App:
    """The app to send with.

    An app that was named with -A must know the task; any other may lack its code.
    """
    spec, how = spec_of(given)
    try:
        app = find_app(spec, how).app
    except NoApp:
        app = App()
        warn(f"no app here: {task} is sent unchecked, to {place_of(app)}")
        return app
    except ConfigError as error:
        if spec:
            raise
        return without_code(error, given)
    try:
        app.import_tasks()
    except ConfigError as error:
        if spec:
            raise
        warn(f"{error}\n  going on without it")
    if task not in app.tasks.tasks:
        missing = app.tasks.missing(task)
        if given.app:
            raise missing
        warn(f"{missing}\n  sent all the same: a worker may know it")
    return app


def place_of(app: App) -> str:
    """The server of an app without code, where that comes from, and what to do about it."""
    if app.conf.url is None:
        return (
            f"the bundled server of {project_folder().folder}\n"
            "  → a worker of another folder reads another server: go there, or set STREAMQ_URL"
        )
    return (
        f"{mask_url(app.conf.url)}  [{app.conf.origin('url')}]\n"
        "  → with its app, the name and the arguments are checked: streamq -A MODULE enqueue …"
    )


def arguments_of(words: tuple[str, ...]) -> tuple[list[Any], dict[str, Any]]:
    """Parse positional and named arguments of the command line."""
    args, kwargs = [], {}
    for word in words:
        name, equals, value = word.partition("=")
        if equals and name.isidentifier():
            kwargs[name] = value_of(value)
        else:
            args.append(value_of(word))
    return args, kwargs


def queues_of(result: Result[Any]) -> list[str]:
    """The queues that took a message."""
    if result.queues:
        return list(result.queues)
    queue = result.record().get("queue", b"").decode(errors="replace") if not result.ignored else ""
    return [queue or "its queue"]


def ending(result: Result[Any], timeout: float | None, *, quiet: bool) -> dict[str, Any]:
    """Wait for the outcome and print it unless ``quiet``.  Returns it for ``--json``."""
    warn_if_unread(result, timeout)
    try:
        value = result.get(timeout)
    except Exception as error:
        state = result.state
        if state not in (State.FAILURE, State.REVOKED):
            raise
        text = f"{type_of(error)}{message_of(error)}"
        if not quiet:
            warn(f"{result.id} failed: {text}")
        return {"state": state, "error": text, "traceback": result.traceback}
    if not quiet:
        say(f"→ {inline(value)}")
    return {"state": State.SUCCESS, "value": value}


def type_of(error: Exception) -> str:
    """The class of an error, as a prefix; empty if the text of the error names it."""
    return "" if isinstance(error, TaskError) else f"{type(error).__name__}: "
