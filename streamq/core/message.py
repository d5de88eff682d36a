"""Messages: one call on its way, as a value and as the fields that travel.

On the wire a message is flat text: ``id``, ``task``, ``args``, ``kwargs``, then only what
differs from the default, so that a person with redis-cli reads it, and a message typed by
hand runs.

A ``MessageTemplate`` writes the arguments of the publish scripts for many calls of one task.  A
``Message`` is one of these calls taken apart: it can be read, changed, and carried as JSON in
another message or in a key.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Self
from zoneinfo import ZoneInfo

import msgspec

from streamq.errors import DecodeError
from streamq.routing import canonical

JSON = "application/json"


#: The arguments of ``publish.lua`` for one message.
Publication = tuple[str | bytes | int, ...]
#: Signs a message: its id, its queue and its fields.
Sign = Callable[[bytes, bytes, Mapping[bytes, bytes]], bytes]


class Base64(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bytes that are not UTF-8, as base64 in JSON."""

    base64: bytes


#: The value of a field, as JSON can carry it.
Value = str | Base64


def value_of(data: bytes) -> Value:
    """Bytes as JSON can carry them: text, unless they are not UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return Base64(data)


def bytes_of(value: Value) -> bytes:
    """The bytes that ``value_of`` has made a value of."""
    return value.base64 if isinstance(value, Base64) else value.encode()


def as_bytes(part: str | bytes | int) -> bytes:
    """An argument of a script as the bytes that Redis gets."""
    return part if isinstance(part, bytes) else str(part).encode()


class Message(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """A message and where it goes: what ``publish.lua`` is told about one message.

    ``fields`` are those of the stream entry without the id, ``task`` first.  ``window`` is the
    dedup window in milliseconds, "none" for a chosen id without one, 0 for an id that was made
    for it.  ``due`` and ``expires`` are "+MS" or a moment in milliseconds; "" means now and
    never.  ``headers`` are canonical text.
    """

    fields: dict[str, Value]
    id: str = ""
    exchange: str = ""
    routing_key: str = ""
    window: int | str = 0
    keep: bool = True
    priority: str = ""
    due: str = ""
    expires: str = ""
    headers: dict[str, str] = {}

    @classmethod
    def read(cls, arguments: Iterable[str | bytes | int]) -> Iterator[Self]:
        """Take apart the arguments of ``publish.lua``, which hold any number of messages."""
        parts = map(as_bytes, arguments)
        for exchange in parts:
            key, id, window, keep, priority, due, expires = islice(parts, 7)
            headers, fields = pairs_in(parts), pairs_in(parts)
            yield cls(
                exchange=exchange.decode(),
                routing_key=key.decode(),
                id=id.decode(),
                window=int(window) if window.isdigit() else window.decode(),
                keep=keep == b"1",
                priority=priority.decode(),
                due=due.decode(),
                expires=expires.decode(),
                headers={name.decode(): value.decode() for name, value in headers},
                fields={name.decode(): value_of(value) for name, value in fields},
            )

    def publication(self) -> Publication:
        """The arguments of ``publish.lua`` for this message."""
        headers = [part for pair in self.headers.items() for part in pair]
        fields = [part for name, value in self.fields.items() for part in (name, bytes_of(value))]
        return (
            *(self.exchange, self.routing_key, self.id, self.window, "1" if self.keep else "0"),
            *(self.priority, self.due, self.expires),
            *(len(self.headers), *headers, len(self.fields), *fields),
        )

    @property
    def entry(self) -> dict[bytes, bytes]:
        """The fields of its stream entry."""
        fields = {name.encode(): bytes_of(value) for name, value in self.fields.items()}
        return {b"id": self.id.encode(), **fields}

    @property
    def size(self) -> int:
        """Bytes of the values of its fields."""
        return sum(len(bytes_of(value)) for value in self.fields.values())

    def to_json(self) -> bytes:
        """Write it as JSON, with only what differs from the default."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, text: bytes | str) -> Self:
        """Read what ``to_json`` wrote.  Raises DecodeError with the reason."""
        try:
            return msgspec.json.decode(text, type=cls)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise DecodeError(str(error).partition("\n")[0]) from None


