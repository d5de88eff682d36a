"""``streamq dead export`` and ``import``: move dead letters between servers."""

import os
import sys
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import IO, Any

import click

from streamq.admin.dead_letter import DeadLetterFilter, ExportedLetter, from_line
from streamq.admin.dead_letters import AT_ONCE
from streamq.cli.command import FAILED, Command, GivenOptions
from streamq.cli.dead_select import letters_of, selected_letters, selection
from streamq.cli.shared import app_if_any, confirm, say, warn, yes
from streamq.core.text import count, grouped
from streamq.errors import DecodeError, StreamqError

#: Answer of import_letter.lua → what the command prints.
IMPORT_RESULTS = {
    "kept": "imported",
    "known": "known here already",
    "expired": "left out: died longer ago than dead_expires",
    "full": "left out: dead_max_length newer ones are here",
}


@click.command(cls=Command)
@selection
@click.option("-o", "--output", metavar="FILE", help="Write there; else to the standard output.")
@yes
@click.pass_obj
def export(
    given: GivenOptions,
    /,
    queue: str | None,
    letters: tuple[str, ...],
    output: str | None,
    yes: bool,
    **conditions: Any,
) -> None:
    """Write dead letters as lines of JSON; they stay where they are.

    Without arguments and filters, all of them.
    """
    dead = letters_of(app_if_any(given))
    unfiltered = not letters and DeadLetterFilter(**conditions) == DeadLetterFilter()
    found = selected_letters(dead, queue, letters, unfiltered, **conditions)
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

    They keep their ids, reasons and times.  Letters that are here already stay unchanged.
    """
    app = app_if_any(ctx.obj)
    most, life = app.conf.dead_max_length, app.conf.dead_expires
    answers, bad, dropped = dict.fromkeys(IMPORT_RESULTS, 0), 0, 0
    lines = ((at, line) for at, line in enumerate(file, 1) if line.strip())
    while page := list(islice(lines, AT_ONCE)):
        letters, errors = decode_lines(page)
        for error in errors:
            warn(error)
        bad += len(errors)
        for answer, others in letters_of(app).import_letters(letters, most=most, life=life):
            answers[answer] += 1
            dropped += others
    say(f"{count(answers.pop('kept'), 'dead letter')} imported")
    for answer, number in answers.items():
        if number:
            say(f"{grouped(number)} {IMPORT_RESULTS[answer]}")
    if dropped:
        say(f"{count(dropped, 'older letter')} dropped: dead_max_length is {most}")
    ctx.exit(FAILED if bad else 0)


def decode_lines(lines: Iterable[tuple[int, bytes]]) -> tuple[list[ExportedLetter], list[str]]:
    """Decode numbered lines.  Returns the letters, and an error for each line that is none."""
    letters, errors = [], []
    for number, line in lines:
        try:
            letters.append(from_line(line))
        except DecodeError as error:
            errors.append(f"line {number}: {error}")
    return letters, errors


def write(lines: Iterable[bytes], file: IO[bytes]) -> int:
    """Write lines as they come.  Returns how many there were."""
    written = 0
    for line in lines:
        file.write(line + b"\n")
        written += 1
    file.flush()
    return written


def save(lines: Iterable[bytes], target: Path) -> int:
    """Write lines to a file, a device or a pipe.  Returns how many there were.

    A file appears only when it is complete.  Raises StreamqError if it cannot be written.
    """
    try:
        if os.path.exists(target) and not os.path.isfile(target):
            with target.open("wb") as file:  # a device such as /dev/null must not be replaced
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
    except (OSError, ValueError) as error:  # not a file name, a missing folder, a full disk
        reason = getattr(error, "strerror", None) or str(error)
        raise StreamqError(f"cannot write {target}: {reason}") from error
    return written
