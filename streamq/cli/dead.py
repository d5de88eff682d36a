"""``streamq dead``: messages that could not be run."""

from dataclasses import asdict
from typing import Any

import click

from streamq.app import App
from streamq.cli.base import Command, Given, Group, visible
from streamq.cli.common import (
    NotThere,
    app_if_any,
    as_json,
    confirm,
    inspector_of,
    moment,
    not_there,
    print_json,
    yes,
)
from streamq.cli.tables import show_facts, show_table
from streamq.store.letters import DeadLetters
from streamq.units import count

everything = click.option("--all", "all_of_them", is_flag=True, help="Every one of the queue.")


@click.group(cls=Group)
def dead() -> None:
    """Messages that could not be run: look, retry, delete."""


@dead.command(cls=Command)
@click.argument("queue", required=False)
@click.option(
    "-n",
    "--limit",
    "most",
    type=click.IntRange(1),
    default=50,
    show_default=True,
    help="How many of each queue, the newest first.",
)
@as_json
@click.pass_obj
def ls(given: Given, queue: str | None, most: int, as_json: bool) -> None:
    """List dead letters, of QUEUE or of all queues."""
    app = app_if_any(given)
    dead = letters_of(app)
    if queue is None:
        states = inspector_of(app).queues()
        queues = {state.name: state.dead for state in states if state.dead}
    else:
        queues = {queue: len(dead.names(queue))}
    letters = [letter for name in queues for letter in dead.newest(name, most)]
    if as_json:
        print_json([asdict(letter) for letter in letters])
        return
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
        empty="no dead letters",
    )
    hidden = sum(queues.values()) - len(letters)
    if hidden > 0:
        click.echo(f"… and {hidden} more: -n {len(letters) + hidden}")


@dead.command(cls=Command)
@click.argument("queue")
@click.argument("letter")
@as_json
@click.pass_obj
def show(given: Given, queue: str, letter: str, as_json: bool) -> None:
    """Show one dead letter: the whole message, and why it lies here."""
    dead = letters_of(app_if_any(given))
    found = dead.one(queue, letter)
    if found is None:
        raise not_there(f"dead letter of {queue}:", letter, dead.names(queue))
    if as_json:
        print_json(asdict(found))
        return
    facts: dict[str, Any] = {
        "reason": found.reason,
        "error": found.error or None,
        "since": moment(found.at),
        "worker": found.worker or None,
    }
    show_facts(f"{found.task}  {letter}  in {queue}", facts)
    click.echo("message")
    for name, value in found.fields.items():
        click.echo(f"  {name:<13} {visible(value)}")
    click.echo(f"→ streamq dead retry {queue} {letter}   ·   streamq dead delete {queue} {letter}")


@dead.command(cls=Command)
@click.argument("queue")
@click.argument("letters", nargs=-1)
@everything
@click.pass_obj
def retry(given: Given, queue: str, letters: tuple[str, ...], all_of_them: bool) -> None:
    """Put dead letters into QUEUE again, as new generations of their tasks."""
    dead = letters_of(app_if_any(given))
    done = dead.revive(queue, chosen(dead, queue, letters, all_of_them))
    click.echo(f"{count(done, 'message')} waiting in {queue} again")


@dead.command(cls=Command)
@click.argument("queue")
@click.argument("letters", nargs=-1)
@everything
@yes
@click.pass_obj
def delete(
    given: Given, queue: str, letters: tuple[str, ...], all_of_them: bool, yes: bool
) -> None:
    """Delete dead letters for good."""
    dead = letters_of(app_if_any(given))
    names = chosen(dead, queue, letters, all_of_them)
    if names:
        confirm(f"{count(len(names), 'dead letter')} of {queue} would be deleted", yes=yes)
    done = dead.discard(queue, names)
    click.echo(f"{count(done, 'dead letter')} deleted from {queue}")


def chosen(dead: DeadLetters, queue: str, letters: tuple[str, ...], all_of_them: bool) -> list[str]:
    """The letters that are meant.  Raises NotThere if one of them is not there."""
    if bool(letters) == all_of_them:
        raise click.UsageError("say which: LETTER…, or --all")
    known = dead.names(queue)
    if all_of_them:
        return known
    missing = [letter for letter in letters if letter not in known]
    if missing:
        raise NotThere(
            f"no dead letter of {queue}: {', '.join(missing)}",
            advice=[f"streamq dead ls {queue}"],
        )
    return list(dict.fromkeys(letters))


def letters_of(app: App) -> DeadLetters:
    return DeadLetters(app.store.client, app.store.keys)


def first_line(text: str) -> str:
    return text.partition("\n")[0]
