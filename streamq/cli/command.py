"""Base classes of commands: shared options, hints for unknown words, errors and exit codes."""

import io
import os
import sys
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import click

import streamq
from streamq.core.text import nearest, visible
from streamq.errors import BrokerUnavailable, ConfigError, ResultTimeout, StreamqError

#: Exit codes; those of sysexits.h where it has one.
FAILED, USAGE, UNREACHABLE, TIMED_OUT, MISCONFIGURED = 1, 2, 69, 75, 78
INTERRUPTED, BROKEN_PIPE = 128 + 2, 128 + 13
#: Options by which other task queues name the URL of their broker.
URL_OPTIONS = ("-u", "--url", "--redis", "--redis-url", "-b", "--broker", "--broker-url")


@dataclass
class GivenOptions:
    """The values of the options that may stand before or after any command."""

    app: str | None = None
    verbose: bool = False
    #: The URL of Redis, where a command takes ``-b``.
    broker: str | None = None
    #: Whether the command is one of ``streamq celery``, which reads values as Celery does.
    celery: bool = False
    #: The program whose command line it is, and the app of a project that names none.
    program: str = "streamq"
    default_app: str | None = None


class Shared(click.Command):
    """A command with ``-A``, ``-v`` and ``--version``.

    ``later`` are options, or commands of a group, that belong to a later version; as a mapping, it
    says what to type until then.  ``instead`` are commands that do not exist, each with what to
    type instead.
    """

    def __init__(
        self,
        *args: Any,
        later: Iterable[str] = (),
        instead: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("context_settings", {}).setdefault("help_option_names", ["-h", "--help"])
        super().__init__(*args, **kwargs)
        self.later = dict(later) if isinstance(later, Mapping) else dict.fromkeys(later, "")
        self.instead = instead or {}

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The command's own parameters and the shared ones."""
        *own, help_option = super().get_params(ctx)
        return [*own, *shared_options(everywhere=ctx.parent is not None), help_option]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments.  Raises UsageError for an unknown option, with a suggestion."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise self.no_such_option(ctx, error.option_name) from None
        except click.BadOptionUsage as error:  # click's parser names no command
            error.ctx = error.ctx or ctx
            raise

    def no_such_option(self, ctx: click.Context, name: str) -> click.UsageError:
        """The error for an unknown option, or one of a later version."""
        if name in self.later:
            return click.UsageError(f"not in this version: {name}", ctx)
        if name in URL_OPTIONS:
            advice = "Redis is named by STREAMQ_URL=…, streamq.toml or App(url=…)"
            return click.UsageError(f"no such option: {name}\n  → {advice}", ctx)
        known = [word for param in self.get_params(ctx) for word in param.opts if word[:1] == "-"]
        return unknown("option", name, [*known, *self.later], ctx)


class Command(Shared):
    """One command."""


class Group(Shared, click.Group):
    """A group of commands, such as ``streamq queues``."""

    command_class = Command
    group_class = type

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; without any, show the help and exit."""
        if not args:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(USAGE)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command.  Raises UsageError for an unknown one, with a suggestion."""
        name = args[0]
        if self.get_command(ctx, name) is None:
            self.answer_known(ctx, name)
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            raise unknown("command", name, self.list_commands(ctx), ctx)
        return super().resolve_command(ctx, args)

    def answer_known(self, ctx: click.Context, name: str) -> None:
        """Raise UsageError for a command that people know from elsewhere: what to type instead."""
        if name in self.later:
            advice = f"\n  → {self.later[name]}" if self.later[name] else ""
            raise click.UsageError(f"not in this version: {ctx.command_path} {name}{advice}", ctx)
        if name in self.instead:
            what = f"there is no {ctx.command_path} {name}"
            raise click.UsageError(f"{what}\n  → {self.instead[name]}")


class Root(Group):
    """The outermost group: turns errors of all commands into messages and exit codes."""

    def main(self, args: Any = None, prog_name: Any = None, *rest: Any, **extra: Any) -> Any:
        """Run a command line and exit.  A traceback is shown only with ``-v``."""
        given = GivenOptions()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # a terminal that cannot show ✓ shows ?
                stream.reconfigure(errors="replace")
        sys.exit(self.run(list(sys.argv[1:] if args is None else args), given))

    def run(self, words: list[str], given: GivenOptions) -> int:
        """Run a command line.  Returns its exit code."""
        try:
            with self.make_context(given.program, words, obj=given) as context:
                self.invoke(context)
            return 0
        except click.exceptions.Exit as ending:
            return ending.exit_code
        except KeyboardInterrupt:
            return interrupted()
        except click.Abort as abort:
            if isinstance(abort.__cause__ or abort.__context__, KeyboardInterrupt):
                return interrupted()
            click.echo("nothing was done", err=True)
            return FAILED
        except BrokenPipeError:
            close_stdout()
            return BROKEN_PIPE
        except (StreamqError, click.ClickException) as error:
            if given.verbose:
                show_traceback(error)
            click.echo(f"streamq: {visible(explained(error))}", err=True)
            return exit_code(error)
        except OSError as error:  # for instance, standard output is a file on a full disk
            if given.verbose:
                show_traceback(error)
            where = f": {error.filename}" if error.filename else ""
            text = f"{error.strerror or error}{where}\n  → -v shows the whole traceback"
            click.echo(f"streamq: cannot go on: {visible(text)}", err=True)
            close_stdout()
            return FAILED
        except UnicodeEncodeError as error:  # an argument is not UTF-8
            if given.verbose:
                show_traceback(error)
            click.echo("streamq: an argument is not UTF-8", err=True)
            return USAGE


def show_traceback(error: BaseException) -> None:
    """Print the traceback of an error to standard error."""
    click.echo(visible("".join(traceback.format_exception(error))), err=True)


def shared_options(*, everywhere: bool) -> list[click.Parameter]:
    """The options that may stand before or after a command."""
    return [
        click.Option(
            ["-A", "--app"], metavar="MODULE[:APP]", expose_value=False, callback=take_app,
            help="Where the app is; else STREAMQ_APP, or tasks.py, app.py … in this folder.",
        ),
        click.Option(
            ["-v", "--verbose"], is_flag=True, expose_value=False, callback=take_verbose,
            help="Show the traceback of an error.",
        ),
        click.Option(
            ["--version"], is_flag=True, is_eager=True, expose_value=False, hidden=everywhere,
            callback=show_version, help="Show the version and exit.",
        ),
    ]  # fmt: skip


def take_app(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is not None and not value.strip():
        raise click.UsageError("-A names no app: it is empty", ctx)
    if value is not None:
        ctx.ensure_object(GivenOptions).app = value


def take_verbose(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(GivenOptions).verbose = True


def show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        click.echo(f"streamq {streamq.__version__}")
        ctx.exit()


def unknown(what: str, name: str, known: Iterable[str], ctx: click.Context) -> click.UsageError:
    """The error for an unknown word; suggests the nearest known one."""
    near = nearest(name, known)
    hint = f"\n  → did you mean {near}?" if near else ""
    return click.UsageError(f"no such {what}: {name}{hint}", ctx)


def explained(error: Exception) -> str:
    """The message of an error; a mistake in the command line also names the command's help."""
    if not isinstance(error, click.ClickException):
        return "\n".join([str(error), *getattr(error, "__notes__", ())])
    message = error.format_message()
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    if ctx is None or "not in this version" in message:
        return message
    return f"{message[:1].lower()}{message[1:]}\n  → {ctx.command_path} --help"


def exit_code(error: Exception) -> int:
    """The exit code for an error."""
    match error:
        case click.ClickException():
            return error.exit_code
        case ConfigError():  # includes wrong credentials
            return MISCONFIGURED
        case BrokerUnavailable():
            return UNREACHABLE
        case ResultTimeout():
            return TIMED_OUT
        case LookupError() | ValueError():  # an unknown name, a value that cannot be sent
            return USAGE
    return FAILED


def interrupted() -> int:
    click.echo(err=True)
    return INTERRUPTED


def close_stdout() -> None:
    """Replace a broken standard output by /dev/null, so that Python's last flush does not fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
