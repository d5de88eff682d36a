"""``streamq dead``: lists, shows, retries, deletes, exports and imports dead letters."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

import click

from streamq.admin.dead_letter import DeadLetter, DeadLetterFilter, readable, seconds_in
from streamq.app import App
from streamq.cli.command import FAILED, Command, GivenOptions, Group
from streamq.cli.dead_export import export, import_letters
from streamq.cli.dead_select import (
    everything,
    filters,
    letters_of,
    no_letter,
    queues_of,
    selected_letters,
    selection,
)
from streamq.cli.shared import (
    COUNT,
    UnknownName,
    app_if_any,
    as_json,
    confirm,
    format_duration,
    format_time,
    history_lines,
    inline,
    print_json,
    say,
    warn,
    yes,
)
from streamq.cli.tables import show_facts, show_list
from streamq.core.text import count, grouped, visible
from streamq.errors import StreamqError
from streamq.routing import Queue

#: Field of a message → its place when it is shown; other fields come last.
ORDER = {name: at for at, name in enumerate((b"id", b"task", b"args", b"kwargs"))}

#: Fields of a message that are times in milliseconds.
TIMES = frozenset({"enqueued", "eta", "expires", "stale"})

limit = click.option("-n", "--limit", "most", type=COUNT, default=50, show_default=True,
                     help="How many of each queue, the newest first.")  # fmt: skip


@click.group(cls=Group)
def dead() -> None:
    """List, retry, delete and move dead letters."""


dead.add_command(export)
dead.add_command(import_letters)


@dead.command(cls=Command)
@click.argument("queue", required=False)
@filters
@limit
@as_json
@click.pass_obj
def ls(
    given: GivenOptions, /, queue: str | None, most: int, as_json: bool, **conditions: Any
) -> None:
    """List dead letters, of QUEUE or of all queues, the newest first."""
    dead, filter = letters_of(app_if_any(given)), DeadLetterFilter(**conditions)
    pages = {name: dead.newest(name, most, filter) for name in queues_of(dead, queue)}
    show_list(
        [letter for page in pages.values() for letter in page.letters],
        ("queue", "letter", "task", "reason", "since", "error"),
        row_of,
        empty="no such dead letters" if filter != DeadLetterFilter() else "no dead letters",
        as_json=as_json,
    )
    for name, page in pages.items():
        if page.older:
            more = "more to look through" if filter.needs_fields else "more"
            say(f"… and {grouped(page.older)} {more} in {name}: --limit", err=as_json)


@dead.command(cls=Command)
@click.argument("queue")
@click.argument("letter")
@as_json
@click.pass_obj
def show(given: GivenOptions, queue: str, letter: str, as_json: bool) -> None:
    """Show one dead letter: the whole message, and the reason."""
    app = app_if_any(given)
    dead = letters_of(app)
    queues_of(dead, queue)
    found = dead.get(queue, letter)
    if found is None:
        raise no_letter(dead, queue, [letter])
    if as_json:
        print_json(asdict(found))
        return
    age = format_duration(dead.now() / 1000 - found.at)
    show_facts(
        f"{found.task}  {letter}  in {queue}",
        {
            "reason": found.reason,
            "error": found.error or None,
            "worker": found.worker or None,
            "enqueued": format_time(found.enqueued) if found.enqueued else None,
            "died": f"{format_time(found.at)}, {age} ago",
            **{name: note(name, value) for name, value in found.notes.items()},
        },
    )
    if found.traceback:
        say(found.traceback.rstrip(), lines=True)
    say("message")
    for _, raw in dead.hashes(queue, [letter.encode()]):
        for name, value in message_in(raw, app):
            say(f"  {visible(name, kept=''):<13} {value}", lines=True)
    if found.history:
        say("died before")
    for line in history_lines(found.history):
        say(f"  {line}", lines=True)
    arguments = f"{queue} {letter}"
    say(f"→ streamq dead retry {arguments}   ·   streamq dead delete {arguments}")


@dead.command(cls=Command)
@selection
@everything
@click.pass_context
def retry(
    ctx: click.Context,
    /,
    queue: str | None,
    letters: tuple[str, ...],
    all_of_them: bool,
    **conditions: Any,
) -> None:
    """Put dead letters into their queue again, as new generations of their tasks.

    They keep their ids; crashes and retries count from zero again.
    """
    app = app_if_any(ctx.obj)
    dead = letters_of(app)
    stayed = 0
    for name, names in selected_letters(dead, queue, letters, all_of_them, **conditions).items():
        declare_again(app, name)
        done = dead.retry(name, names)
        without = f", {done.unexpired} without their expiry, which had passed"
        say(
            f"{count(done.waiting, 'message')} waiting in {name} again"
            + (without if done.unexpired else "")
        )
        for letter in done.too_large:
            warn(f"{letter} stays: more fields than can be added to a queue at once")
        for letter, state in done.in_use.items():
            warn(f"{letter} stays: its id is used again, by a task that is {state} now")
        stayed += len(done.too_large) + len(done.in_use)
    ctx.exit(FAILED if stayed else 0)


@dead.command(cls=Command)
@selection
@everything
@yes
@click.pass_obj
def delete(
    given: GivenOptions,
    /,
    queue: str | None,
    letters: tuple[str, ...],
    all_of_them: bool,
    yes: bool,
    **conditions: Any,
) -> None:
    """Delete dead letters for good."""
    dead = letters_of(app_if_any(given))
    found = selected_letters(dead, queue, letters, all_of_them, **conditions)
    to_delete = [f"{count(len(names), 'dead letter')} of {name}" for name, names in found.items()]
    if to_delete:
        confirm(f"{' and '.join(to_delete)} would be deleted", yes=yes)
    for name, names in found.items():
        say(f"{count(dead.delete(name, names), 'dead letter')} deleted from {name}")


def declare_again(app: App, name: str) -> None:
    """Declare a queue that is not declared, if it is one of this app.  Raises UnknownName."""
    if name in app.broker.topology.queues():
        return
    ours = {queue.name: queue for queue in app.queues or [Queue(app.conf.task_default_queue)]}
    if name not in ours:
        raise UnknownName(
            f"queue {name!r} is not declared: no worker would read it",
            known={"declared by this app": ", ".join(ours)},
            advice=[f"start a worker for it first: streamq worker -Q {name}",
                    "or name with -A the app that declares it"],
        )  # fmt: skip
    app.broker.topology.declare([ours[name]])


def message_in(raw: Mapping[bytes, bytes], app: App) -> Iterator[tuple[str, str]]:
    """The fields of a letter's message: arguments as JSON if possible, the others escaped."""
    json_only = replace(app.payloads, accept=("json",))
    policy = [raw.get(name) for name in (b"content_type", b"compression")]
    content, compression = [None if how is None else readable(how) for how in policy]
    for name, value in sorted(raw.items(), key=lambda field: ORDER.get(field[0], len(ORDER))):
        if name in (b"args", b"kwargs"):
            with suppress(StreamqError, ValueError):  # numbers of thousands of digits
                value = inline(json_only.read(value, content, compression)).encode()
        elif readable(name) in TIMES:
            value = note(readable(name), readable(value)).encode()
        if not name.startswith(b"dead_") and name != b"history":
            yield readable(name), readable(value)


def row_of(letter: DeadLetter) -> tuple[str, ...]:
    """The row of a letter in a table."""
    error, died = letter.error.partition("\n")[0], format_time(letter.at)
    return letter.queue, letter.letter, letter.task, letter.reason, died, error


def note(name: str, value: str) -> str:
    """The value of a field; times, most of which end in ``_at``, as local time."""
    at = seconds_in(value) if name.endswith("_at") or name in TIMES else None
    return value if at is None else format_time(at)
