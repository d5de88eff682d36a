"""``streamq workers``: shows which workers are up, and which tasks each is running."""

from dataclasses import asdict
from typing import Any

import click

from streamq.admin.inspector import RunInfo, WorkerState, pid_of
from streamq.cli.command import Command, GivenOptions, Group
from streamq.cli.shared import (
    app_if_any,
    as_json,
    format_duration,
    format_time,
    inspector_of,
    number,
    print_json,
    unknown_name,
)
from streamq.cli.tables import show_facts, show_list, show_table
from streamq.host import clock

LATER = ("stop", "drain", "grow", "shrink", "autoscale", "consume", "unconsume", "trace")


@click.group(cls=Group, later=LATER)
def workers() -> None:
    """List workers, and the tasks that they run."""


@workers.command(cls=Command)
@as_json
@click.pass_obj
def ls(given: GivenOptions, as_json: bool) -> None:
    """List the workers."""
    inspector = inspector_of(app_if_any(given))
    states = inspector.workers()
    now = clock.time()
    show_list(
        states,
        ("worker", "up for", "pool", "runners", "running", "queues"),
        lambda state: row_of(state, now),
        empty="no worker is up: streamq worker -A MODULE",
        as_json=as_json,
        described=described,
    )


@workers.command(cls=Command)
@click.argument("node", metavar="WORKER")
@as_json
@click.pass_obj
def show(given: GivenOptions, node: str, as_json: bool) -> None:
    """Show one worker, its runners and the tasks that they run."""
    inspector = inspector_of(app_if_any(given))
    found = {state.node: state for state in inspector.workers()}
    if node not in found:
        raise unknown_name("worker", node, found)
    state = found[node]
    about = described(state)
    if as_json:
        print_json(about)
        return
    show_facts(
        f"{node}  {'up' if state.up else 'silent'}",
        {
            "pid": about["pid"],
            "host": about["host"],
            "pool": about["pool"] and f"{about['pool']} {about['concurrency']}",
            "queues": ", ".join(about["queues"]) or None,
            "tasks": ", ".join(about["tasks"]) or None,
            "schedules": schedules_text(about["schedules"]),
            "started": about["started"] and format_time(about["started"]),
            "runners": ", ".join(about["runners"]) or None,
            "cannot start": failing_text(about["cannot_start"]),
        },
    )
    now = clock.time()
    show_table(
        ("runner", "task", "id", "queue", "state", "for", "ack"),
        [running_row(run, now) for run in state.running],
        empty="nothing runs here",
    )


def described(state: WorkerState) -> dict[str, Any]:
    """The data of a worker for ``--json``; the same names for every worker."""
    about = state.about
    return {
        "node": state.node,
        "up": state.up,
        "pid": number(about.get("pid")),
        "host": about.get("host"),
        "pool": about.get("pool"),
        "concurrency": number(about.get("concurrency")),
        "queues": about.get("queues", "").split(),
        "tasks": sorted(name[5:] for name in about if name.startswith("task:")),
        "schedules": len(about["schedules"].split()) if "schedules" in about else None,
        "started": number(about.get("started"), 1000),
        "seen": number(about.get("seen"), 1000),
        "streamq": about.get("streamq"),
        "python": about.get("python"),
        "cannot_start": number(about.get("cannot_start")) or 0,
        "runners": [
            name.partition(":")[2] for name in sorted(about) if name.startswith("runner:")
        ] or sorted(map(pid_of, state.consumers)),
        "running": [asdict(run) for run in state.running],
    }  # fmt: skip


def schedules_text(fires: int | None) -> str:
    """How many schedules a worker fires, for people."""
    return "it fires none: --no-scheduler" if fires is None else f"it fires {fires}"


def failing_text(runners: int) -> str | None:
    """How many runners cannot start, for people; None for none."""
    return f"{runners} of them: see its log" if runners else None


def row_of(state: WorkerState, now: float) -> tuple[Any, ...]:
    about = described(state)
    up = format_duration(now - about["started"]) if state.up and about["started"] else "silent"
    pool = f"{about['pool'] or '–'} {about['concurrency'] or ''}".rstrip()
    failing = f", {about['cannot_start']} cannot start" if about["cannot_start"] else ""
    runners, running = f"{len(about['runners'])}{failing}", len(state.running)
    return state.node, up, pool, runners, running, ", ".join(about["queues"])


def running_row(run: RunInfo, now: float) -> tuple[Any, ...]:
    since = None if run.since is None else now - run.since
    return (
        run.pid,
        run.task or "–",
        run.id or "–",
        run.queue,
        run.state or "read",
        format_duration(since),
        run.ack,
    )
