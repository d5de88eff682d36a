"""``streamq beat``: fires schedules, and runs no task."""

import sys
from typing import Any

import click

from streamq.cli.celery_flags import beat_flags
from streamq.cli.command import Command, GivenOptions
from streamq.cli.process_options import process_options
from streamq.cli.shared import required_app, warn
from streamq.cli.worker import check_flags
from streamq.cli.worker_files import name_worker, worker_files
from streamq.host.launch import Launch
from streamq.runner.inherited import OWN, Inherited
from streamq.worker.account import change_account
from streamq.worker.boot import start_worker
from streamq.worker.signals import exit_on_signals


@click.command(cls=Command)
@process_options
@beat_flags
@click.pass_obj
def beat(
    given: GivenOptions,
    /,
    logfile: str | None,
    pidfile: str | None,
    uid: str | None,
    gid: str | None,
    **settings: Any,
) -> None:
    """Fire schedules, and run no task.

    Every worker fires them too: a process like this is needed only where none does.  Any number of
    them may run: each moment of a schedule is sent once.
    """
    OWN.given = Inherited.read()
    exit_on_signals()
    settings["url"] = settings["url"] or given.broker
    settings["worker_name"] = settings["worker_name"] or "beat@%h"
    flags = {name: value for name, value in settings.items() if value is not None}
    check_flags(flags)
    change_account(uid or None, gid or None)
    launch = Launch.here()
    found = required_app(given)
    name_worker(found.app, flags, celery=given.celery)
    warn("every worker fires schedules; this process does only that")
    with worker_files(found.app, logfile, pidfile):
        code = start_worker(found, flags, launch=launch, only_schedules=True)
    sys.exit(code)
