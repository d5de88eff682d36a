"""``streamq worker``: runs tasks.

``--help`` and errors of usage need no import of the app, Redis and the worker's own modules,
because imports take most of the time that a command needs to start.
"""

import re
import sys
from collections.abc import Mapping
from typing import Any

import click

from streamq.cli.celery_flags import celery_flags
from streamq.cli.command import Command, GivenOptions
from streamq.cli.process_options import process_options
from streamq.config.settings import LATER_POOLS, POOLS, SETTINGS
from streamq.host.launch import Launch


@click.command(cls=Command, later=("--reload",))
@click.option("-Q", "--queues", metavar="NAMES", help="Queues to read, with commas.")
@click.option(
    "-X", "--exclude-queues", "exclude", metavar="NAMES", default="", help="Queues not to read."
)
@click.option("-I", "--include", metavar="MODULES", help="Modules with tasks to import.")
@click.option("-P", "--pool", metavar="POOL", help="prefork, gevent or solo.")
@click.option("-c", "--concurrency", metavar="N", help="Tasks at a time.")
@click.option("--processes", metavar="N", help="Processes of the gevent pool.")
@click.option("--burst", is_flag=True, help="End when no message waits.")
@click.option("--max-tasks-per-child", metavar="N", help="Replace a process after so many tasks.")
@click.option(
    "--max-memory-per-child",
    metavar="SIZE",
    help="Replace a process that is larger, such as 300MB.",
)
@click.option(
    "--time-limit",
    "task_time_limit",
    metavar="SECONDS",
    help="End the process of a task that runs longer; 0 for no limit.",
)
@click.option(
    "--soft-time-limit",
    "task_soft_time_limit",
    metavar="SECONDS",
    help="Raise SoftTimeLimitExceeded inside a task that runs longer.",
)
@click.option("--autoscale", metavar="MAX,MIN", help="This version keeps the maximum.")
@click.option(
    "--no-scheduler",
    "scheduler",
    flag_value="false",
    default=None,
    help="Fire no schedules: other workers do.",
)
@process_options
@celery_flags
@click.pass_obj
def worker(
    given: GivenOptions,
    /,
    exclude: str,
    burst: bool,
    autoscale: str | None,
    logfile: str | None,
    pidfile: str | None,
    uid: str | None,
    gid: str | None,
    **settings: Any,
) -> None:
    """Run tasks until stopped.

    Ctrl-C or SIGTERM once finishes what runs and hands back the rest; twice stops now.
    Celery's other flags are understood: each says why it is not needed.
    """
    from streamq.cli.shared import required_app, warn
    from streamq.cli.worker_files import name_worker, worker_files
    from streamq.runner.inherited import OWN, Inherited
    from streamq.worker.account import change_account
    from streamq.worker.boot import start_worker
    from streamq.worker.signals import exit_on_signals

    OWN.given = Inherited.read()
    exit_on_signals()
    settings["url"] = settings["url"] or given.broker
    if (settings["pool"] or "").lower() in LATER_POOLS:
        advice = f"\n  → pools: {', '.join(POOLS)}"
        raise click.UsageError(f"not in this version: --pool {settings['pool']}{advice}")
    if autoscale is not None:
        most = maximum_of(autoscale)
        settings["concurrency"] = settings["concurrency"] or most
        warn(
            f"--autoscale {autoscale}: this version does not scale; "
            f"it keeps {settings['concurrency']}"
        )
    if given.celery:
        use_celery_units(settings)
    flags = {name: value for name, value in settings.items() if value is not None}
    check_flags(flags)
    change_account(uid or None, gid or None)
    launch = Launch.here()
    found = required_app(given)
    name_worker(found.app, flags, celery=given.celery)
    with worker_files(found.app, logfile, pidfile):
        code = start_worker(found, flags, launch=launch, exclude=names_of(exclude), burst=burst)
    sys.exit(code)


def use_celery_units(settings: dict[str, Any]) -> None:
    """Read the values of ``streamq celery worker`` in Celery's units: memory is in KiB."""
    most = settings["max_memory_per_child"]
    if most is not None and most.strip().isdecimal():
        settings["max_memory_per_child"] = f"{most.strip()}KiB"


def check_flags(flags: Mapping[str, str]) -> None:
    """Check the values of options.  Raises UsageError."""
    from streamq.cli.shared import usage_errors

    with usage_errors():
        for name, value in flags.items():
            setting = SETTINGS[name]
            setting.kind.read(value, f"{name} ({setting.flag})")
    if not flags.get("queues", "all").strip(", "):
        raise click.UsageError("-Q names no queue; without it, all are read")


def maximum_of(autoscale: str) -> str:
    """The larger number in ``MAX,MIN``, where MIN may be missing.  Raises UsageError.

    As with Celery, the two may change places.
    """
    numbers = [part.strip() for part in autoscale.split(",")]
    good = len(numbers) <= 2 and all(re.fullmatch(r"\d{1,9}", part, re.ASCII) for part in numbers)
    if not good or max(map(int, numbers)) < 1:
        raise click.UsageError(f"--autoscale is MAX,MIN, as in 10,3; not {autoscale!r}")
    return max(numbers, key=int)


def names_of(words: str) -> tuple[str, ...]:
    """Split names at commas."""
    return tuple(name for name in map(str.strip, words.split(",")) if name)
