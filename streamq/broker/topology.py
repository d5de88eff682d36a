"""The topology in Redis: declaring, binding, unbinding and deleting queues and exchanges."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec

from streamq.acl.rights import require
from streamq.broker.protocol import PROTOCOL, check_protocol, protocol_question
from streamq.core.text import count
from streamq.errors import BrokerFull, ConfigError
from streamq.routing import Binding, Exchange, Queue, canonical, exchanges_of
from streamq.transport.client import Client
from streamq.transport.decode import settings_in, text, texts
from streamq.transport.keys import Keys
from streamq.transport.replies import Refused, WrongType
from streamq.transport.scripts import Script, load, refusal

DECLARE_EXCHANGE = load("declare_exchange")
DECLARE_QUEUE = load("declare_queue")
BIND = load("bind")
UNBIND = load("unbind")
DELETE_EXCHANGE = load("delete_exchange")
DELETE_QUEUE = load("delete_queue")
EXPLAIN_ROUTE = load("explain_route")
PUBLISH = load("publish")

logger = logging.getLogger("streamq.topology")


class Topology:
    """The exchanges, bindings and queues that are declared in Redis."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def declare(
        self, queues: Sequence[Queue], exchanges: Sequence[Exchange] = (), *, reason: str = ""
    ) -> None:
        """Declare queues with everything that leads to them, and further exchanges.

        Raises ConfigError, having done nothing, if the namespace is of another protocol, or if
        the user of the URL may not declare; the error contains the ``reason``.
        """
        (reply,) = self.client.try_all([protocol_question(self.keys)])
        check_protocol(reply, self.keys)
        self.require_right([queue.name for queue in queues], reason=reason)
        found = {exchange.name: exchange for exchange in [*exchanges_of(queues), *exchanges]}
        for exchange in found.values():
            self.declare_exchange(exchange)
        for exchange in found.values():
            for binding in exchange.bindings:
                self.bind(binding, "exchange", exchange.name)
        for queue in queues:
            self.declare_queue(queue)
            for binding in queue.every_binding():
                self.bind(binding, "queue", queue.name)

    def require_right(self, queues: Sequence[str], *, reason: str = "") -> None:
        """Check that the user of the URL may declare these queues.  Raises ConfigError."""
        require("declare", self.client, self.keys, queues, reason=reason)

    def declare_exchange(self, exchange: Exchange) -> None:
        """Declare an exchange.  Raises ConfigError if it exists with another type."""
        self.run(DECLARE_EXCHANGE, exchange.name, exchange.type, exchange.alternate or "")

    def declare_queue(self, queue: Queue) -> None:
        """Declare a queue; its newest settings count, and a change of them is logged."""
        settings = msgspec.json.encode(queue.settings()).decode()
        answer = self.run(DECLARE_QUEUE, queue.name, settings)
        if len(answer) > 1:
            before = text(answer[1])
            logger.warning("queue %s: settings %s replaced by %s", queue.name, before, settings)

    def restore(self, name: str, queue: Queue) -> None:
        """Create the streams of a queue that are missing, with the settings that it has.

        ``queue`` is declared if the server does not know it, or its settings are not readable.
        """
        settings = self.client.ask("HGET", self.keys.queues, name)
        if settings is not None:
            try:
                self.run(DECLARE_QUEUE, name, settings)
            except WrongType:
                raise
            except ConfigError:  # they were written by hand
                settings = None
        if settings is None:
            self.declare([queue])

    def bind(self, binding: Binding, kind: str, name: str) -> None:
        """Bind a queue or an exchange (``kind``) to the binding's exchange."""
        self.run(BIND, *binding_arguments(binding, kind, name))

    def unbind(self, binding: Binding, kind: str, name: str) -> bool:
        """Remove a binding; return whether there was one."""
        return bool(self.run(UNBIND, *binding_arguments(binding, kind, name)))

    def delete_exchange(self, name: str) -> bool:
        """Delete an exchange and every binding from and to it; return whether it existed."""
        return int(self.run(DELETE_EXCHANGE, name)) >= 0

    def delete_queue(self, name: str) -> bool:
        """Delete an empty queue and its bindings; return whether it existed."""
        return int(self.run(DELETE_QUEUE, name)) >= 0

    def explain(self, exchange: str, key: str, headers: dict[str, Any] | None = None) -> Any:
        """The bindings that match a key, and the queues that they lead to."""
        pairs = [
            part for name, value in (headers or {}).items() for part in (name, canonical(value))
        ]
        return self.run(EXPLAIN_ROUTE, exchange, key, *pairs)

    def queues(self) -> dict[str, dict[str, Any]]:
        """Every declared queue with its settings."""
        found = texts(self.client.ask("HGETALL", self.keys.queues))
        return {name: settings_in(data) for name, data in found.items()}

    def exchanges(self) -> dict[str, str]:
        """Every declared exchange with its type."""
        return texts(self.client.ask("HGETALL", self.keys.exchanges))

    def publish_interface(self) -> None:
        """Store the publish script in Redis, for producers in other languages.

        Raises ConfigError if a worker of another protocol version works in this namespace.
        """
        key = self.keys.script(PUBLISH.name)
        protocol, sha = self.client.ask("HMGET", key, "protocol", "sha")
        if sha is not None and text(sha) == PUBLISH.sha:
            return
        check_protocol(protocol, self.keys)
        fields = ("source", PUBLISH.text, "sha", PUBLISH.sha, "protocol", PROTOCOL)
        with suppress(BrokerFull):  # only workers can make room again
            self.client.ask("HSET", key, *fields)

    def run(self, script: Script, *argv: Any) -> Any:
        """Run a script of the topology; turn what it refuses into a ConfigError."""
        try:
            return self.client.call(script, self.keys.root, *argv)
        except WrongType:
            raise
        except Refused as error:
            raise refused(str(error)) from None


def binding_arguments(binding: Binding, kind: str, name: str) -> tuple[Any, ...]:
    """The arguments of bind.lua and unbind.lua."""
    pairs = [
        part for header, value in binding.arguments.items() for part in (header, canonical(value))
    ]
    return (binding.source, kind, name, binding.routing_key, *pairs)


def refused(text: str) -> ConfigError:
    """The error for a refusal of a script of the topology."""
    match refusal(text):
        case ["EXCHANGETYPE", name, declared, wanted]:
            return ConfigError(
                f"exchange {name!r} exists with another type",
                known={"declared": declared, "asked for": wanted},
                advice=[f"use type={declared!r}, another name, or streamq exchanges delete {name}"],
            )
        case ["NOEXCHANGE", name]:
            return ConfigError(f"there is no exchange {name!r}", advice=["declare it first"])
        case ["NOQUEUE", name]:
            return ConfigError(f"there is no queue {name!r}", advice=["declare it first"])
        case ["NOTEMPTY", name, held]:
            return ConfigError(
                f"queue {name!r} holds {count(int(held), 'message')}",
                advice=[f"streamq queues purge {name}, or wait until they have run"],
            )
        case ["DEFAULTEXCHANGE"] | ["ERR", "DEFAULTEXCHANGE"]:  # Redis wants two words
            return ConfigError("nothing is bound to the default exchange: it routes by queue name")
        case ["ARGUMENTS", exchange, kind]:
            return ConfigError(
                f"a binding to {exchange!r} has arguments, but that exchange is of type {kind}",
                advice=["only headers exchanges look at arguments"],
            )
        case [code, *words]:
            return ConfigError(f"refused: {code} {' '.join(words)}")
        case _:
            return ConfigError(f"refused: {text}")
