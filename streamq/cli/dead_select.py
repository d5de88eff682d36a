"""Selection of dead letters by queue, name, task, reason and age, for ``streamq dead``."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from streamq.admin.dead_letter import DeadLetterFilter
from streamq.admin.dead_letters import DeadLetters
from streamq.app import App
from streamq.cli.shared import UnknownName, duration, unknown_name, warn

F = TypeVar("F", bound=Callable[..., Any])

#: Queue → names of its selected letters.
Selected = dict[str, list[bytes]]


FILTER_OPTIONS = {
    "--task": ("NAME", "Name of the task, or a glob: 'mail.*'.", None),
    "--reason": ("TEXT", "Part of the reason, or a glob.", None),
    "--older": ("AGE", "Died more than 5m, 2d … ago.", duration),
    "--newer": ("AGE", "Died less than 5m, 2d … ago.", duration),
}


def filters(command: F) -> F:
    """Add the filter options; the command gets them as keywords of DeadLetterFilter."""
    for name, (metavar, help, callback) in reversed(FILTER_OPTIONS.items()):
        command = click.option(name, metavar=metavar, help=help, callback=callback)(command)
    return command


def selection(command: F) -> F:
    """Add all that selects letters: the arguments QUEUE and LETTER, and the filter options."""
    queue = click.argument("queue", required=False)
    letters = click.argument("letters", nargs=-1, metavar="[LETTER]…")
    return queue(letters(filters(command)))


everything = click.option("--all", "all_of_them", is_flag=True, help="All of them.")


def letters_of(app: App) -> DeadLetters:
    return DeadLetters(app.broker.client, app.broker.keys)


def queues_of(dead: DeadLetters, queue: str | None) -> list[str]:
    """The queue of the command line, else all that have dead letters.  Raises UnknownName."""
    counts = dead.queues()
    if queue is None:
        return [name for name, letters in counts.items() if letters]
    if queue not in counts:
        raise unknown_name("queue", queue, counts)
    return [queue]


def selected_letters(
    dead: DeadLetters,
    queue: str | None,
    letters: tuple[str, ...],
    all_of_them: bool,
    **conditions: Any,
) -> Selected:
    """The selected letters, by queue.  Raises UnknownName if a named letter does not exist."""
    filter = DeadLetterFilter(**conditions)
    filtered = filter != DeadLetterFilter()
    if (letters and (filtered or all_of_them)) or not (letters or filtered or all_of_them):
        raise click.UsageError("select letters: QUEUE LETTER…, filters such as --task, or --all")
    queues = queues_of(dead, queue)
    if not letters:
        found = {name: dead.names(name, filter) for name in queues}
        if not any(found.values()):
            warn("no such dead letters" if filtered else "no dead letters")
        return {name: names for name, names in found.items() if names}
    wanted = list(dict.fromkeys(letter.encode() for letter in letters))
    existing = dead.existing(queues[0], wanted)
    missing = [letter.decode() for letter in wanted if letter not in existing]
    if missing:
        raise no_letter(dead, queues[0], missing)
    return {queues[0]: wanted}


def no_letter(dead: DeadLetters, queue: str, missing: list[str]) -> UnknownName:
    """The error for letters that do not exist; suggests the nearest one."""
    newest = [letter.letter for letter in dead.newest(queue, 100).letters]
    error = unknown_name("dead letter", missing[0], newest)
    return UnknownName(
        f"no dead letter of {queue}: {', '.join(missing)}",
        advice=[*str(error).split("\n  → ")[1:], f"streamq dead ls {queue}"],
    )
