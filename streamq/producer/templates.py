"""From a call and its options to an envelope: where it goes, and what it says.

The winner of each option is settled once for a task and its options, then remembered:
sending the same call again costs no decision.
"""

import fnmatch
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from streamq.config.config import Config
from streamq.core.message import Envelope, Sign, at_moment, from_now
from streamq.core.options import check_limits, checked, merged
from streamq.core.text import count
from streamq.errors import EncodeError
from streamq.routing import Queue
from streamq.serialization.codec import encode_json, find_serializer
from streamq.serialization.payload import LONGEST_HEADERS, MOST_HEADERS
from streamq.serialization.signing import Seal, seal_of
from streamq.tasks import Signature

logger = logging.getLogger("streamq")

NOTHING: Mapping[str, Any] = {}


def effective(signature: Signature, conf: Config) -> dict[str, Any]:
    """The options of a call: its own, its task's, then those of ``task_routes``."""
    own = signature.task.own_options if signature.task is not None else {}
    return merged(signature.options, own, route_of(signature, conf.task_routes))


def route_of(signature: Signature, routes: Any) -> dict[str, Any]:
    """The options that ``task_routes`` has for a task; the first rule that matches counts."""
    rules: Sequence[Any] = routes if isinstance(routes, list | tuple) else [routes or {}]
    for rule in rules:
        found = rule_options(rule, signature)
        if found:
            return checked({"queue": found} if isinstance(found, str) else found)
    return {}


def rule_options(rule: Any, signature: Signature) -> Any:
    """What one rule says: a mapping from names or globs, or a callable."""
    if callable(rule):
        return rule(signature.name, signature.args, signature.kwargs, dict(signature.options))
    if signature.name in rule:
        return rule[signature.name]
    for pattern, options in rule.items():
        if fnmatch.fnmatchcase(signature.name, pattern):
            return options
    return None


def destination(
    options: Mapping[str, Any], queues: Sequence[Queue], conf: Config
) -> tuple[str, str]:
    """Exchange and routing key of a call.

    Without any, the only declared queue if there is exactly one, else the default queue.
    """
    if "exchange" in options or "routing_key" in options:
        return options.get("exchange", ""), options.get("routing_key", "")
    if "queue" in options:
        return "", options["queue"]
    if len(queues) == 1 and conf.origin("task_default_queue") == "default":
        return "", queues[0].name
    return "", conf.task_default_queue


def envelope(
    task: str,
    options: Mapping[str, Any],
    queues: Sequence[Queue],
    conf: Config,
    asked: Mapping[str, Any] = NOTHING,
    sign: Sign | None = None,
) -> Envelope:
    """Make the envelope of a call of this task with these effective options.

    ``asked`` are those that the decorator does not say: a worker knows that one.
    """
    check_limits(options)
    exchange, key = destination(options, queues, conf)
    serializer = options.get("serializer", conf.task_serializer)
    compression = options.get("compression", conf.task_compression)
    keep = not options.get("ignore_result", conf.ignore_result)
    headers = options.get("headers")
    priority = options.get("priority", conf.task_default_priority)
    extra: list[str | bytes] = []
    if serializer != "json":
        extra += ["content_type", find_serializer(serializer).content_type]
    if compression is not None:
        extra += ["compression", compression]
    if not keep:
        extra += ["ignore_result", "1"]
    if exchange:
        extra += ["exchange", exchange, "routing_key", key]
    if headers:
        extra += ["headers", written_headers(headers)]
    if priority:
        extra += ["priority", str(priority)]
    for name, write in CARRIED.items():
        if name in options:
            extra += [name, write(options[name])]
    for name, write in CARRIED_WHEN_ASKED.items():
        if name in asked:
            extra += [name, write(asked[name])]
    return Envelope(
        task=task,
        exchange=exchange,
        routing_key=key,
        priority=str(priority) if priority else "",
        keep=keep,
        headers=headers,
        dedup_window=conf.dedup_window,
        due=due_of(options, conf),
        expires=expiry_of(options, conf),
        serializer=serializer,
        compression=compression,
        extra=tuple(extra),
        sign=sign,
        confirm=options.get("confirm", conf.confirm),
    )


def due_of(options: Mapping[str, Any], conf: Config) -> str:
    """When a call is due, as the script takes it."""
    if "eta" in options:
        return at_moment(options["eta"], conf.timezone)
    countdown = options.get("countdown", 0.0)
    return from_now(countdown) if countdown > 0 else ""


def expiry_of(options: Mapping[str, Any], conf: Config) -> str:
    """When a call expires, as the script takes it."""
    expires = options.get("expires")
    if expires is None:
        return ""
    if isinstance(expires, datetime):
        return at_moment(expires, conf.timezone)
    return from_now(expires)


def written_headers(headers: Mapping[str, Any]) -> bytes:
    """Headers as they travel.  EncodeError for what JSON cannot say, or too much of it."""
    for name, value in headers.items():
        try:
            encode_json({name: value})
            check_header(value)
        except EncodeError as error:
            raise EncodeError(
                f"the header {name!r} cannot be sent: {str(error).splitlines()[0]}",
                advice=["headers are text, numbers, truths, None, and lists or mappings of them"],
            ) from error
    data = encode_json(headers)
    if len(headers) > MOST_HEADERS or len(data) > LONGEST_HEADERS:
        raise EncodeError(
            f"{count(len(headers), 'header')} of {len(data):,} bytes are too many",
            known={"limits": f"{MOST_HEADERS} headers, {LONGEST_HEADERS:,} bytes"},
            advice=["headers say where a message goes; send data as arguments"],
        )
    return data


