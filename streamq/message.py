"""A message: one call on its way, as the fields that travel.

On the wire a message is flat text: ``id``, ``task``, ``args``, ``kwargs``, then only what
differs from the default, so that a person with redis-cli reads it, and a message typed by
hand runs.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from streamq.routing import canonical

JSON = "application/json"


def new_id() -> str:
    """A new task id: 26 hexadecimal digits that sort by time.

    11 digits of milliseconds since 1970, then 60 random bits from the system.
    """
    chance = int.from_bytes(os.urandom(8), "big") >> 4
    return f"{time.time_ns() // 1_000_000:011x}{chance:015x}"


def own_id(queue: str, entry: str) -> str:
    """The id of a message that was added without one, by hand for instance."""
    return f"{queue}-{entry}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What all calls of one task with the same options have in common.

    Made once; ``address`` and ``fields`` then give the arguments of ``publish.lua`` for a
    call without looking at an option again.
    """

    exchange: str
    routing_key: str
    priority: str = ""
    keep: bool = True
    headers: Mapping[str, Any] | None = None
    dedup_window: float = 0.0
    serializer: str = "json"
    compression: str | None = None
    #: Fields that differ from the default, flat: name, value, name, value …
    extra: tuple[str | bytes, ...] = ()

    def publication(
        self, id: str, task: str, args: bytes, kwargs: bytes, *, given: bool
    ) -> tuple[str | bytes | int, ...]:
        """The arguments of ``publish.lua`` for one message.

        ``given`` says that the caller chose the id, so that the server remembers it for
        the dedup window.
        """
        window = int(self.dedup_window * 1000) if given else 0
        return (
            *(self.exchange, self.routing_key, id, window, "1" if self.keep else "0"),
            self.priority,
            *self.header_arguments(),
            *(3 + len(self.extra) // 2, "task", task, "args", args, "kwargs", kwargs),
            *self.extra,
        )

    def header_arguments(self) -> tuple[str | int, ...]:
        """The headers as the server compares them: how many, then name and tagged value."""
        if not self.headers:
            return (0,)
        pairs = [text for name, value in self.headers.items() for text in (name, canonical(value))]
        return (len(self.headers), *pairs)
