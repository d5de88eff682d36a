"""Flags of Celery's worker that streamq's does not need, and those that it refuses.

The worker says why in one line, and goes on: units of systemd and containers have such flags.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
Callback = Callable[[click.Context, click.Parameter, Any], None]


class UnneededFlag(NamedTuple):
    """A flag that changes nothing, and why; ``metavar`` names its value if it takes one."""

    names: tuple[str, ...]
    why: str
    metavar: str | None = None


class RefusedFlag(NamedTuple):
    """A flag with which no worker starts, and what to do instead."""

    names: tuple[str, ...]
    what: str
    instead: str
    metavar: str | None = None


PREFETCH = "a runner reads ahead by how long its tasks take, and hands back what has to wait"
SCHEDULES = "every worker fires schedules"
IN_REDIS = "schedules are in Redis, and every worker fires them"
UNNEEDED = (
    UnneededFlag(("-E", "--events", "--task-events"), "states and workers are kept in Redis"),
    UnneededFlag(("-B", "--beat"), SCHEDULES),
    UnneededFlag(("-s", "--schedule", "--schedule-filename"), IN_REDIS, "FILE"),
    UnneededFlag(("--scheduler",), IN_REDIS, "CLASS"),
    UnneededFlag(
        ("-O", "--optimization"), "a message goes to a runner that is free, as with fair", "WORD"
    ),
    UnneededFlag(("--prefetch-multiplier",), PREFETCH, "N"),
    UnneededFlag(("--disable-prefetch",), PREFETCH),
    UnneededFlag(("--without-gossip",), "workers do not talk to each other"),
    UnneededFlag(("--without-mingle",), "revocations are in Redis, for every worker"),
    UnneededFlag(
        ("--without-heartbeat",),
        "workers renew leases in Redis, which are few bytes; without them, nobody would take over "
        "what a dead one held",
    ),
    UnneededFlag(("--heartbeat-interval",), "a third of the setting lease is the interval", "N"),
    UnneededFlag(("-S", "--statedb"), "revocations are in Redis", "FILE"),
    UnneededFlag(("--umask",), "it is that of the shell, or UMask= of the systemd unit", "N"),
    UnneededFlag(("--executable",), "the worker runs with the Python that starts it", "FILE"),
    UnneededFlag(("--pool-start-method",), "runners are forked, or programs with gevent", "WORD"),
)
REFUSED = (
    RefusedFlag(
        ("-D", "--detach"),
        "a worker stays in the foreground",
        "start it by systemd or supervisord, or: nohup streamq worker … --logfile FILE &",
    ),
    RefusedFlag(
        ("--purge", "--discard"),
        "a worker removes no messages",
        "streamq queues purge QUEUE, before it starts",
    ),
)


#: Flags of ``celery beat``.
BEAT = (
    UnneededFlag(("-s", "--schedule", "--schedule-filename"), IN_REDIS, "FILE"),
    UnneededFlag(("-S", "--scheduler"), IN_REDIS, "CLASS"),
    UnneededFlag(("--max-interval",), "it sleeps until the next moment", "SECONDS"),
    UnneededFlag(("--umask",), "it is that of the shell, or UMask= of the systemd unit", "N"),
    RefusedFlag(
        ("--detach",),
        "it stays in the foreground",
        "start it by systemd or supervisord, or: nohup streamq beat … --logfile FILE &",
    ),
)


def celery_flags(function: F) -> F:
    """Give a command the flags of Celery's worker; they are not listed by ``--help``."""
    return with_flags(function, (*UNNEEDED, *REFUSED))


def beat_flags(function: F) -> F:
    """Give a command the flags of ``celery beat``; they are not listed by ``--help``."""
    return with_flags(function, BEAT)


def with_flags(function: F, flags: Iterable[UnneededFlag | RefusedFlag]) -> F:
    """Give a command flags that change nothing, or are refused."""
    for flag in flags:
        function = click.option(
            *flag.names,
            f"celery_{flag.names[-1].strip('-').replace('-', '_')}",
            is_flag=flag.metavar is None,
            metavar=flag.metavar,
            hidden=True,
            expose_value=False,
            callback=answer(flag),
        )(function)
    return function


def answer(flag: UnneededFlag | RefusedFlag) -> Callback:
    """The callback of a flag: it says why the flag is not needed, or raises UsageError."""

    def say(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if not value:
            return
        from streamq.cli.shared import warn

        name = "/".join(flag.names[:2])
        if isinstance(flag, RefusedFlag):
            advice = f"\n  → {flag.instead}"
            raise click.UsageError(f"not in this version: {name}: {flag.what}{advice}")
        warn(f"{name}: not needed: {flag.why}")

    return say
