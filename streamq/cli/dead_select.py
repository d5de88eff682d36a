"""Which dead letters a command is about: found by queue, name, task, reason and age."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from streamq.admin.dead_letter import Which
from streamq.admin.dead_letters import DeadLetters
from streamq.app import App
from streamq.cli.shared import NotThere, duration, not_there, warn

F = TypeVar("F", bound=Callable[..., Any])

#: The names of letters by their queue.
Chosen = dict[str, list[bytes]]


ABOUT = {
    "--task": ("NAME", "Name of the task, or a glob: 'mail.*'.", None),
    "--reason": ("TEXT", "Part of the reason, or a glob.", None),
    "--older": ("AGE", "Died more than 5m, 2d … ago.", duration),
    "--newer": ("AGE", "Died less than 5m, 2d … ago.", duration),
}


def filters(command: F) -> F:
    """Options that say which letters are meant; the command gets them as keywords of Which."""
    for name, (metavar, help, callback) in reversed(ABOUT.items()):
        command = click.option(name, metavar=metavar, help=help, callback=callback)(command)
    return command


def choice(command: F) -> F:
    """What may say which letters are meant: a queue, letters of it, filters."""
    queue = click.argument("queue", required=False)
    letters = click.argument("letters", nargs=-1, metavar="[LETTER]…")
    return queue(letters(filters(command)))


everything = click.option("--all", "all_of_them", is_flag=True, help="Every one there is.")


def letters_of(app: App) -> DeadLetters:
    return DeadLetters(app.store.client, app.store.keys)


def queues_of(dead: DeadLetters, queue: str | None) -> list[str]:
    """The queue that was named, else all that have dead letters.  Raises NotThere."""
    counts = dead.queues()
    if queue is None:
        return [name for name, letters in counts.items() if letters]
    if queue not in counts:
        raise not_there("queue", queue, counts)
    return [queue]


def chosen(
    dead: DeadLetters,
    queue: str | None,
    letters: tuple[str, ...],
    all_of_them: bool,
    **told: Any,
) -> Chosen:
    """The letters that are meant, by queue.  Raises NotThere if one of them is not there."""
    which = Which(**told)
    filtered = which != Which()
    if (letters and (filtered or all_of_them)) or not (letters or filtered or all_of_them):
        raise click.UsageError("say which: QUEUE LETTER…, filters such as --task, or --all")
    queues = queues_of(dead, queue)
    if not letters:
        found = {name: dead.names(name, which) for name in queues}
        if not any(found.values()):
            warn("no such dead letters" if filtered else "no dead letters")
        return {name: names for name, names in found.items() if names}
    wanted = list(dict.fromkeys(letter.encode() for letter in letters))
    there = dead.there(queues[0], wanted)
    missing = [letter.decode() for letter in wanted if letter not in there]
    if missing:
        raise no_letter(dead, queues[0], missing)
    return {queues[0]: wanted}


def no_letter(dead: DeadLetters, queue: str, missing: list[str]) -> NotThere:
    """An error about letters that are not there, with the one that may have been meant."""
    newest = [letter.letter for letter in dead.newest(queue, 100).letters]
    said = not_there("dead letter", missing[0], newest)
    return NotThere(
        f"no dead letter of {queue}: {', '.join(missing)}",
        advice=[*str(said).split("\n  → ")[1:], f"streamq dead ls {queue}"],
    )
