"""``streamq redis``: runs any Redis command on the server of the app, and prints the reply."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import click

from streamq.cli.command import Command, GivenOptions
from streamq.cli.shared import app_if_any, document, say
from streamq.core.text import visible
from streamq.transport.connection import Connection
from streamq.transport.replies import Refused

#: Commands that block, as long as their arguments say.
BLOCKING = frozenset(
    {"BLPOP", "BRPOP", "BLMOVE", "BRPOPLPUSH", "BLMPOP", "BZPOPMIN", "BZPOPMAX", "BZMPOP"}
    | {"XREAD", "XREADGROUP", "WAIT", "WAITAOF"}
)
#: Commands with more than one reply, which cannot be shown.
ENDLESS = frozenset({"MONITOR", "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "SYNC", "PSYNC"})

#: Seconds to wait for a reply: to a slow command, and to one that blocks.
SLOW, BLOCKED = 60.0, 86_400.0


class Entry(NamedTuple):
    """One entry of a stream."""

    id: str
    fields: dict[str, Any]


@click.command(
    cls=Command, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.option("--json", "as_json", is_flag=True, help="For programs; stands before COMMAND.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def redis(context: click.Context, as_json: bool, command: tuple[str, ...]) -> None:
    """Run any Redis COMMAND on the server of the app, and print the answer.

    If the app uses the bundled server, that is started if it does not run.

    \b
    streamq redis XLEN {streamq}:queue:default
    streamq redis --json HGETALL {streamq}:task:ID
    """
    verb = command[0].upper()
    if verb in ENDLESS:
        raise click.UsageError(f"{verb} has no end: use redis-cli for it")
    connection = Connection(app_if_any(context.obj or GivenOptions()).url, name="cli")
    words = [word.encode(errors="surrogateescape") for word in command]
    try:
        reply = connection.ask(*words, timeout=BLOCKED if verb in BLOCKING else SLOW)
    except Refused as refusal:
        say(refusal, lines=True, err=True)
        context.exit(1)
    finally:
        connection.drop()
    answer = structure(verb, command[1:], reply)
    say(document(plain(answer)) if as_json else shown(answer), lines=True)


def structure(verb: str, arguments: tuple[str, ...], reply: Any) -> Any:
    """Turn a flat reply into hashes and entries of streams, as the command returns them."""
    about = (verb, arguments[0].upper() if arguments else "")
    value = texts(reply)
    if not isinstance(value, list):
        return value
    if verb == "HGETALL" or about in {("CONFIG", "GET"), ("XINFO", "STREAM")}:
        return pairs(value)
    if about in {("XINFO", "GROUPS"), ("XINFO", "CONSUMERS")}:
        return [pairs(row) for row in value]
    if verb in {"XRANGE", "XREVRANGE"}:
        return [entry(item) for item in value]
    if verb in {"XREAD", "XREADGROUP"}:
        return {stream: [entry(item) for item in items] for stream, items in value}
    return value


def texts(reply: Any) -> Any:
    """A reply with text instead of bytes; bytes that are not UTF-8 are escaped."""
    if isinstance(reply, bytes):
        return reply.decode(errors="backslashreplace").replace("\r\n", "\n")
    if isinstance(reply, list):
        return [texts(item) for item in reply]
    if isinstance(reply, Exception):
        return f"(error) {reply}"
    return reply


def pairs(flat: Any) -> Any:
    """A hash from its flat list; anything else as it is."""
    if not isinstance(flat, list) or len(flat) % 2:
        return flat
    return dict(zip(flat[::2], flat[1::2], strict=True))


def entry(item: Any) -> Any:
    """One entry of a stream; without fields if it was deleted while pending."""
    return Entry(item[0], pairs(item[1]) or {}) if isinstance(item, list) else item


def plain(value: Any) -> Any:
    """A reply as values that JSON can hold."""
    if isinstance(value, Entry):
        return {"id": value.id, "fields": value.fields}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def shown(value: Any) -> str:
    return "\n".join(lines(value))


def lines(value: Any) -> Iterator[str]:
    """A reply as lines of text: hashes in two columns, lists numbered, other values as they are."""
    match value:
        case None:
            yield "(nil)"
        case int():
            yield f"(integer) {value}"
        case Entry():
            yield value.id
            yield from ("  " + line for line in columns(value.fields))
        case dict() | list() if not value:
            yield "(empty)"
        case dict():
            yield from columns(value)
        case list():
            yield from numbered(value)
        case "":
            yield '""'
        case _:
            yield from (visible(line) for line in str(value).split("\n"))


def columns(fields: dict[str, Any]) -> Iterator[str]:
    labels = [visible(name, kept="\t") for name in fields]
    width = max(map(len, labels), default=0)
    for label, value in zip(labels, fields.values(), strict=True):
        inner = [str(value)] if isinstance(value, int) else lines(value)
        yield from beside(f"{label:<{width}}  ", inner)


def numbered(items: list[Any]) -> Iterator[str]:
    """Lines numbered as redis-cli does; entries of a stream have their id instead."""
    width = len(str(len(items)))
    for number, item in enumerate(items, 1):
        label = "" if isinstance(item, Entry) else f"{number:>{width}}) "
        yield from beside(label, lines(item))


def beside(label: str, inner: Any) -> Iterator[str]:
    """A label with lines to the right of it."""
    for index, line in enumerate(inner):
        yield (" " * len(label) if index else label) + line