def pairs_in(parts: Iterator[bytes]) -> list[tuple[bytes, bytes]]:
    """Take a count from these parts, then so many names and values."""
    count = int(next(parts))
    flat = list(islice(parts, 2 * count))
    return list(zip(flat[::2], flat[1::2], strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageOptions:
    """All that the calls of one task with the same options have in common.

    ``dedup_window`` is in seconds; ``due`` and ``expires`` are written as for the publish
    script; ``extra`` are further fields, names and values in turn.
    """

    task: str
    exchange: str
    routing_key: str
    priority: str = ""
    keep: bool = True
    headers: Mapping[str, Any] | None = None
    dedup_window: float = 0.0
    due: str = ""
    expires: str = ""
    serializer: str = "json"
    compression: str | None = None
    extra: tuple[str | bytes, ...] = ()
    confirm: str = "server"
    #: Whether a call waits for the commit of its transaction, or the alias of the database.
    on_commit: bool | str = False


class MessageTemplate:
    """A message template: the options of calls, laid out for the publish scripts.

    Made once; a call then only adds its id and its arguments.
    """

    def __init__(self, options: MessageOptions, sign: Sign | None = None) -> None:
        exchange, routing_key = options.exchange, options.routing_key
        self.exchange = exchange
        self.routing_key = routing_key
        self.keep = options.keep
        self.confirm = options.confirm
        self.headers = options.headers
        self.on_commit = options.on_commit
        self.window = int(options.dedup_window * 1000)
        self.serializer = options.serializer
        self.compression = options.compression
        self.plain = (options.serializer, options.compression) == ("json", None)
        more = (options.priority, options.headers, options.due, options.expires, sign)
        self.fits_plain_script = not (exchange or any(more))
        #: The constant parts of a publication: before the id, and between window and args.
        self.address = (exchange, routing_key)
        extra = options.extra
        self.fields = count = 3 + len(extra) // 2 + (sign is not None)
        self.middle: tuple[str | bytes | int, ...] = (
            *("1" if options.keep else "0", options.priority, options.due, options.expires),
            *(*header_arguments(options.headers), count, "task", options.task, "args"),
        )
        self.task = options.task
        self.expires = options.expires
        self.extra = extra
        self.sign = sign
        #: The arguments of ``publish_plain.lua`` that all its messages share.
        self.shared = (routing_key, int(options.keep), options.task, len(extra) // 2, *extra)

    def publication(
        self,
        id: str,
        args: bytes,
        kwargs: bytes,
        *,
        given: bool,
        expires: str | None = None,
        more: tuple[str, ...] = (),
    ) -> Publication:
        """Make the arguments of ``publish.lua`` for one message.

        ``given`` says that the caller chose the id: the server then accepts it once within the
        dedup window and as long as its task has not ended.  ``expires`` is the absolute time
        (ms) that a signature covers, where the template has a time from now.  ``more`` are
        further fields of this message, names and values in turn.
        """
        window = (self.window or "none") if given else 0
        middle, extra = self.middle, self.extra
        if expires is not None:
            middle = (*middle[:3], expires, *middle[4:])
        if more:  # the number of fields stands before the last three
            middle = (*middle[:-4], self.fields + len(more) // 2, *middle[-3:])
            extra = (*extra, *more)
        if self.sign is not None:
            moment = self.expires if expires is None else expires
            signature = self.signature(self.sign, id, (args, kwargs), moment, extra)
            extra = (*extra, "signature", signature)
        return (*self.address, id, window, *middle, args, "kwargs", kwargs, *extra)

    @property
    def expires_after(self) -> float | None:
        """Seconds until a signed message expires; None if it is unsigned or has a fixed time."""
        relative = self.sign is not None and self.expires.startswith("+")
        return int(self.expires[1:]) / 1000 if relative else None

    def signature(
        self,
        sign: Sign,
        id: str,
        arguments: tuple[bytes, bytes],
        expires: str,
        extra: tuple[str | bytes, ...],
    ) -> bytes:
        """The signature of a message with these further fields."""
        parts = [part.encode() if isinstance(part, str) else part for part in extra]
        fields = dict(zip(parts[::2], parts[1::2], strict=True))
        args, kwargs = arguments
        fields |= {b"task": self.task.encode(), b"args": args, b"kwargs": kwargs}
        if expires:
            fields[b"expires"] = expires.encode()
        return sign(id.encode(), self.routing_key.encode(), fields)


def from_now(seconds: float) -> str:
    """Write a time from now (seconds, by the server's clock) as the publish script takes it."""
    return f"+{round(seconds * 1000)}"


def at_moment(moment: datetime, zone: str | None) -> str:
    """Write a point in time as the publish script takes it; a naive one is in ``zone``, or UTC."""
    zoned = moment.tzinfo is not None
    aware = moment if zoned else moment.replace(tzinfo=ZoneInfo(zone or "UTC"))
    return str(max(0, round(aware.timestamp() * 1000)))


def header_arguments(headers: Mapping[str, Any] | None) -> tuple[str | int, ...]:
    """Write headers as the publish script takes them: the count, then names and tagged values."""
    if not headers:
        return (0,)
    pairs = [text for name, value in headers.items() for text in (name, canonical(value))]
    return (len(headers), *pairs)
