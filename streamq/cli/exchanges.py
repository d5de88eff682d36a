"""``streamq exchanges``: shows and changes exchanges and bindings."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import click

from streamq.admin.inspector import BindingState, ExchangeState, Inspector
from streamq.app import App
from streamq.cli.command import Command, GivenOptions, Group
from streamq.cli.shared import (
    UnknownName,
    app_if_any,
    as_json,
    confirm,
    inspector_of,
    pairs_of,
    print_json,
    say,
    unknown_name,
    usage_errors,
    yes,
)
from streamq.cli.tables import show_facts, show_list, show_table
from streamq.core.text import count
from streamq.routing import EXCHANGE_TYPES, HEADER_MATCHES, Binding, Exchange
from streamq.transport.decode import arguments_in, text

#: The values that ``explain_route.lua`` returns for each step.
STEP_FIELDS = ("exchange", "type", "why", "to", "key", "headers")

header = click.option("--header", "headers", metavar="NAME=VALUE", multiple=True,
                      help="A header, again for each; values are JSON, else text.")  # fmt: skip
match = click.option("--match", type=click.Choice(HEADER_MATCHES), help="How headers must match.")


@click.group(cls=Group)
def exchanges() -> None:
    """Show and change exchanges and their bindings."""


@exchanges.command(cls=Command)
@as_json
@click.pass_obj
def ls(given: GivenOptions, as_json: bool) -> None:
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
def show(given: GivenOptions, exchange: str, as_json: bool) -> None:
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
    given: GivenOptions,
    exchange: str,
    target: str,
    key: str,
    headers: tuple[str, ...],
    match: str | None,
    type: str | None,
) -> None:
    """Bind a queue, or another exchange, to EXCHANGE.

    If a queue and an exchange have the same name, write queue:NAME or exchange:NAME.
    """
    app = app_if_any(given)
    topology = app.broker.topology
    topology.require_right(())
    kind, name = resolved(app, target)
    if type is not None:
        with usage_errors():
            declared = Exchange(exchange, type=type)
        topology.declare_exchange(declared)
    known = topology.exchanges()
    if exchange not in known:
        raise unknown_name("exchange", exchange, known)
    binding = binding_of(exchange, key, headers, match)
    topology.bind(binding, kind, name)
    say(f"{exchange}  {binding_text(key, binding.arguments)} → {name}")


@exchanges.command(cls=Command)
@click.argument("exchange")
@click.argument("target", metavar="QUEUE|EXCHANGE")
@click.argument("key", required=False)
@header
@match
@yes
@click.pass_obj
def unbind(
    given: GivenOptions,
    exchange: str,
    target: str,
    key: str | None,
    headers: tuple[str, ...],
    match: str | None,
    yes: bool,
) -> None:
    """Remove a binding.  Its key and headers may be left out if there is only one.

    Else it is described exactly as it was bound.
    """
    app = app_if_any(given)
    state = state_of(inspector_of(app), exchange)
    kind, name = resolved(app, target)
    there = [each for each in state.bindings if (each.kind, each.name) == (kind, name)]
    if key is None and not headers and match is None and len(there) == 1:
        key, asked = there[0].key, there[0].arguments
    else:
        key, asked = key or "", dict(binding_of(exchange, key or "", headers, match).arguments)
    wanted = BindingState(exchange=exchange, kind=kind, name=name, key=key, arguments=asked)
    if wanted not in there:
        bound = [binding_text(each.key, each.arguments) for each in there]
        raise UnknownName(
            f"{name} is not bound to {exchange} with {binding_text(key, asked)}",
            known={"bound": ", ".join(bound) or "not at all"},
        )
    confirm(
        f"1 binding, {exchange}  {binding_text(key, asked)} → {name}, would be removed", yes=yes
    )
    app.broker.topology.unbind(Binding(exchange, key, asked), kind, name)
    say(f"removed: {exchange}  {binding_text(key, asked)} → {name}")


@exchanges.command(cls=Command)
@click.argument("exchange")
@yes
@click.pass_obj
def delete(given: GivenOptions, exchange: str, yes: bool) -> None:
    """Delete an exchange with the bindings from it and to it."""
    app = app_if_any(given)
    inspector = inspector_of(app)
    state_of(inspector, exchange)
    removed = [
        binding
        for state in inspector.exchanges()
        for binding in state.bindings
        if exchange == state.name or (binding.kind, binding.name) == ("exchange", exchange)
    ]
    confirm(f"exchange {exchange} with {count(len(removed), 'binding')} would be deleted", yes=yes)
    app.broker.topology.delete_exchange(exchange)
    say(f"{exchange} deleted, and {count(len(removed), 'binding')} with it")


@exchanges.command(cls=Command)
@click.argument("exchange")
@click.argument("key", default="")
@header
@as_json
@click.pass_obj
def route(
    given: GivenOptions, exchange: str, key: str, headers: tuple[str, ...], as_json: bool
) -> None:
    """Show where a message with this KEY would go, and why.  Sends nothing."""
    app = app_if_any(given)
    inspector = inspector_of(app)
    if exchange:
        state_of(inspector, exchange)
    reply = app.broker.topology.explain(exchange, key, pairs_of(headers, "--header"))
    queues = [name for name in text(reply[0]).split(":") if name]
    steps: list[dict[str, Any]] = [
        dict(zip(STEP_FIELDS, map(text, step), strict=True)) for step in reply[1:]
    ]
    for step in steps:
        step["headers"] = arguments_in(step["headers"])
    if as_json:
        print_json({"exchange": exchange, "key": key, "queues": queues, "steps": steps})
        return
    for step in steps:
        where = step["exchange"] or "default exchange"
        why = {"alternate": "(no match: alternate)", "default": "(queue name)"}.get(step["why"])
        matched = why or binding_text(step["key"], step["headers"])
        say(f"  ✓ {where}  {matched} → {step['to'].partition(':')[2]}")
    others = not_taken(inspector, exchange, steps)
    if others:
        say(f"  ✗ {count(others, 'other binding')} of {exchange}")
    say(f"→ {', '.join(queues)}" if queues else "→ nowhere: a producer gets Unroutable")


def not_taken(inspector: Inspector, exchange: str, steps: list[dict[str, Any]]) -> int:
    """The number of bindings of an exchange that do not match."""
    states = [state for state in inspector.exchanges() if state.name == exchange]
    taken = sum(1 for step in steps if (step["exchange"], step["why"]) == (exchange, "binding"))
    return len(states[0].bindings) - taken if states else 0


def state_of(inspector: Inspector, exchange: str) -> ExchangeState:
    """The state of one exchange.  Raises UnknownName."""
    found = {state.name: state for state in inspector.exchanges()}
    if exchange not in found:
        raise unknown_name("exchange", exchange, found)
    return found[exchange]


def resolved(app: App, target: str) -> tuple[str, str]:
    """The kind of a target, ``queue`` or ``exchange``, and its name.  Raises UnknownName."""
    kind, _, name = target.rpartition(":")
    queues, exchanges = app.broker.topology.queues(), app.broker.topology.exchanges()
    kinds = [
        each
        for each, names in (("queue", queues), ("exchange", exchanges))
        if name in names and kind in ("", each)
    ]
    if not kinds:
        raise unknown_name(kind or "queue or exchange", name, [*queues, *exchanges])
    if len(kinds) > 1:
        raise click.UsageError(
            f"{name} is a queue and an exchange: write queue:{name} or exchange:{name}"
        )
    return kinds[0], name


def binding_of(exchange: str, key: str, headers: tuple[str, ...], match: str | None) -> Binding:
    """The binding that the options describe."""
    arguments = pairs_of(headers, "--header")
    if match is not None:
        arguments["x-match"] = match
    with usage_errors():
        return Binding(exchange, key, arguments)


def target_of(binding: BindingState) -> str:
    return binding.name if binding.kind == "queue" else f"exchange {binding.name}"


def binding_text(key: str, arguments: Mapping[str, Any]) -> str:
    """A binding as text: its key and its header arguments."""
    return "  ".join(filter(None, (key, arguments_of(arguments)))) or "(no key)"


def arguments_of(arguments: Mapping[str, Any]) -> str:
    return "  ".join(f"{name}={value}" for name, value in arguments.items())
