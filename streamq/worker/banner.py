"""The banner of a worker: the settings that one asks for first when something is wrong."""

import os
import platform
from collections.abc import Sequence

import streamq
from streamq.core.text import first_few, mask_url
from streamq.devserver import server
from streamq.discovery import Found
from streamq.runner.logging import error_output
from streamq.runner.sources import QueueStreams

MOST_TASKS = 12


def schedules_of(found: Found) -> str:
    """The schedules that the worker fires, by name; empty for none."""
    conf = found.app.conf
    names = [each.name for each in found.app.schedules] if conf.scheduler else []
    return first_few(sorted(names), MOST_TASKS, separator="  ") if names else ""


def banner(found: Found, node: str, sources: Sequence[QueueStreams]) -> str:
    """The banner: app, Redis, queues, pool and tasks, and where each setting comes from."""
    app, conf = found.app, found.app.conf
    pool = f"{conf.pool} {conf.concurrency}"
    queues = ", ".join(source.queue for source in sources)
    if conf.pool == "gevent":
        pool = f"gevent {conf.processes} × {conf.concurrency}"
    bundled = server.find() if conf.url is None else None
    redis = bundled.banner if bundled else f"{mask_url(app.url)}  [{conf.origin('url')}]"
    names = sorted(app.tasks)
    tasks = first_few(names, MOST_TASKS, separator="  ") if names else "none registered!"
    lines = [
        f"streamq {streamq.__version__} · {node} · app {found.spec} ({found.how}) · "
        f"python {platform.python_version()} · pid {os.getpid()}",
        f"  redis   {redis}",
    ]
    schedules = schedules_of(found)
    if sources:
        lines += [
            f"  queues  {queues}  [{conf.origin('queues')}]",
            f"  pool    {pool}  [{conf.origin('concurrency')}] · "
            f"{'late' if conf.acks_late else 'early'} ack · lease {conf.lease:g} s",
        ]
    else:
        lines += ["  queues  none: only schedules are fired here"]
        schedules = schedules or "none of its code; those without code"
    lines += [f"  {note}" for note in conf.notes()]
    lines += [f"  tasks   {tasks}"] if sources else []
    lines += [f"  firing  {schedules}"] if schedules else []
    if os.isatty(error_output()):
        runs = "once to finish running tasks, twice to put them back"
        lines += [f"Ctrl-C {runs if sources else 'to stop'}"]
    return "\n".join(lines)
