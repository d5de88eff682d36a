"""The program of a gevent runner: a new process, patched before all other imports."""

# ruff: noqa: E402 - nothing may be imported before the patch
from gevent import monkey

monkey.patch_all()

import os
import sys

from streamq.discovery import find_app
from streamq.runner.config import RunnerConfig
from streamq.runner.log_file import LOG_FILE
from streamq.runner.logging import set_up_logging
from streamq.runner.pools.gevent import make_gevent
from streamq.runner.pools.greenlet_forks import go_on_alone
from streamq.runner.runner import work


def main() -> int:
    """Run the runner whose configuration file the command line names; return the exit code."""
    config = RunnerConfig.read(sys.argv[1])
    sys.argv[:] = map(os.fsdecode, config.argv)
    LOG_FILE.inherit(config.log_file)
    app = find_app(config.app).app
    app.conf.with_flags(**config.flags)
    set_up_logging(app.conf.log_level, app.conf.log_format)
    app.url = config.url
    app.import_tasks()
    # Again, for loggers that tasks have set up.
    set_up_logging(app.conf.log_level, app.conf.log_format, loaded=True)
    os.register_at_fork(after_in_child=go_on_alone)
    return work(app, config, make_gevent)
