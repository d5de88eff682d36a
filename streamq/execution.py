"""One message, run: from the fields that were read to the fields of its record.

Knows no Redis and no pool.  Whatever happens inside a task ends as an ``Outcome``.
"""

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

from streamq.codec import decode_json, encode_json, find_serializer
from streamq.config import Config
from streamq.context import Request, Running, current
from streamq.errors import (
    ConfigError,
    ContentDisallowed,
    DecodeError,
    Ignore,
    Reject,
    StreamqError,
    TaskNotFound,
)
from streamq.failure import describe
from streamq.message import own_id
from streamq.payload import Payloads, as_text
from streamq.registry import Registry
from streamq.tasks import Task

#: What pickle carries has its types already; annotations have nothing to turn back.
PICKLED = b"application/x-python-serialize"

#: Digits of the milliseconds that a record may be kept: more, and Redis refuses.
LONGEST_LIFE = 15

#: Called with the request, a state and what to know about it.
Tell = Callable[[Request, str, Any], None]


class Delivery:
    """A message as one consumer received it."""

    __slots__ = ("early", "entry", "fields", "id", "keep", "manner", "stream")

    def __init__(self, stream: str, entry: bytes, fields: dict[bytes, bytes]) -> None:
        self.stream = stream
        self.entry = entry
        self.fields = fields
        id = fields.get(b"id")
        self.id = id if id is not None else own_id(self.queue, entry.decode()).encode()
        self.manner: Manner | None = None
        self.early = False
        self.keep = fields.get(b"ignore_result") != b"1"

    @property
    def queue(self) -> str:
        """The queue, whichever of its streams the message was read from."""
        return self.stream.partition(":")[0]

    @property
    def size(self) -> int:
        """Bytes of the values that it carries."""
        return sum(map(len, self.fields.values()))

    @property
    def crashes(self) -> int:
        """How many runners died while they ran this message."""
        found = self.fields.get(b"crashes", b"0")
        return int(found) if found.isdigit() else 0


class Outcome:
    """How a message ended: the state of its record, its fields, and why it is buried, if it is."""

    __slots__ = ("delivery", "expires", "fields", "reason", "release", "state")

    def __init__(
        self,
        delivery: Delivery,
        state: bytes,
        fields: tuple[bytes, ...],
        *,
        expires: bytes = b"0",
        reason: bytes = b"",
        release: bool = False,
    ) -> None:
        self.delivery = delivery
        self.state = state
        self.fields = fields
        self.expires = expires
        self.reason = reason
        self.release = release


@dataclass(slots=True)
class Manner:
    """How the messages of one task are run here, settled once."""

    task: Task[..., Any]
    early: bool
    keep: bool
    track_started: bool
    expires: bytes


