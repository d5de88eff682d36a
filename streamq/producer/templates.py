"""Message templates: made of a call's options, and cached.

The options of a task and a call are merged once; the next call with the same options takes
the template from the cache.
"""

import fnmatch
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from streamq.config.config import Config
from streamq.core.message import MessageOptions, MessageTemplate, Sign, at_moment, from_now
from streamq.core.options import check_limits, checked, merged
from streamq.core.text import count
from streamq.errors import EncodeError
from streamq.producer.on_commit import check_database
from streamq.routing import Queue
from streamq.serialization.codec import encode_json, find_serializer
from streamq.serialization.payload import LONGEST_HEADERS, MOST_HEADERS
from streamq.serialization.signing import Signer, make_signer
from streamq.tasks import Signature

logger = logging.getLogger("streamq")

NOTHING: Mapping[str, Any] = {}


def effective(signature: Signature, conf: Config) -> dict[str, Any]:
    """Merge the options of a call: its own, its task's, then those of ``task_routes``."""
    own = signature.task.own_options if signature.task is not None else {}
    return merged(signature.options, own, route_of(signature, conf.task_routes))


def route_of(signature: Signature, routes: Any) -> dict[str, Any]:
    """The options that ``task_routes`` has for a task; the first matching rule wins."""
    rules: Sequence[Any] = routes if isinstance(routes, list | tuple) else [routes or {}]
    for rule in rules:
        found = rule_options(rule, signature)
        if found:
            return checked({"queue": found} if isinstance(found, str) else found)
    return {}


def rule_options(rule: Any, signature: Signature) -> Any:
    """The options of one rule: a mapping from names or globs, or a callable."""
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


