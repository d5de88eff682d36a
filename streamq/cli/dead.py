"""``streamq dead``: messages that could not be run."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

import click

from streamq.admin.dead_letter import Letter, Which, readable, seconds_in
from streamq.app import App
from streamq.cli.command import FAILED, Command, Given, Group
from streamq.cli.dead_export import export, import_letters
from streamq.cli.dead_select import (
    choice,
    chosen,
    everything,
    filters,
    letters_of,
    no_letter,
    queues_of,
)
from streamq.cli.shared import (
    NotThere,
    app_if_any,
    as_json,
    confirm,
    inline,
    moment,
    print_json,
    say,
    span,
    story,
    warn,
    yes,
)
from streamq.cli.shared import most as at_most
from streamq.cli.tables import show_facts, show_list
from streamq.core.text import count, grouped, visible
from streamq.errors import StreamqError
from streamq.routing import Queue

#: In which order a message is shown; what is not here comes last.
ORDER = {name: at for at, name in enumerate((b"id", b"task", b"args", b"kwargs"))}

#: Fields of a message that are moments in milliseconds.
TIMES = frozenset({"enqueued", "eta", "expires", "stale"})

limit = click.option("-n", "--limit", "most", type=at_most, default=50, show_default=True,
                     help="How many of each queue, the newest first.")  # fmt: skip


@click.group(cls=Group)
def dead() -> None:
    """Messages that could not be run: look, retry, delete, move."""


dead.add_command(export)
dead.add_command(import_letters)


@dead.command(cls=Command)
@click.argument("queue", required=False)
@filters
@limit
@as_json
@click.pass_obj
def ls(given: Given, /, queue: str | None, most: int, as_json: bool, **told: Any) -> None:
    """List dead letters, of QUEUE or of all queues, the newest first."""
    dead, which = letters_of(app_if_any(given)), Which(**told)
    pages = {name: dead.newest(name, most, which) for name in queues_of(dead, queue)}
    show_list(
        [letter for page in pages.values() for letter in page.letters],
        ("queue", "letter", "task", "reason", "since", "error"),
        row_of,
        empty="no such dead letters" if which != Which() else "no dead letters",
        as_json=as_json,
    )
    for name, page in pages.items():
        if page.older:
            more = "more to look through" if which.looks_inside else "more"
            say(f"… and {grouped(page.older)} {more} in {name}: --limit", err=as_json)


@dead.command(cls=Command)
@click.argument("queue")
@click.argument("letter")
@as_json
@click.pass_obj
def show(given: Given, queue: str, letter: str, as_json: bool) -> None:
    """Show one dead letter: the whole message, and why it lies here."""
    app = app_if_any(given)
    dead = letters_of(app)
    queues_of(dead, queue)
    found = dead.one(queue, letter)
    if found is None:
        raise no_letter(dead, queue, [letter])
    if as_json:
        print_json(asdict(found))
        return
    age = span(dead.now() / 1000 - found.at)
    show_facts(
        f"{found.task}  {letter}  in {queue}",
        {
            "reason": found.reason,
            "error": found.error or None,
            "worker": found.worker or None,
            "enqueued": moment(found.enqueued) if found.enqueued else None,
            "died": f"{moment(found.at)}, {age} ago",
            **{name: note(name, value) for name, value in found.notes.items()},
        },
    )
    if found.traceback:
        say(found.traceback.rstrip(), lines=True)
    say("message")
    for _, raw in dead.raw(queue, [letter.encode()]):
        for name, value in message_in(raw, app):
            say(f"  {visible(name, kept=''):<13} {value}", lines=True)
    if found.history:
        say("died before")
    for line in story(found.history):
        say(f"  {line}", lines=True)
    place = f"{queue} {letter}"
    say(f"→ streamq dead retry {place}   ·   streamq dead delete {place}")


@dead.command(cls=Command)
@choice
@everything
@click.pass_context
def retry(
    ctx: click.Context,
    /,
    queue: str | None,
    letters: tuple[str, ...],
    all_of_them: bool,
    **told: Any,
) -> None:
    """Put dead letters into their queue again, as new generations of their tasks.

    They keep their ids; crashes and retries count from zero again.
    """
    app = app_if_any(ctx.obj)
    dead = letters_of(app)
    stayed = 0
    for name, names in chosen(dead, queue, letters, all_of_them, **told).items():
        declare_again(app, name)
        done = dead.revive(name, names)
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
@choice
@everything
@yes
@click.pass_obj
def delete(
    given: Given,
    /,
    queue: str | None,
    letters: tuple[str, ...],
    all_of_them: bool,
    yes: bool,
    **told: Any,
) -> None:
    """Delete dead letters for good."""
    dead = letters_of(app_if_any(given))
    found = chosen(dead, queue, letters, all_of_them, **told)
    doomed = [f"{count(len(names), 'dead letter')} of {name}" for name, names in found.items()]
    if doomed:
        confirm(f"{' and '.join(doomed)} would be deleted", yes=yes)
    for name, names in found.items():
        say(f"{count(dead.discard(name, names), 'dead letter')} deleted from {name}")


def declare_again(app: App, name: str) -> None:
    """Make sure that a queue is declared; if it is not, this app must declare it."""
    if name in app.store.topology.queues():
        return
    ours = {queue.name: queue for queue in app.queues or [Queue(app.conf.task_default_queue)]}
    if name not in ours:
        raise NotThere(
            f"queue {name!r} is not declared: nobody would read what is put there",
            known={"declared by this app": ", ".join(ours)},
            advice=[f"start a worker for it first: streamq worker -Q {name}",
                    "or say with -A which app declares it"],
        )  # fmt: skip
    app.store.topology.declare([ours[name]])


def message_in(raw: Mapping[bytes, bytes], app: App) -> Iterator[tuple[str, str]]:
    """The fields of a letter's message: arguments as JSON where they are, the rest escaped."""
    json_only = replace(app.payloads, accept=("json",))
    manner = [raw.get(name) for name in (b"content_type", b"compression")]
    content, compression = [None if how is None else readable(how) for how in manner]
    for name, value in sorted(raw.items(), key=lambda field: ORDER.get(field[0], len(ORDER))):
        if name in (b"args", b"kwargs"):
            with suppress(StreamqError, ValueError):  # numbers of thousands of digits
                value = inline(json_only.read(value, content, compression)).encode()
        elif readable(name) in TIMES:
            value = note(readable(name), readable(value)).encode()
        if not name.startswith(b"dead_") and name != b"history":
            yield readable(name), readable(value)


def row_of(letter: Letter) -> tuple[str, ...]:
    """One line about a letter."""
    error, died = letter.error.partition("\n")[0], moment(letter.at)
    return letter.queue, letter.letter, letter.task, letter.reason, died, error


def note(name: str, value: str) -> str:
    """What else was written down, times as clocks show them; most of these end in ``_at``."""
    at = seconds_in(value) if name.endswith("_at") or name in TIMES else None
    return value if at is None else moment(at)
