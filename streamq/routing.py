"""Routing declarations: exchanges, queues and bindings, and the rules for names.

Routing itself happens on the server, in ``scripts/lua/includes/route.lua``, so that
every producer in every language sees the same topology.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from streamq.core.text import nearest
from streamq.core.units import seconds
from streamq.errors import ConfigError

EXCHANGE_TYPES = ("direct", "topic", "fanout", "headers")
HEADER_MATCHES = ("all", "any", "all-with-x", "any-with-x")

#: Characters not allowed in names: they would be ambiguous in keys and ids such as ``ID@QUEUE``.
FORBIDDEN = frozenset("@:{}")
LONGEST_NAME = 200


def check_name(name: str, what: str) -> str:
    """Return ``name`` if it may name a queue, an exchange or a task; else raise ConfigError."""
    if not isinstance(name, str):
        raise ConfigError(f"{what} must be text, not {type(name).__name__}")
    size = len(name.encode(errors="replace"))
    bad = sorted({c for c in name if c in FORBIDDEN or c < " " or c == "\x7f"})
    if not 1 <= size <= LONGEST_NAME or bad:
        raise ConfigError(
            f"{what} {name[:60]!r} cannot be used",
            known={"allowed": f"1–{LONGEST_NAME} bytes, no @ : {{ }} and no control characters"},
        )
    return name


def canonical(value: Any) -> str:
    """Write a header value as the tagged text that the server compares byte for byte.

    Tags keep 1, 1.0, "1" and True apart, as AMQP's typed header tables do.
    """
    match value:
        case None:
            return "v:"
        case bool():
            return "b:true" if value else "b:false"
        case int():
            return f"i:{value}"
        case float():
            return f"f:{value!r}"
        case str():
            return f"s:{value}"
        case _:
            return "j:" + msgspec.json.encode(value).decode()


@dataclass(frozen=True, slots=True)
class Exchange:
    """An exchange: accepts messages and decides which queues get a copy.

    ``type`` is direct, topic, fanout or headers; ``alternate`` names the exchange that
    gets what this one cannot route; ``bindings`` bind this exchange to others.
    """

    name: str
    type: str = "direct"
    alternate: str | None = None
    bindings: Sequence["Binding"] = ()

    def __post_init__(self) -> None:
        check_name(self.name, "exchange name")
        if self.type not in EXCHANGE_TYPES:
            hint = nearest(str(self.type), EXCHANGE_TYPES)
            raise ConfigError(
                f"exchange {self.name!r}: unknown type {self.type!r}",
                known={"types": ", ".join(EXCHANGE_TYPES)},
                advice=[f"did you mean {hint!r}?"] if hint else (),
            )
        if self.alternate is not None:
            check_name(self.alternate, "alternate exchange")


@dataclass(frozen=True, slots=True)
class Binding:
    """A binding: the route from an exchange to a queue or to another exchange.

    ``arguments`` are for headers exchanges: the headers asked for, and ``x-match``.
    """

    exchange: Exchange | str
    routing_key: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        match = self.arguments.get("x-match", "all")
        if match not in HEADER_MATCHES:
            raise ConfigError(
                f"binding to {self.source!r}: unknown x-match {match!r}",
                known={"x-match": ", ".join(HEADER_MATCHES)},
            )

    @property
    def source(self) -> str:
        """The name of the exchange."""
        return self.exchange.name if isinstance(self.exchange, Exchange) else self.exchange


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue: a Redis stream of messages for workers, and its bindings.

    ``max_priority`` (1–9) opens priority levels, ``max_length`` bounds the queue,
    ``message_ttl`` is how long a message may wait in it, in seconds, a timedelta or text.
    Dead letters are published to ``dead_letter_exchange`` instead of being kept, with
    ``dead_letter_routing_key`` or else the key of the message.
    """

    name: str
    exchange: Exchange | str | None = None
    routing_key: str | None = None
    bindings: Sequence[Binding] = ()
    max_priority: int | None = None
    max_length: int | None = None
    message_ttl: Any = None
    dead_letter_exchange: "Exchange | str | None" = None
    dead_letter_routing_key: str | None = None

    def __post_init__(self) -> None:
        check_name(self.name, "queue name")
        if self.message_ttl is not None:
            seconds(self.message_ttl, f"queue {self.name!r}: message_ttl")
        if self.dead_letter_exchange is not None:
            check_name(self.dead_letter_exchange_name, "dead-letter exchange")
        elif self.dead_letter_routing_key is not None:
            raise ConfigError(
                f"queue {self.name!r} has a dead_letter_routing_key but no dead_letter_exchange"
            )
        for limit, most in (("max_priority", 9), ("max_length", 2**53)):
            value = getattr(self, limit)
            if value is not None and not (type(value) is int and 1 <= value <= most):
                raise ConfigError(
                    f"queue {self.name!r}: {limit} must be 1 to {most}, not {value!r}"
                )
        for binding in self.bindings:
            if not isinstance(binding, Binding):
                raise ConfigError(
                    f"queue {self.name!r}: a binding must be a Binding, not {binding!r}",
                    advice=['Binding(exchange, "orders.#")'],
                )
        if self.routing_key is not None and self.exchange is None:
            raise ConfigError(
                f"queue {self.name!r} has a routing_key but no exchange",
                advice=[f"Queue({self.name!r}, Exchange(…), routing_key={self.routing_key!r})"],
            )

    def every_binding(self) -> list[Binding]:
        """The bindings, with that of ``exchange`` and ``routing_key``."""
        if self.exchange is None:
            return list(self.bindings)
        key = self.routing_key if self.routing_key is not None else self.name
        return [Binding(self.exchange, key), *self.bindings]

    def settings(self) -> dict[str, Any]:
        """The settings of the queue for the server, in milliseconds where they are times."""
        found: dict[str, Any] = {}
        if self.max_priority is not None:
            found["max_priority"] = self.max_priority
        if self.max_length is not None:
            found["max_length"] = self.max_length
        if self.message_ttl is not None:
            found["message_ttl"] = round(seconds(self.message_ttl, "message_ttl") * 1000)
        if self.dead_letter_exchange is not None:
            found["dead_letter_exchange"] = self.dead_letter_exchange_name
        if self.dead_letter_routing_key is not None:
            found["dead_letter_routing_key"] = self.dead_letter_routing_key
        return found

    @property
    def dead_letter_exchange_name(self) -> str:
        """The name of the dead-letter exchange."""
        exchange = self.dead_letter_exchange
        return exchange.name if isinstance(exchange, Exchange) else exchange or ""


def exchanges_of(queues: Sequence[Queue]) -> list[Exchange]:
    """The declared exchanges that lead to the queues, each once."""
    found: dict[str, Exchange] = {}

    def visit(binding: Binding) -> None:
        exchange = binding.exchange
        if isinstance(exchange, Exchange) and exchange.name not in found:
            found[exchange.name] = exchange
            for upstream in exchange.bindings:
                visit(upstream)

    for queue in queues:
        for binding in queue.every_binding():
            visit(binding)
        if isinstance(queue.dead_letter_exchange, Exchange):
            visit(Binding(queue.dead_letter_exchange))
    return list(found.values())
