"""``streamq queues``: shows, purges, repairs and deletes queues."""

from dataclasses import asdict
from typing import Any

import click

from streamq.admin.inspector import Inspector, QueueState, WaitingMessage
from streamq.admin.repair import Repair
from streamq.broker.readers import advice_to_read
from streamq.cli.command import Command, GivenOptions, Group
from streamq.cli.shared import (
    COUNT,
    UnknownName,
    app_if_any,
    as_json,
    confirm,
    format_duration,
    inspector_of,
    print_json,
    say,
    timeout,
    unknown_name,
    yes,
)
from streamq.cli.tables import show_facts, show_list, show_table
from streamq.core.text import count, grouped, shortened
from streamq.errors import StreamqError
from streamq.host import clock

#: Seconds to wait for a message that a worker holds.
PATIENCE = 30.0


@click.group(cls=Group, later=("pause", "resume"))
def queues() -> None:
    """List queues; look into them, purge, repair and delete them."""


@queues.command(cls=Command)
@as_json
@click.pass_obj
def ls(given: GivenOptions, as_json: bool) -> None:
    """List the queues."""
    inspector = inspector_of(app_if_any(given))
    states = inspector.queues()
    show_list(
        states,
        ("queue", "ready", "running", "dead", "workers", "settings"),
        lambda each: (
            each.name, each.ready, each.running, each.dead,
            "–" if each.workers is None else each.workers, settings_of(each),
        ),
        empty="no queue is declared yet: a worker declares those it reads",
        as_json=as_json,
    )  # fmt: skip
    if (later := inspector.scheduled()) and not as_json:
        say(f"and {count(later, 'message')} for later, in all queues")
    for state in states if not as_json else ():
        if state.workers == 0 and state.ready:
            say(advice_to_read(state.name))


@queues.command(cls=Command)
@click.argument("queue")
@as_json
@click.pass_obj
def show(given: GivenOptions, queue: str, as_json: bool) -> None:
    """Show one queue: its messages, settings, bindings and consumers."""
    inspector = inspector_of(app_if_any(given))
    state = state_of(inspector, queue)
    consumers = inspector.consumers(queue)
    bindings = [
        binding
        for exchange in inspector.exchanges()
        for binding in exchange.bindings
        if (binding.kind, binding.name) == ("queue", queue)
    ]
    if as_json:
        print_json(
            asdict(state)
            | {"bindings": [asdict(binding) for binding in bindings]}
            | {"readers": [asdict(each) for each in consumers]}
        )
        return
    lines = [f"{each.exchange}  {each.key}" for each in bindings]
    show_facts(
        queue,
        {
            "ready": state.ready,
            "running": state.running,
            "dead": state.dead,
            "settings": settings_of(state) or None,
            "bindings": "\n".join(lines) or None,
        },
    )
    show_table(
        ("consumer", "holds", "silent for"),
        [(each.name, each.running, format_duration(each.idle)) for each in consumers],
        empty="no worker reads this queue",
    )


@queues.command(cls=Command)
@click.argument("queue")
@click.option("-n", "--count", "most", type=COUNT, default=10, show_default=True)
@as_json
@click.pass_obj
def peek(given: GivenOptions, queue: str, most: int, as_json: bool) -> None:
    """Show the messages that are read next, and leave them there."""
    inspector = inspector_of(app_if_any(given))
    state_of(inspector, queue)
    now = clock.time()
    show_list(
        inspector.peek(queue, most),
        ("id", "task", "args", "kwargs", "waits for", "stream"),
        lambda message: row_of(message, now),
        empty="nothing waits",
        as_json=as_json,
    )


@queues.command(cls=Command)
@click.argument("queue")
@yes
@click.pass_obj
def purge(given: GivenOptions, queue: str, yes: bool) -> None:
    """Remove the messages that wait; their tasks end as REVOKED.

    Messages that run stay, and so do scheduled ones, which are in no queue yet.
    """
    app = app_if_any(given)
    inspector = inspector_of(app)
    state = state_of(inspector, queue)
    if state.ready:
        confirm(f"{count(state.ready, 'message')} in {queue} would be removed", yes=yes)
    removed = inspector.purge(queue, app.conf.result_expires)
    say(f"{count(removed, 'message')} removed from {queue}")
    if later := inspector.scheduled():
        say(f"left for later, in all queues: {count(later, 'message')}")


@queues.command(cls=Command)
@click.argument("queue")
@yes
@click.pass_obj
def delete(given: GivenOptions, queue: str, yes: bool) -> None:
    """Delete a queue with what waits in it and the bindings to it.

    Refused while messages are running: a message that a worker has read is not taken from it.
    """
    app = app_if_any(given)
    inspector = inspector_of(app)
    state = state_of(inspector, queue)
    if state.running:
        raise StreamqError(
            f"queue {queue!r} cannot be deleted: {count(state.running, 'message')} running",
            known={"waiting": state.ready},
            advice=["wait until they have run, or stop its workers: they hand them back"],
        )
    confirm(f"queue {queue} with {count(state.ready, 'message')} would be deleted", yes=yes)
    removed = inspector.purge(queue, app.conf.result_expires)
    if not app.broker.topology.delete_queue(queue):
        raise UnknownName(f"queue {queue!r} is gone already")
    say(f"{queue} deleted, and {count(removed, 'message')} with it")
    if state.dead:
        say(f"dead letters that stay: {state.dead}   → streamq dead ls {queue}")


@queues.command(cls=Command)
@click.argument("queue")
@timeout
@click.pass_obj
def repair(given: GivenOptions, queue: str, timeout: float | None) -> None:
    """Give a queue that is out of ids fresh streams.

    Nothing is lost and nothing runs twice: what waits stays in its order, and workers settle
    what they run as before.  Waits, 30 seconds unless --timeout says otherwise, for a message
    that has one of the last ids and is running.
    """
    app = app_if_any(given)
    state_of(inspector_of(app), queue)
    task = Repair(app.broker.client, app.broker.keys, queue)
    done = task.run(PATIENCE if timeout is None else timeout)
    if not done.streams:
        say(f"{queue} has ids left: nothing was to be repaired")
        return
    moved = f", and {grouped(done.moved)} of the oldest go first" if done.moved else ""
    say(f"fresh: {', '.join(done.streams)} with {count(done.kept, 'message')}{moved}")


def state_of(inspector: Inspector, queue: str) -> QueueState:
    """The state of one queue.  Raises UnknownName."""
    found = inspector.queues([queue])
    if not found:
        raise unknown_name("queue", queue, [state.name for state in inspector.queues()])
    return found[0]


def settings_of(state: QueueState) -> str:
    return "  ".join(f"{name}={value}" for name, value in state.settings.items())


def row_of(message: WaitingMessage, now: float) -> tuple[Any, ...]:
    """The row of a message in a table; its entry's id holds the time at which it was added."""
    fields = message.fields
    waits = format_duration(now - int(message.entry.partition("-")[0]) / 1000)
    args, kwargs = (shortened(fields.get(name, ""), 60) for name in ("args", "kwargs"))
    return message.id, fields.get("task", "–"), args, kwargs, waits, message.stream
