"""``streamq dead export`` and ``import``: dead letters on their way between servers."""

import os
import sys
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import IO, Any

import click

from streamq.admin.dead_letter import Parcel, Which, from_line
from streamq.admin.dead_letters import AT_ONCE
from streamq.cli.command import FAILED, Command, Given
from streamq.cli.dead_select import choice, chosen, letters_of
from streamq.cli.shared import app_if_any, confirm, say, warn, yes
from streamq.core.text import count, grouped
from streamq.errors import DecodeError, StreamqError

#: What becomes of a letter that is imported, in words.
FATES = {
    "kept": "imported",
    "known": "known here already",
    "expired": "left out: died longer ago than dead_expires",
    "crowded": "left out: dead_max_length newer ones are here",
}


@click.command(cls=Command)
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
    if target is not None and os.path.isfile(target):
        confirm(f"{target} would be overwritten", yes=yes)
    lines = (line for name, names in found.items() for line in dead.export(name, names))
    written = write(lines, sys.stdout.buffer) if target is None else save(lines, target)
    say(f"{count(written, 'dead letter')} exported", err=True)


@click.command("import", cls=Command)
@click.argument("file", type=click.File("rb"), default="-")
@click.pass_context
def import_letters(ctx: click.Context, file: IO[bytes]) -> None:
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
    say(f"{count(fates.pop('kept'), 'dead letter')} imported")
    for fate, number in fates.items():
        if number:
            say(f"{grouped(number)} {FATES[fate]}")
    if dropped:
        say(f"{count(dropped, 'older letter')} dropped: dead_max_length is {most}")
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


def write(lines: Iterable[bytes], file: IO[bytes]) -> int:
    """Write lines as they come; return how many there were."""
    written = 0
    for line in lines:
        file.write(line + b"\n")
        written += 1
    file.flush()
    return written


def save(lines: Iterable[bytes], target: Path) -> int:
    """Write a file that is there only when all of it is written; or to a device, or a pipe."""
    try:
        if os.path.exists(target) and not os.path.isfile(target):
            with target.open("wb") as file:  # nothing may take the place of /dev/null
                return write(lines, file)
        unfinished = target.with_name(f".{target.name}.{os.getpid()}")
        with unfinished.open("xb") as file:
            try:
                written = write(lines, file)
                unfinished.replace(target)
            except BaseException:
                unfinished.unlink()
                raise
    except StreamqError:
        raise
    except (OSError, ValueError) as error:  # no name for a file, a folder, a full disk
        reason = getattr(error, "strerror", None) or str(error)
        raise StreamqError(f"cannot write {target}: {reason}") from error
    return written