def template(
    task: str,
    options: Mapping[str, Any],
    queues: Sequence[Queue],
    conf: Config,
    asked: Mapping[str, Any] = NOTHING,
    sign: Sign | None = None,
) -> MessageTemplate:
    """Make the template of calls of this task with these effective options.

    ``asked`` are the options that are not the decorator's; only these must travel with the
    message, as the worker knows the decorator.
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
    shared = MessageOptions(
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
        confirm=options.get("confirm", conf.confirm),
        on_commit=options.get("on_commit", conf.on_commit),
    )
    return MessageTemplate(shared, sign)


def due_of(options: Mapping[str, Any], conf: Config) -> str:
    """The time at which a call is due, as the publish script takes it; empty for now."""
    if "eta" in options:
        return at_moment(options["eta"], conf.timezone)
    countdown = options.get("countdown", 0.0)
    return from_now(countdown) if countdown > 0 else ""


def expiry_of(options: Mapping[str, Any], conf: Config) -> str:
    """The time at which a call expires, as the publish script takes it; empty for never."""
    expires = options.get("expires")
    if expires is None:
        return ""
    if isinstance(expires, datetime):
        return at_moment(expires, conf.timezone)
    return from_now(expires)


def written_headers(headers: Mapping[str, Any]) -> bytes:
    """Encode headers.  Raises EncodeError for values that JSON cannot represent, or too many."""
    for name, value in headers.items():
        try:
            encode_json({name: value})
            check_header(value)
        except EncodeError as error:
            raise EncodeError(
                f"the header {name!r} cannot be sent: {str(error).splitlines()[0]}",
                advice=["headers are text, numbers, booleans, None, and lists or mappings of them"],
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
    """Raise EncodeError for a value that would arrive as text or a list: headers have no types."""
    if isinstance(value, dict):
        value = list(value.values())
    if type(value) in (list, tuple):
        for item in value:
            check_header(item)
    elif not (value is None or isinstance(value, (bool, int, float, str))):
        raise EncodeError(f"JSON cannot represent a {type(value).__qualname__}")


def truth(value: bool) -> str:
    """Write a flag as a field."""
    return "1" if value else "0"


def in_millis(seconds: float) -> str:
    """Write seconds as a field, which has milliseconds."""
    return str(round(seconds * 1000))


#: Options that are fields of the message, and how they are written.
CARRIED: Mapping[str, Callable[[Any], str]] = {
    "acks_late": truth,
    "track_started": truth,
    "result_expires": in_millis,
    "max_deliveries": str,
    "shadow": str,
}
#: The same for options that the worker reads from the task, unless the call has others.
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
    """Whether a call has a point in time in its options, so that its template is of one use."""
    return "eta" in options or isinstance(options.get("expires"), datetime)


def key_without_id(signature: Signature) -> Any:
    """The cache key of a call with an id: everything but the id."""
    pairs = (pair for pair in signature.options.items() if pair[0] != "task_id")
    return (signature.name, *pairs)


class Templates:
    """The cache of message templates, by task and options."""

    #: The most templates: options that differ from call to call, such as headers, must not fill
    #: the memory.  A full cache is cleared.
    MOST = 1000

    def __init__(self, conf: Config, queues: Callable[[], Sequence[Queue]]) -> None:
        self.conf = conf
        self.queues = queues
        self.invalidate()

    def invalidate(self) -> None:
        """Empty the cache: the queues, tasks or settings have changed."""
        self.cached: dict[Any, MessageTemplate] = {}
        vars(self).pop("signer", None)
        self.changes = self.conf.changes

    def refresh(self) -> None:
        """Empty the cache if the settings have changed."""
        if self.conf.changes != self.changes:
            self.invalidate()

    def template(self, signature: Signature) -> MessageTemplate:
        """Return the template of a call, from the cache if it is there."""
        if self.conf.changes != self.changes:
            self.invalidate()
        if self.conf.task_routes is not None:
            return self.new_template(signature)
        try:
            options = signature.options
            key: Any = signature.name
            if options:
                plain = "task_id" not in options
                key = (key, *options.items()) if plain else key_without_id(signature)
            found = self.cached.get(key)
        except TypeError:
            return self.new_template(signature)
        if found is None:
            found = self.new_template(signature)
            if not is_moment(signature.options):
                self.cache(key, found)
        return found

    def same_template(self, one: Signature, other: Signature) -> bool:
        """Whether two calls surely have one template; a cheap check that may say no."""
        same = one.options is other.options and one.name == other.name
        return same and self.conf.task_routes is None

    def cache(self, key: Any, template: MessageTemplate) -> None:
        """Cache a template."""
        if len(self.cached) >= self.MOST:
            self.cached.clear()
        self.cached[key] = template

    def for_local_run(self, signature: Signature) -> MessageTemplate:
        """The template of a call that runs in this process: no worker has to import its task."""
        warn_unimportable = signature.task is not None and signature.task.warn_unimportable
        return self.make(signature) if warn_unimportable else self.template(signature)

    def new_template(self, signature: Signature) -> MessageTemplate:
        """Make the template of a call to be sent; warn once of a task that no worker can import."""
        if signature.task is not None and signature.task.warn_unimportable:
            signature.task.warn_unimportable = False
            logger.warning(
                "%s is sent, but no worker can know a task of that name: its function was not "
                "loaded from a module. Put it into a file, or name it: @app.task(name=…)",
                signature.name,
            )
        return self.make(signature)

    def make(self, signature: Signature) -> MessageTemplate:
        """Make the template of a call."""
        options = effective(signature, self.conf)
        asked = merged(signature.options, route_of(signature, self.conf.task_routes))
        sign = self.signer.signature if self.signer is not None else None
        if options.get("on_commit", self.conf.on_commit):
            check_database()
        return template(signature.name, options, self.queues(), self.conf, asked, sign)

    @cached_property
    def signer(self) -> Signer | None:
        """The signer; None if messages are not signed.  Raises ConfigError if there is no key."""
        conf = self.conf
        return make_signer(conf.signing, conf.signing_keys, conf.signing_key, conf.namespace)

    def missed_by(self, signatures: Sequence[Signature]) -> list[Queue]:
        """The queues to declare for calls that were Unroutable; none if that cannot help."""
        declared, templates = list(self.queues()), list(map(self.template, signatures))
        if not declared and any(template.exchange for template in templates):
            return []
        keys = dict.fromkeys(each.routing_key for each in templates if not each.exchange)
        for queue in declared:
            keys.pop(queue.name, None)
        missing = list(map(Queue, keys)) if self.conf.task_create_missing_queues else []
        return [*declared, *missing]
