"""Queues, exchanges and bindings by kombu's names: they are those of streamq.

What a queue of AMQP has and a stream of Redis does not, such as ``durable``, is taken and ignored.
"""

from collections.abc import Mapping
from typing import Any

from streamq.context import NotInThisVersion
from streamq.routing import Binding, Exchange, Queue


class KombuExchange(Exchange):
    """An exchange: ``Exchange("media", type="topic")``.  Without a name it is the default one."""

    __slots__ = ()

    def __init__(self, name: str = "", type: str = "", channel: Any = None, **ignored: Any) -> None:
        arguments = ignored.get("arguments") or {}
        super().__init__(
            name=name, type=type or "direct", alternate=arguments.get("alternate-exchange")
        )

    def __post_init__(self) -> None:
        if self.name:
            Exchange.__post_init__(self)


class KombuQueue(Queue):
    """A queue: ``Queue("images", Exchange("media"), routing_key="image.#")``."""

    __slots__ = ()

    def __init__(
        self,
        name: str = "",
        exchange: Any = None,
        routing_key: str = "",
        channel: Any = None,
        bindings: Any = None,
        on_declared: Any = None,
        **options: Any,
    ) -> None:
        limits = limits_of(options)
        arguments = options.get("binding_arguments")
        found = list(bindings or ())
        if isinstance(exchange, list | tuple | set | frozenset):  # Queue("images", [binding(…), …])
            found += exchange
            exchange = None
        source = exchange if getattr(exchange, "name", exchange) else None
        if source is not None and arguments:
            found.append(Binding(source, routing_key, dict(arguments)))
            source = None
        super().__init__(
            name=name,
            exchange=source,
            routing_key=(routing_key or None) if source is not None else None,
            bindings=tuple(found),
            **limits,
        )


#: Settings of a queue by the names in ``queue_arguments`` of AMQP.
ARGUMENTS = {
    "x-max-priority": "max_priority",
    "x-max-length": "max_length",
    "x-message-ttl": "message_ttl",
    "x-dead-letter-exchange": "dead_letter_exchange",
    "x-dead-letter-routing-key": "dead_letter_routing_key",
}


def limits_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a queue that streamq has too; times become seconds."""
    found = {name: options.get(name) for name in ARGUMENTS.values()}
    for argument, value in (options.get("queue_arguments") or {}).items():
        name = ARGUMENTS.get(argument)
        if name is not None and found[name] is None:
            found[name] = value / 1000 if name == "message_ttl" else value
    if found["max_priority"] is not None:  # AMQP has up to 255 levels
        found["max_priority"] = min(found["max_priority"], 9)
    return {name: value for name, value in found.items() if value is not None}


def binding(
    exchange: Any = None, routing_key: str = "", arguments: Any = None, **ignored: Any
) -> Binding:
    """Make a binding, for ``Queue(bindings=[…])``."""
    return Binding(exchange, routing_key, dict(arguments or {}))


class NotOfStreamq:
    """The base of kombu's classes that streamq does not have: making one says what there is."""

    instead = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        name = type(self).__name__.removeprefix("Kombu")
        raise NotInThisVersion(f"not in this version: kombu's {name}", advice=[self.instead])


class KombuConnection(NotOfStreamq):
    """A connection of kombu, which streamq does not have."""

    instead = "streamq doctor checks Redis; app.control.ping() asks workers"


class BrokerConnection(KombuConnection):
    """An old name of ``Connection``."""


class Producer(NotOfStreamq):
    """A producer of kombu, which streamq does not have."""

    instead = "app.send_task(name, args, kwargs) sends a call by name"


class KombuConsumer(NotOfStreamq):
    """A consumer of kombu, which streamq does not have."""

    instead = "streamq worker reads queues; streamq queues peek looks into one"


class Broadcast(NotOfStreamq):
    """A queue for every worker, which streamq does not have."""

    instead = "an exchange of type fanout, and a queue for each kind of worker"
