"""From a call and its options to an envelope: where it goes, and what it says.

The winner of each option is settled once for a task and its options, then remembered:
sending the same call again costs no decision.
"""

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from streamq.codec import find_serializer
from streamq.config import Config
from streamq.message import Envelope
from streamq.options import checked, merged
from streamq.routing import Queue
from streamq.tasks import Signature


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
    task: str, options: Mapping[str, Any], queues: Sequence[Queue], conf: Config
) -> Envelope:
    """Make the envelope of a call of this task with these effective options."""
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
        extra += ["headers", msgspec.json.encode(headers)]
    if priority:
        extra += ["priority", str(priority)]
    for name, write in CARRIED.items():
        if name in options:
            extra += [name, write(options[name])]
    return Envelope(
        task=task,
        exchange=exchange,
        routing_key=key,
        priority=str(priority) if priority else "",
        keep=keep,
        headers=headers,
        dedup_window=conf.dedup_window,
        serializer=serializer,
        compression=compression,
        extra=tuple(extra),
        confirm=options.get("confirm", conf.confirm),
    )


def truth(value: bool) -> str:
    return "1" if value else "0"


#: Options that travel with the message, for the worker to act on, and how they are written.
CARRIED: Mapping[str, Callable[[Any], str]] = {
    "acks_late": truth,
    "track_started": truth,
    "result_expires": lambda seconds: str(int(seconds * 1000)),
    "max_deliveries": str,
    "shadow": str,
}


class Plans:
    """Envelopes, remembered by task and options."""

    #: Options that differ from call to call, such as headers, must not fill the memory.
    MOST = 1000

    def __init__(self, conf: Config, queues: Callable[[], Sequence[Queue]]) -> None:
        self.conf = conf
        self.queues = queues
        self.forget()

    def forget(self) -> None:
        """Settle everything anew: the queues have changed."""
        self.known: dict[Any, Envelope] = {}
        self.changes = self.conf.changes

    def envelope(self, signature: Signature) -> Envelope:
        """The envelope for a call."""
        if self.conf.changes != self.changes:
            self.forget()
        options = signature.options
        if self.conf.task_routes is not None:
            return self.fresh(signature)
        try:
            key = (signature.name, *options.items()) if options else signature.name
            found = self.known.get(key)
        except TypeError:
            return self.fresh(signature)
        if found is None:
            found = self.fresh(signature)
            if len(self.known) < self.MOST:
                self.known[key] = found
        return found

    def fresh(self, signature: Signature) -> Envelope:
        options = effective(signature, self.conf)
        return envelope(signature.name, options, self.queues(), self.conf)
