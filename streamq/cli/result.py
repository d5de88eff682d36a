"""``streamq result``: shows the state and the outcome of a task."""

from math import isfinite
from typing import Any

import click

from streamq.admin.dead_letter import parse_history
from streamq.cli.command import FAILED, Command
from streamq.cli.shared import (
    app_if_any,
    as_json,
    format_duration,
    format_time,
    history_lines,
    inline,
    number,
    print_json,
    say,
    task_id,
)
from streamq.cli.shared import timeout as timeout_option
from streamq.cli.tables import show_facts
from streamq.cli.waiting import warn_if_unread
from streamq.errors import StreamqError
from streamq.result import Result
from streamq.states import FINAL, State


@click.command(cls=Command)
@click.argument("id", callback=task_id)
@click.option("--wait", is_flag=True, help="Wait for the end.")
@timeout_option
@as_json
@click.pass_context
def result(ctx: click.Context, id: str, wait: bool, timeout: float | None, as_json: bool) -> None:
    """Show the state of the task ID; its value, or its error with the traceback."""
    found = app_if_any(ctx.obj).result(id)
    if wait or timeout is not None:
        await_end(found, timeout)
    about = described(found)
    if as_json:
        print_json(about)
    else:
        show(about)
    ctx.exit(FAILED if about["state"] in (State.FAILURE, State.REVOKED) else 0)


def await_end(result: Result[Any], timeout: float | None) -> None:
    """Wait until the task has ended, with any outcome.  Raises ResultTimeout."""
    warn_if_unread(result, timeout)
    try:
        result.get(timeout)
    except Exception:
        if result.state not in FINAL:
            raise


def described(result: Result[Any]) -> dict[str, Any]:
    """All data of a record, under the same names in every state."""
    record = {
        name: value.decode(errors="backslashreplace") for name, value in result.record().items()
    }
    moments = ("enqueued", "eta", "started", "finished")
    times = {name: number(record.get(name), 1000) for name in moments}
    return {
        "id": result.id,
        "state": result.state,
        "task": record.get("task"),
        "queue": record.get("queue"),
        "worker": record.get("worker"),
        **times,
        "runtime": runtime_in(record),
        "value": value_in(result),
        "error": error_in(record),
        "traceback": result.traceback,
        "reason": record.get("reason"),
        "retries": number(record.get("retries")) or 0,
        "generation": number(record.get("generation")) or 1,
        "history": parse_history(record.get("history", "")),
        "copies": {queue: copy.state for queue, copy in result.copies.items()},
    }


def value_in(result: Result[Any]) -> Any:
    """The value of a task, or its ``update_state`` data; as text if it cannot be decoded."""
    state = result.state
    if state == State.RETRY or (state in FINAL and state != State.SUCCESS):
        return None
    try:
        return result.info
    except StreamqError as error:
        return f"<{error}>"


def runtime_in(record: dict[str, str]) -> float | None:
    """The seconds that a task ran; None if the record has none."""
    try:
        seconds = float(record.get("runtime", ""))
    except ValueError:
        return None
    return seconds if isfinite(seconds) else None


def error_in(record: dict[str, str]) -> str | None:
    """The exception that a task ended with; None if there is none."""
    if "error_type" not in record:
        return record.get("error")
    return f"{record['error_type']}: {record.get('error', '')}"


def show(about: dict[str, Any]) -> None:
    """Print a result as text: its facts, then the value or the traceback."""
    task = f"{about['task']}  " if about["task"] else ""
    show_facts(
        f"{task}{about['id']}  {about['state']}",
        {
            "queue": about["queue"],
            "worker": about["worker"],
            "enqueued": time_of(about["enqueued"]),
            "due": time_of(about["eta"]),
            "retries": about["retries"] or None,
            "generation": about["generation"] if about["generation"] != 1 else None,
            "started": time_of(about["started"]),
            "finished": time_of(about["finished"]),
            "ran": None if about["runtime"] is None else format_duration(about["runtime"]),
            "reason": about["reason"],
            "history": "\n".join(history_lines(about["history"])) or None,
            "copies": "\n".join(f"{q}: {state}" for q, state in about["copies"].items()) or None,
            "error": None if about["traceback"] else about["error"],
        },
    )
    if about["traceback"]:
        say(about["traceback"].rstrip(), lines=True)
    elif about["state"] == State.SUCCESS and not about["copies"]:
        say("→ " + inline(about["value"]))
    elif about["state"] == State.UNKNOWN:
        say("  never sent, forgotten, or its result has expired")


def time_of(seconds: float | None) -> str | None:
    return None if seconds is None else format_time(seconds)
