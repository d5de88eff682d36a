"""``streamq exchanges``: where messages go, and changing it."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import click

from streamq.admin.inspector import Bound, ExchangeState, Inspector
from streamq.app import App
from streamq.cli.command import Command, Given, Group
from streamq.cli.shared import (
    NotThere,
    app_if_any,
    as_json,
    confirm,
    inspector_of,
    not_there,
    pairs_of,
    print_json,
    say,
    typed,
    yes,
)
from streamq.cli.tables import show_facts, show_list, show_table
from streamq.core.text import count
from streamq.routing import EXCHANGE_TYPES, HEADER_MATCHES, Binding, Exchange
from streamq.transport.decode import arguments_in, text

#: What ``explain_route.lua`` says of each step.
STEP = ("exchange", "type", "why", "to", "key", "headers")

header = click.option("--header", "headers", metavar="NAME=VALUE", multiple=True,
                      help="A header, again for each; values are JSON, else text.")  # fmt: skip
match = click.option("--match", type=click.Choice(HEADER_MATCHES), help="How headers must match.")


@click.group(cls=Group)
def exchanges() -> None:
    """Where messages go: exchanges and their bindings."""


@exchanges.command(cls=Command)
@as_json
@click.pass_obj
def ls(given: Given, as_json: bool) -> None:
    """List the exchanges."""
    show_list(
        inspector_of(app_if_any(given)).exchanges(),
        ("exchange", "type", "bindings", "alternate"),
        lambda each: (each.name, each.type, len(each.bindings), each.alternate or ""),
        empty="no exchange is declared; the default one routes by queue name",
        as_json=as_json,
    )


@exchanges.command(cls=Command)
@click.argument("exchange")
@as_json
@click.pass_obj
def show(given: Given, exchange: str, as_json: bool) -> None:
    """Show one exchange and its bindings."""
    state = state_of(inspector_of(app_if_any(given)), exchange)
    if as_json:
        print_json(asdict(state))
        return
    show_facts(f"{state.type} exchange {exchange}", {"alternate": state.alternate})
    show_table(
        ("key", "to", "headers"),
        [(each.key, target_of(each), arguments_of(each.arguments)) for each in state.bindings],
        empty="nothing is bound to it",
    )


@exchanges.command(cls=Command)
@click.argument("exchange")
@click.argument("target", metavar="QUEUE|EXCHANGE")
@click.argument("key", default="")
@header
@match
@click.option("--type", "type", type=click.Choice(EXCHANGE_TYPES), help="Declare EXCHANGE first.")
@click.pass_obj
def bind(
    given: Given,
    exchange: str,
    target: str,
    key: str,
    headers: tuple[str, ...],
    match: str | None,
    type: str | None,
) -> None:
    """Bind a queue, or another exchange, to EXCHANGE.

    Where a queue and an exchange have the same name, say queue:NAME or exchange:NAME.
    """
    app = app_if_any(given)
    topology = app.store.topology
    topology.require_right(())
    kind, name = resolved(app, target)
    if type is not None:
        with typed():
            declared = Exchange(exchange, type=type)
        topology.declare_exchange(declared)
    known = topology.exchanges()
    if exchange not in known:
        raise not_there("exchange", exchange, known)
    binding = binding_of(exchange, key, headers, match)
    topology.bind(binding, kind, name)
    say(f"{exchange}  {said(key, binding.arguments)} → {name}")


@exchanges.command(cls=Command)
@click.argument("exchange")
@click.argument("target", metavar="QUEUE|EXCHANGE")
@click.argument("key", default="")
@header
@match
@yes
@click.pass_obj
def unbind(
    given: Given,
    exchange: str,
    target: str,
    key: str,
    headers: tuple[str, ...],
    match: str | None,
    yes: bool,
) -> None:
    """Remove a binding, said exactly as it was bound."""
    app = app_if_any(given)
    state = state_of(inspector_of(app), exchange)
    kind, name = resolved(app, target)
    binding = binding_of(exchange, key, headers, match)
    asked = dict(binding.arguments)
    wanted = Bound(exchange=exchange, kind=kind, name=name, key=key, arguments=asked)
    if wanted not in state.bindings:
        there = [said(each.key, each.arguments) for each in state.bindings if each.name == name]
        raise NotThere(
            f"{name} is not bound to {exchange} with {said(key, asked)}",
            known={"bound": ", ".join(there) or "not at all"},
        )
    confirm(f"1 binding, {exchange}  {said(key, asked)} → {name}, would be removed", yes=yes)
    app.store.topology.unbind(binding, kind, name)
    say(f"removed: {exchange}  {said(key, asked)} → {name}")


@exchanges.command(cls=Command)
@click.argument("exchange")
@yes
@click.pass_obj
def delete(given: Given, exchange: str, yes: bool) -> None:
    """Delete an exchange with the bindings from it and to it."""
    app = app_if_any(given)
    inspector = inspector_of(app)
    state_of(inspector, exchange)
    lost = [
        binding
        for state in inspector.exchanges()
        for binding in state.bindings
        if exchange == state.name or (binding.kind, binding.name) == ("exchange", exchange)
    ]
    confirm(f"exchange {exchange} with {count(len(lost), 'binding')} would be deleted", yes=yes)
    app.store.topology.delete_exchange(exchange)
    say(f"{exchange} deleted, and {count(len(lost), 'binding')} with it")


@exchanges.command(cls=Command)
@click.argument("exchange")
@click.argument("key", default="")
@header
@as_json
@click.pass_obj
def route(given: Given, exchange: str, key: str, headers: tuple[str, ...], as_json: bool) -> None:
    """Say where a message with this KEY would go, and why.  Sends nothing."""
    app = app_if_any(given)
    inspector = inspector_of(app)
    if exchange:
        state_of(inspector, exchange)
    reply = app.store.topology.explain(exchange, key, pairs_of(headers, "--header"))
    queues = [name for name in text(reply[0]).split(":") if name]
    steps: list[dict[str, Any]] = [
        dict(zip(STEP, map(text, step), strict=True)) for step in reply[1:]
    ]
    for step in steps:
        step["headers"] = arguments_in(step["headers"])
    if as_json:
        print_json({"exchange": exchange, "key": key, "queues": queues, "steps": steps})
        return
    for step in steps:
        where = step["exchange"] or "default exchange"
        why = {"alternate": "(no match: alternate)", "default": "(queue name)"}.get(step["why"])
        matched = why or said(step["key"], step["headers"])
        say(f"  ✓ {where}  {matched} → {step['to'].partition(':')[2]}")
    others = not_taken(inspector, exchange, steps)
    if others:
        say(f"  ✗ {count(others, 'other binding')} of {exchange}")
    say(f"→ {', '.join(queues)}" if queues else "→ nowhere: a producer gets Unroutable")


def not_taken(inspector: Inspector, exchange: str, steps: list[dict[str, Any]]) -> int:
    """How many bindings of an exchange do not match."""
    every = [state for state in inspector.exchanges() if state.name == exchange]
    taken = sum(1 for step in steps if (step["exchange"], step["why"]) == (exchange, "binding"))
    return len(every[0].bindings) - taken if every else 0


def state_of(inspector: Inspector, exchange: str) -> ExchangeState:
    """The state of one exchange.  Raises NotThere."""
    found = {state.name: state for state in inspector.exchanges()}
    if exchange not in found:
        raise not_there("exchange", exchange, found)
    return found[exchange]


def resolved(app: App, target: str) -> tuple[str, str]:
    """Whether a name is a queue's or an exchange's, and the name."""
    kind, _, name = target.rpartition(":")
    queues, exchanges = app.store.topology.queues(), app.store.topology.exchanges()
    kinds = [
        each
        for each, names in (("queue", queues), ("exchange", exchanges))
        if name in names and kind in ("", each)
    ]
    if not kinds:
        raise not_there(kind or "queue or exchange", name, [*queues, *exchanges])
    if len(kinds) > 1:
        raise click.UsageError(
            f"{name} is a queue and an exchange: say queue:{name} or exchange:{name}"
        )
    return kinds[0], name


def binding_of(exchange: str, key: str, headers: tuple[str, ...], match: str | None) -> Binding:
    """The binding that the options describe."""
    arguments = pairs_of(headers, "--header")
    if match is not None:
        arguments["x-match"] = match
    with typed():
        return Binding(exchange, key, arguments)


def target_of(binding: Bound) -> str:
    return binding.name if binding.kind == "queue" else f"exchange {binding.name}"


def said(key: str, arguments: Mapping[str, Any]) -> str:
    """What a binding asks for."""
    return "  ".join(filter(None, (key, arguments_of(arguments)))) or "(no key)"


def arguments_of(arguments: Mapping[str, Any]) -> str:
    return "  ".join(f"{name}={value}" for name, value in arguments.items())
