"""A message: one call on its way, as the fields that travel.

On the wire a message is flat text: ``id``, ``task``, ``args``, ``kwargs``, then only what
differs from the default, so that a person with redis-cli reads it, and a message typed by
hand runs.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from streamq.routing import canonical

JSON = "application/json"


#: The arguments of ``publish.lua`` for one message.
Publication = tuple[str | bytes | int, ...]
#: Signs a message: its id, its queue and its fields.
Sign = Callable[[bytes, bytes, Mapping[bytes, bytes]], bytes]


class Envelope:
    """What all calls of one task with the same options have in common.

    Made once; a call then adds its id and its arguments without looking at an option again.
    """

    def __init__(
        self,
        *,
        task: str,
        exchange: str,
        routing_key: str,
        priority: str = "",
        keep: bool = True,
        headers: Mapping[str, Any] | None = None,
        dedup_window: float = 0.0,
        due: str = "",
        expires: str = "",
        serializer: str = "json",
        compression: str | None = None,
        extra: tuple[str | bytes, ...] = (),
        sign: Sign | None = None,
        confirm: str = "server",
    ) -> None:
        self.exchange = exchange
        self.routing_key = routing_key
        self.keep = keep
        self.confirm = confirm
        self.window = int(dedup_window * 1000)
        self.serializer = serializer
        self.compression = compression
        self.plain = (serializer, compression) == ("json", None)
        self.short = not (exchange or priority or headers or due or expires or sign)
        #: What stands in every publication: before the id, after the window, after kwargs.
        self.address = (exchange, routing_key)
        count = 3 + len(extra) // 2 + (sign is not None)
        self.middle = (
            *("1" if keep else "0", priority, due, expires, *header_arguments(headers), count),
            *("task", task, "args"),
        )
        self.task = task
        self.expires = expires
        self.extra = extra
        self.sign = sign
        #: What the messages of one call of ``push.lua`` share.
        self.shared = (routing_key, int(keep), task, len(extra) // 2, *extra)

    def publication(
        self, id: str, args: bytes, kwargs: bytes, *, given: bool, expires: str | None = None
    ) -> Publication:
        """The arguments of ``publish.lua`` for one message.

        ``given`` says that the caller chose the id, so that the server accepts it once within
        the dedup window and as long as its task has not ended.  ``expires`` is the moment that
        a signature covers, where the envelope only knows a time from now.
        """
        window = (self.window or "none") if given else 0
        middle, extra = self.middle, self.extra
        if expires is not None:
            middle = (*middle[:3], expires, *middle[4:])
        if self.sign is not None:
            moment = self.expires if expires is None else expires
            extra = self.signed(self.sign, id, args, kwargs, moment)
        return (*self.address, id, window, *middle, args, "kwargs", kwargs, *extra)

    @property
    def lasts(self) -> float | None:
        """Seconds for which a signed message may wait, if its signature needs the moment."""
        relative = self.sign is not None and self.expires.startswith("+")
        return int(self.expires[1:]) / 1000 if relative else None

    def signed(
        self, sign: Sign, id: str, args: bytes, kwargs: bytes, expires: str
    ) -> tuple[str | bytes, ...]:
        """The further fields of a message, its signature among them."""
        parts = [part.encode() if isinstance(part, str) else part for part in self.extra]
        fields = dict(zip(parts[::2], parts[1::2], strict=True))
        fields |= {b"task": self.task.encode(), b"args": args, b"kwargs": kwargs}
        if expires:
            fields[b"expires"] = expires.encode()
        signature = sign(id.encode(), self.routing_key.encode(), fields)
        return (*self.extra, "signature", signature)


def from_now(seconds: float) -> str:
    """A moment so many seconds from now, by the server's clock, as the script takes it."""
    return f"+{round(seconds * 1000)}"


def at_moment(moment: datetime, zone: str) -> str:
    """A moment as the script takes it; a naive one is in this time zone."""
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=ZoneInfo(zone))
    return str(max(0, round(aware.timestamp() * 1000)))


def header_arguments(headers: Mapping[str, Any] | None) -> tuple[str | int, ...]:
    """Headers as the server compares them: how many, then name and tagged value."""
    if not headers:
        return (0,)
    pairs = [text for name, value in headers.items() for text in (name, canonical(value))]
    return (len(headers), *pairs)
