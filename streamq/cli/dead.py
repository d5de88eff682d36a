"""``streamq dead``: messages that could not be run."""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import IO, Any

import click

from streamq.app import App
from streamq.cli.base import FAILED, Command, Given, Group, visible
from streamq.cli.common import (
    NotThere,
    app_if_any,
    as_json,
    confirm,
    inline,
    moment,
    print_json,
    span,
    story,
    warn,
    yes,
)
from streamq.cli.letters import (
    choice,
    chosen,
    everything,
    filters,
    letters_of,
    no_letter,
    queues_of,
)
from streamq.cli.tables import show_facts, show_table
from streamq.errors import DecodeError, StreamqError
from streamq.letter import Parcel, Which, from_line, readable
from streamq.routing import Queue
from streamq.store.letters import AT_ONCE
from streamq.units import count

#: What becomes of a letter that is imported, in words.
FATES = {
    "kept": "imported",
    "known": "known here already",
    "expired": "left out: they died longer ago than dead_expires",
    "crowded": "left out: dead_max_length newer ones are here",
}

#: In which order a message is shown; what is not here comes last.
ORDER = {name: at for at, name in enumerate((b"id", b"task", b"args", b"kwargs"))}

limit = click.option("-n", "--limit", "most", type=click.IntRange(1), default=50, show_default=True,
                     help="How many of each queue, the newest first.")  # fmt: skip


@click.group(cls=Group)
def dead() -> None:
    """Messages that could not be run: look, retry, delete, move."""


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
    letters = [letter for page in pages.values() for letter in page.letters]
    if as_json:
        print_json([asdict(letter) for letter in letters])
    else:
        show_table(
            ("queue", "letter", "task", "reason", "since", "error"),
            [
                (
                    each.queue,
                    each.letter,
                    each.task,
                    each.reason,
                    moment(each.at),
                    first_line(each.error),
                )
                for each in letters
            ],
            empty="no such dead letters" if which != Which() else "no dead letters",
        )
    for name, page in pages.items():
        if page.older:
            more = "more to look through" if which.looks_inside else "more"
            click.echo(f"… and {page.older} {more} in {name}: --limit", err=as_json)


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
            **found.notes,
        },
    )
    if found.traceback:
        click.echo(visible(found.traceback.rstrip()))
    click.echo("message")
    for _, raw in dead.raw(queue, [letter.encode()]):
        for name, value in message_in(raw, app):
            click.echo(f"  {visible(name, kept=''):<13} {visible(value)}")
    if found.history:
        click.echo("died before")
    for line in story(found.history):
        click.echo(f"  {visible(line)}")
    click.echo(f"→ streamq dead retry {queue} {letter}   ·   streamq dead delete {queue} {letter}")


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
        click.echo(
            f"{count(done.waiting, 'message')} waiting in {name} again"
            + (without if done.unexpired else "")
        )
        for letter in done.too_large:
            warn(f"{letter} stays: more fields than can be added to a queue at once")
        stayed += len(done.too_large)
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
        click.echo(f"{count(dead.discard(name, names), 'dead letter')} deleted from {name}")


@dead.command(cls=Command)
@choice
@click.option("-o", "--output", metavar="FILE", help="Write there; else to the standard output.")
@yes
@click.pass_obj
def export(
    given: Given,
    /,
    queue: str | None,
    letters: tuple[str, ...],
    output: str | None,
    yes: bool,
    **told: Any,
) -> None:
    """Write dead letters as lines of JSON; they stay where they are.

    Without any further word, all there are.
    """
    dead = letters_of(app_if_any(given))
    no_word = not letters and Which(**told) == Which()
    found = chosen(dead, queue, letters, no_word, **told)
    target = None if output in (None, "-") else Path(str(output))
    if target is not None and target.exists():
        confirm(f"{target} would be overwritten", yes=yes)
    lines = (line for name, names in found.items() for line in dead.export(name, names))
    written = write(lines, sys.stdout.buffer) if target is None else save(lines, target)
    click.echo(f"{count(written, 'dead letter')} exported", err=True)


@dead.command("import", cls=Command)
@click.argument("file", type=click.File("rb"), default="-")
@click.pass_context
def import_(ctx: click.Context, file: IO[bytes]) -> None:
    """Keep the dead letters that `export` wrote to FILE, or that come in.

    They keep their ids, reasons and times.  What is here already is left as it is.
    """
    app = app_if_any(ctx.obj)
    most, life = app.conf.dead_max_length, app.conf.dead_expires
    fates, bad, dropped = dict.fromkeys(FATES, 0), 0, 0
    lines = ((at, line) for at, line in enumerate(file, 1) if line.strip())
    while some := list(islice(lines, AT_ONCE)):
        parcels, complaints = readable_of(some)
        for complaint in complaints:
            warn(complaint)
        bad += len(complaints)
        for fate, others in letters_of(app).import_letters(parcels, most=most, life=life):
            fates[fate] += 1
            dropped += others
    click.echo(f"{count(fates.pop('kept'), 'dead letter')} imported")
    for fate, number in fates.items():
        if number:
            click.echo(f"{number} {FATES[fate]}")
    if dropped:
        click.echo(f"{count(dropped, 'older letter')} dropped: dead_max_length is {most}")
    ctx.exit(FAILED if bad else 0)


def readable_of(lines: Iterable[tuple[int, bytes]]) -> tuple[list[Parcel], list[str]]:
    """What numbered lines hold, and what is wrong with those that hold nothing."""
    parcels, complaints = [], []
    for number, line in lines:
        try:
            parcels.append(from_line(line))
        except DecodeError as error:
            complaints.append(f"line {number}: {error}")
    return parcels, complaints


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
            with suppress(StreamqError):
                value = inline(json_only.read(value, content, compression)).encode()
        if not name.startswith(b"dead_") and name != b"history":
            yield readable(name), readable(value)


def write(lines: Iterable[bytes], file: IO[bytes]) -> int:
    """Write lines as they come; return how many there were."""
    written = 0
    for line in lines:
        file.write(line + b"\n")
        written += 1
    file.flush()
    return written


def save(lines: Iterable[bytes], target: Path) -> int:
    """Write a file that is there only when all of it is written."""
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        file = unfinished.open("xb")
    except OSError as error:
        raise StreamqError(f"cannot write {target}: {error.strerror}") from None
    try:
        with file:
            written = write(lines, file)
        unfinished.replace(target)
    except BaseException:
        unfinished.unlink()
        raise
    return written


def first_line(text: str) -> str:
    return text.partition("\n")[0]