class Execution:
    """Runs messages of the registered tasks."""

    def __init__(
        self, tasks: Registry, payloads: Payloads, conf: Config, *, hostname: str, tell: Tell
    ) -> None:
        self.tasks = tasks
        self.payloads = payloads
        self.results = replace(payloads, limit=conf.result_limit)
        self.conf = conf
        self.hostname = hostname
        self.tell = tell
        self.manners: dict[bytes, Manner] = {}
        self.serializer = conf.result_serializer
        self.compression = conf.result_compression
        self.plain = (self.serializer, self.compression) == ("json", None)
        self.expires = millis(conf.result_expires)
        self.encoding = self.result_encoding()

    def admit(self, delivery: Delivery) -> None:
        """Find the task of a message, and whether it is acknowledged early."""
        name = delivery.fields.get(b"task", b"")
        manner = self.manners.get(name)
        if manner is None:
            task = self.tasks.tasks.get(name.decode(errors="replace"))
            if task is None:
                return
            manner = self.manners[name] = self.manner_of(task)
        delivery.manner = manner
        late = delivery.fields.get(b"acks_late")
        delivery.early = manner.early if late is None else late != b"1"

    def manner_of(self, task: Task[..., Any]) -> Manner:
        own, conf = task.own_options, self.conf
        return Manner(
            task,
            early=not own.get("acks_late", conf.acks_late),
            keep=not own.get("ignore_result", conf.ignore_result),
            track_started=own.get("track_started", conf.track_started),
            expires=millis(own.get("result_expires", conf.result_expires)),
        )

    def run(self, delivery: Delivery) -> Outcome:
        """Run a message.  Never raises for what the task does."""
        manner = delivery.manner
        if manner is None:
            return self.unknown(delivery)
        fields = delivery.fields
        try:
            args, kwargs = self.arguments(manner.task, fields)
        except ContentDisallowed as error:
            return self.buried(delivery, error, "content type not accepted")
        except (DecodeError, ConfigError) as error:
            return self.buried(delivery, error, "undecodable message")
        running = LazyRunning(self, delivery, args, kwargs)
        token = current.set(running)
        began = perf_counter()
        try:
            task = manner.task
            if task.bind:
                value = task.function(running, *args, **kwargs)
            else:
                value = task.function(*args, **kwargs)
        except BaseException as error:  # also sys.exit(): it is the task that fails, not we
            return self.raised(delivery, error, perf_counter() - began)
        finally:
            current.reset(token)
        return self.returned(delivery, value, perf_counter() - began)

    def arguments(
        self, task: Task[..., Any], fields: Mapping[bytes, bytes]
    ) -> tuple[list[Any], dict[str, Any]]:
        """Decode args and kwargs; DecodeError if they are not a list and a mapping."""
        raw_args, raw_kwargs = fields.get(b"args", b"[]"), fields.get(b"kwargs", b"{}")
        if b"content_type" not in fields and b"compression" not in fields and self.json_accepted:
            args = decode_json(raw_args)
            kwargs = {} if raw_kwargs == b"{}" else decode_json(raw_kwargs)
        else:
            content = as_text(fields.get(b"content_type"), "content_type")
            compression = as_text(fields.get(b"compression"), "compression")
            args = self.payloads.read(raw_args, content, compression)
            absent = b"kwargs" not in fields
            kwargs = {} if absent else self.payloads.read(raw_kwargs, content, compression)
        if not isinstance(args, list | tuple) or not isinstance(kwargs, dict):
            raise DecodeError("args must be a list and kwargs a mapping with text keys")
        if any(not isinstance(key, str) for key in kwargs):
            raise DecodeError("kwargs must have text keys")
        if task.converter is not None and fields.get(b"content_type") != PICKLED:
            return task.converter.apply(args, kwargs)
        return args, kwargs  # type: ignore[return-value]

    @property
    def json_accepted(self) -> bool:
        return "json" in self.payloads.accept

    # Endings

    def returned(self, delivery: Delivery, value: Any, seconds: float) -> Outcome:
        """The task returned."""
        manner = delivery.manner
        assert manner is not None
        if not delivery.keep:
            return Outcome(delivery, b"", ())
        runtime = b"%.6f" % seconds
        if not manner.keep:
            return Outcome(delivery, b"SUCCESS", (b"runtime", runtime), expires=manner.expires)
        try:
            if self.plain:
                data = encode_json(value)
                if len(data) > self.results.limit:
                    data = self.results.write(value, "json", None, "the result")
            else:
                data = self.results.write(value, self.serializer, self.compression, "the result")
        except Exception as error:  # a class of the task's may raise whatever it likes
            return self.raised(delivery, error, seconds)
        return Outcome(
            delivery,
            b"SUCCESS",
            (b"result", data, b"runtime", runtime, *self.encoding),
            expires=self.life(delivery, manner),
        )

    def raised(self, delivery: Delivery, error: BaseException, seconds: float) -> Outcome:
        """The task raised, or its result cannot be kept."""
        manner = delivery.manner
        assert manner is not None
        expires = self.life(delivery, manner)
        if issubclass(type(error), Ignore):
            return Outcome(delivery, b"", (), expires=expires if delivery.keep else b"0")
        rejected = issubclass(type(error), Reject)
        if rejected and getattr(error, "requeue", False) and not delivery.early:
            return Outcome(delivery, b"", (), release=True)
        about = describe(error, skip=1)
        fields = flat(about, runtime=b"%.6f" % seconds)
        reason = b"rejected" if rejected else b""
        state = b"FAILURE" if delivery.keep else b""
        if rejected:
            fields = (*fields, b"reason", about["error"] or b"rejected")
        return Outcome(delivery, state, fields, expires=expires, reason=reason)

    def unknown(self, delivery: Delivery) -> Outcome:
        """No task has the name that the message asks for."""
        name = delivery.fields.get(b"task", b"").decode(errors="replace")
        if not name:
            return self.buried(delivery, DecodeError("the message names no task"), "no task")
        error: TaskNotFound = self.tasks.missing(name)
        return self.buried(delivery, error, "unknown task")

    def buried(self, delivery: Delivery, error: StreamqError, reason: str) -> Outcome:
        """The message cannot be run at all: it goes to the dead letters."""
        about = describe(error)
        about.pop("traceback", None)
        message = about.pop("error")
        return Outcome(
            delivery,
            b"FAILURE" if delivery.keep else b"",
            (*flat(about), b"error", message),
            expires=self.expires,
            reason=reason.encode(),
        )

    def life(self, delivery: Delivery, manner: Manner) -> bytes:
        """Milliseconds that the record is kept."""
        asked = delivery.fields.get(b"result_expires")
        fits = asked is not None and asked.isdigit() and len(asked) <= LONGEST_LIFE
        return b"%d" % int(asked) if asked is not None and fits else manner.expires

    def result_encoding(self) -> tuple[bytes, ...]:
        """What the record says of how its result was written; nothing for plain JSON."""
        found: list[bytes] = []
        if self.serializer != "json":
            content = find_serializer(self.serializer).content_type
            found += [b"content_type", content.encode()]
        if self.compression is not None:
            found += [b"compression", self.compression.encode()]
        return tuple(found)