def check_header(value: Any) -> None:
    """Raise EncodeError for what would arrive as text or a list: no annotation turns it back."""
    if isinstance(value, dict):
        value = list(value.values())
    if type(value) in (list, tuple):
        for item in value:
            check_header(item)
    elif not (value is None or isinstance(value, (bool, int, float, str))):
        raise EncodeError(f"JSON has no word for a {type(value).__qualname__}")


def truth(value: bool) -> str:
    return "1" if value else "0"


def in_millis(seconds: float) -> str:
    return str(round(seconds * 1000))


#: Options that travel with the message, for the worker to act on, and how they are written.
CARRIED: Mapping[str, Callable[[Any], str]] = {
    "acks_late": truth,
    "track_started": truth,
    "result_expires": in_millis,
    "max_deliveries": str,
    "shadow": str,
}
#: The same for options that the worker finds at the task, unless the call says otherwise.
CARRIED_WHEN_ASKED: Mapping[str, Callable[[Any], str]] = {
    "max_retries": lambda times: "none" if times is None else str(times),
    "default_retry_delay": in_millis,
    "autoretry_for": lambda names: " ".join(sorted(names)),
    "dont_autoretry_for": lambda names: " ".join(sorted(names)),
    "retry_backoff": in_millis,
    "retry_backoff_max": in_millis,
    "retry_jitter": truth,
    "time_limit": in_millis,
    "soft_time_limit": in_millis,
}


def is_moment(options: Mapping[str, Any]) -> bool:
    """Whether a call names a moment, which hardly another will."""
    return "eta" in options or isinstance(options.get("expires"), datetime)


def key_without_id(signature: Signature) -> Any:
    """What two calls have in common that get one envelope: all but their id."""
    pairs = (pair for pair in signature.options.items() if pair[0] != "task_id")
    return (signature.name, *pairs)


class Plans:
    """Envelopes, remembered by task and options."""

    #: Options that differ from call to call, such as headers, must not fill the memory; nor
    #: may they keep out what comes later.
    MOST = 1000

    def __init__(self, conf: Config, queues: Callable[[], Sequence[Queue]]) -> None:
        self.conf = conf
        self.queues = queues
        self.forget()

    def forget(self) -> None:
        """Settle everything anew: the queues have changed."""
        self.known: dict[Any, Envelope] = {}
        vars(self).pop("seal", None)
        self.changes = self.conf.changes

    def refresh(self) -> None:
        """Forget what was settled under other settings."""
        if self.conf.changes != self.changes:
            self.forget()

    def envelope(self, signature: Signature) -> Envelope:
        """The envelope for a call."""
        if self.conf.changes != self.changes:
            self.forget()
        if self.conf.task_routes is not None:
            return self.fresh(signature)
        try:
            options = signature.options
            key: Any = signature.name
            if options:
                plain = "task_id" not in options
                key = (key, *options.items()) if plain else key_without_id(signature)
            found = self.known.get(key)
        except TypeError:
            return self.fresh(signature)
        if found is None:
            found = self.fresh(signature)
            if not is_moment(signature.options):
                self.remember(key, found)
        return found

    def alike(self, one: Signature, other: Signature) -> bool:
        """Whether two calls get one envelope, as far as a glance can tell."""
        same = one.options is other.options and one.name == other.name
        return same and self.conf.task_routes is None

    def remember(self, key: Any, envelope: Envelope) -> None:
        """Make the same envelope no second time."""
        if len(self.known) >= self.MOST:
            self.known.clear()
        self.known[key] = envelope

    def here(self, signature: Signature) -> Envelope:
        """The envelope for a call that is run here: no worker has to know its task."""
        untold = signature.task is not None and signature.task.untold
        return self.made(signature) if untold else self.envelope(signature)

    def fresh(self, signature: Signature) -> Envelope:
        """A new envelope for a call that is to be sent."""
        if signature.task is not None and signature.task.untold:
            signature.task.untold = False
            logger.warning(
                "%s is sent, but no worker can know a task of that name: its function was not "
                "loaded from a module. Put it into a file, or name it: @app.task(name=…)",
                signature.name,
            )
        return self.made(signature)

    def made(self, signature: Signature) -> Envelope:
        options = effective(signature, self.conf)
        asked = merged(signature.options, route_of(signature, self.conf.task_routes))
        sign = self.seal.signature if self.seal is not None else None
        return envelope(signature.name, options, self.queues(), self.conf, asked, sign)

    @cached_property
    def seal(self) -> Seal | None:
        """What signs messages, if they are signed.  ConfigError if there is no key for it."""
        conf = self.conf
        return seal_of(conf.signing, conf.signing_keys, conf.signing_key, conf.namespace)

    def missed_by(self, signatures: Sequence[Signature]) -> list[Queue]:
        """The queues to declare for calls that led nowhere; none if that would not help."""
        declared, envelopes = list(self.queues()), list(map(self.envelope, signatures))
        if not declared and any(envelope.exchange for envelope in envelopes):
            return []
        keys = dict.fromkeys(each.routing_key for each in envelopes if not each.exchange)
        for queue in declared:
            keys.pop(queue.name, None)
        missing = list(map(Queue, keys)) if self.conf.task_create_missing_queues else []
        return [*declared, *missing]
