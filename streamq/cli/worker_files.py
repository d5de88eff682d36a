"""The name of a worker that a command line starts, its log file and its pid file."""

from collections.abc import Iterator
from contextlib import contextmanager

from streamq.app import App
from streamq.cli.shared import check_broker
from streamq.runner.log_file import LOG_FILE
from streamq.worker.patterns import file_name
from streamq.worker.pidfile import PidFile
from streamq.worker.services.heartbeat import node_name

#: The name of a worker of ``streamq celery`` that nobody has named: health checks ask for it.
CELERY_NAME = "celery@%h"


def name_worker(app: App, flags: dict[str, str], *, celery: bool) -> None:
    """Give flags to the app; with ``celery``, names of workers are made as Celery makes them.

    One that nobody has named is ``celery@%h``, and ``-n web`` names ``celery@web``.

    Raises UsageError if the app names its Redis itself, so that -b is in vain.
    """
    given = flags.get("worker_name", "")
    if celery and given and "@" not in given:
        flags["worker_name"] = f"celery@{given}"
    app.conf.with_flags(**flags)
    if celery and app.conf.origin("worker_name") == "default":
        flags["worker_name"] = CELERY_NAME
        app.conf.with_flags(**flags)
    if "url" in flags:
        check_broker(app)


@contextmanager
def worker_files(app: App, logfile: str | None, pidfile: str | None) -> Iterator[None]:
    """Keep the pid in a file, and log to another, while the block runs.

    Without a name, or with an empty one, there is none.  Both may have the signs of ``file_name``.
    """
    node = node_name(app.conf.worker_name)
    holder = PidFile(file_name(pidfile, node)) if pidfile else None
    try:
        if logfile:
            LOG_FILE.open(file_name(logfile, node))
        yield
    finally:
        if holder is not None:
            holder.remove()
