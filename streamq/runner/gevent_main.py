"""A runner whose standard library is gevent's: started afresh, patched before all else."""

# ruff: noqa: E402 - nothing may be imported before the patch
from gevent import monkey

monkey.patch_all()

import os
import sys

from streamq.discovery import find_app
from streamq.runner.config import Assignment
from streamq.runner.logging import set_up_logging
from streamq.runner.pools.gevent import Greenlets
from streamq.runner.pools.greenlet_forks import go_on_alone
from streamq.runner.runner import Runner, work


def main() -> int:
    """Take the assignment that the command line leads to, and work."""
    assignment = Assignment.take(sys.argv[1])
    sys.argv[:] = map(os.fsdecode, assignment.words)
    app = find_app(assignment.app).app
    app.conf.with_flags(**assignment.flags)
    set_up_logging(app.conf.log_level, app.conf.log_format)
    app.url = assignment.url
    app.import_tasks()
    set_up_logging(app.conf.log_level, app.conf.log_format)  # as what was loaded has left it
    os.register_at_fork(after_in_child=go_on_alone)
    return work(app, assignment, many_at_a_time)


def many_at_a_time(runner: Runner) -> Greenlets:
    """The pool of this process."""
    return Greenlets(
        runner.desk(repairs_itself=False),
        (runner.consumer("reader"), runner.consumer("watch")),
        runner.slots,
        runner.limits,
        concurrency=runner.assignment.concurrency,
        burst=runner.assignment.burst,
        alone=runner.assignment.alone,
    )
