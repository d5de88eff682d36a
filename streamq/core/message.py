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


class MessageTemplate:
    """A message template: all that calls of one task with the same options share.

    Made once; a call then only adds its id and its arguments.
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
        self.fits_plain_script = not (exchange or priority or headers or due or expires or sign)
        #: The constant parts of a publication: before the id, and between window and args.
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
        #: The arguments of ``publish_plain.lua`` that all its messages share.
        self.shared = (routing_key, int(keep), task, len(extra) // 2, *extra)

    def publication(
        self, id: str, args: bytes, kwargs: bytes, *, given: bool, expires: str | None = None
    ) -> Publication:
        """Make the arguments of ``publish.lua`` for one message.

        ``given`` says that the caller chose the id: the server then accepts it once within the
        dedup window and as long as its task has not ended.  ``expires`` is the absolute time
        (ms) that a signature covers, where the template has a time from now.
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
    def expires_after(self) -> float | None:
        """Seconds until a signed message expires; None if it is unsigned or has a fixed time."""
        relative = self.sign is not None and self.expires.startswith("+")
        return int(self.expires[1:]) / 1000 if relative else None

    def signed(
        self, sign: Sign, id: str, args: bytes, kwargs: bytes, expires: str
    ) -> tuple[str | bytes, ...]:
        """The further fields of a message, with its signature."""
        parts = [part.encode() if isinstance(part, str) else part for part in self.extra]
        fields = dict(zip(parts[::2], parts[1::2], strict=True))
        fields |= {b"task": self.task.encode(), b"args": args, b"kwargs": kwargs}
        if expires:
            fields[b"expires"] = expires.encode()
        signature = sign(id.encode(), self.routing_key.encode(), fields)
        return (*self.extra, "signature", signature)


def from_now(seconds: float) -> str:
    """Write a time from now (seconds, by the server's clock) as the publish script takes it."""
    return f"+{round(seconds * 1000)}"


def at_moment(moment: datetime, zone: str) -> str:
    """Write a point in time as the publish script takes it; a naive one is in ``zone``."""
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=ZoneInfo(zone))
    return str(max(0, round(aware.timestamp() * 1000)))


def header_arguments(headers: Mapping[str, Any] | None) -> tuple[str | int, ...]:
    """Write headers as the publish script takes them: the count, then names and tagged values."""
    if not headers:
        return (0,)
    pairs = [text for name, value in headers.items() for text in (name, canonical(value))]
    return (len(headers), *pairs)