class LazyRunning(Running):
    """The running task; its request is only put together when somebody asks."""

    def __init__(
        self, execution: Execution, delivery: Delivery, args: Any, kwargs: dict[str, Any]
    ) -> None:
        self.execution = execution
        self.delivery = delivery
        self.arguments = (args, kwargs)
        self.made: Request | None = None
        self.tell = execution.tell

    @property
    def request(self) -> Request:  # type: ignore[override]
        if self.made is None:
            self.made = request_of(self.delivery, *self.arguments, self.execution.hostname)
        return self.made


def request_of(delivery: Delivery, args: Any, kwargs: dict[str, Any], hostname: str) -> Request:
    """What a task may know about its run."""
    fields = {k.decode(errors="replace"): v for k, v in delivery.fields.items()}

    def text(name: str) -> str | None:
        return fields[name].decode(errors="replace") if name in fields else None

    try:
        headers = decode_json(fields.get("headers", b"{}"))
    except DecodeError:
        headers = {}
    return Request(
        id=delivery.id.decode(errors="replace"),
        task=text("task") or "",
        args=tuple(args),
        kwargs=kwargs,
        deliveries=delivery.crashes + 1,
        redelivered=delivery.crashes > 0,
        root_id=text("root_id") or delivery.id.decode(errors="replace"),
        parent_id=text("parent_id"),
        queue=delivery.queue,
        exchange=text("exchange") or "",
        routing_key=text("routing_key") or delivery.queue,
        headers=headers if isinstance(headers, dict) else {},
        hostname=hostname,
    )


def millis(seconds: float) -> bytes:
    return b"%d" % round(seconds * 1000)


def flat(fields: Mapping[str, bytes], **more: bytes) -> tuple[bytes, ...]:
    """Names and values in a row, as the settle script takes them."""
    both = {**fields, **more}
    return tuple(part for name, value in both.items() for part in (name.encode(), value))


def shown(error: BaseException) -> str:
    """One line about an exception, for the log."""
    return traceback.format_exception_only(error)[-1].strip()
