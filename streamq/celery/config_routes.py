"""Routes and queues of Celery's settings, made those of streamq."""

import fnmatch
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from streamq.config.importing import import_named
from streamq.core.text import shown
from streamq.errors import ConfigError
from streamq.routing import Binding, Exchange, Queue

#: Options of a route that mean nothing here.
DROPPED = frozenset({"binding_key", "delivery_mode", "exchange_type", "durable", "auto_delete"})

Route = Callable[[str, Sequence[Any], Mapping[str, Any], dict[str, Any]], Any]


def streamq_routes(value: object, name: str) -> object:
    """Make the value of ``task_routes`` one of streamq; what it has too stays as it is.

    Celery takes a mapping, pairs of a pattern and a route, a function, an object with
    ``route_for_task``, the text that names one, or a list of these; patterns may be compiled.
    """
    if value is None:
        return None
    if not isinstance(value, list | tuple):
        return route(value, name)
    return [route(part, name) for part in value] or None


def route(part: Any, name: str) -> Mapping[str, Any] | Route:
    """Make a mapping or a function of one route.  Raises ConfigError for what cannot be one."""
    if isinstance(part, str):
        return by_name(part, name)
    if isinstance(part, Mapping):
        if not all(isinstance(key, str) for key in part):
            return by_pattern(part.items())
        cleaned = {key: options_of(found) for key, found in part.items()}
        return part if cleaned == part else cleaned
    if isinstance(part, list | tuple) and all(
        isinstance(pair, list | tuple) and len(pair) == 2 for pair in part
    ):
        return by_pattern(part)
    if hasattr(part, "route_for_task"):
        return lambda task, args, kwargs, options: options_of(
            part.route_for_task(task, args, kwargs)
        )
    if callable(part):
        return by_function(part)
    raise ConfigError(
        f"{name} must be a mapping, pairs, a function, or a list of these: {shown(part)}",
        advice=['{"shop.*": {"queue": "shop"}}'],
    )


def by_name(text: str, name: str) -> Route:
    """A route of the function that ``text`` names; it is imported when it is first asked."""
    found: list[Route] = []

    def ask(task: str, args: Any, kwargs: Any, options: dict[str, Any]) -> Any:
        if not found:
            path = text.replace(":", ".")
            module, _, attribute = path.rpartition(".")
            router = getattr(import_named(module, f"check {name}"), attribute, None)
            if router is None:
                raise ConfigError(f"{name}: {module} has no {attribute!r}")
            asked = route(router() if isinstance(router, type) else router, name)
            found.append(asked if callable(asked) else by_pattern(asked.items()))
        return found[0](task, args, kwargs, options)

    if "." not in text.replace(":", ".").strip("."):
        raise ConfigError(f"{name} names no function: {text!r}", advice=['"package.module.route"'])
    return ask


def by_pattern(pairs: Iterable[Any]) -> Route:
    """A route by the name of the task: an exact one goes before the patterns, in their order."""
    exact: dict[str, Any] = {}
    patterns: list[tuple[re.Pattern[str], Any]] = []
    for key, found in pairs:
        if isinstance(key, re.Pattern):
            patterns.append((key, options_of(found)))
        elif "*" in key:
            patterns.append((re.compile(fnmatch.translate(key)), options_of(found)))
        else:
            exact[key] = options_of(found)

    def ask(task: str, args: Any, kwargs: Any, options: dict[str, Any]) -> Any:
        if task in exact:
            return exact[task]
        return next((found for pattern, found in patterns if pattern.match(task)), None)

    return ask


def by_function(function: Callable[..., Any]) -> Route:
    """A route by a function; Celery gives it the task as ``task`` too, if it takes that."""
    try:
        parameters = inspect.signature(function).parameters.values()
        more = any(each.name == "task" or each.kind is each.VAR_KEYWORD for each in parameters)
    except (TypeError, ValueError):  # one that Python cannot look into
        more = False

    def ask(name: str, args: Any, kwargs: Any, options: dict[str, Any]) -> Any:
        named = {"task": None} if more else {}
        return options_of(function(name, args, kwargs, options, **named))

    return ask


def options_of(found: Any) -> Any:
    """The options of a route: a queue goes before an exchange and its key, as in Celery."""
    if not isinstance(found, Mapping):
        return found
    dropped = {*DROPPED, "exchange", "routing_key"} if found.get("queue") else DROPPED
    return {name: value for name, value in found.items() if name not in dropped}


def streamq_queues(value: object, name: str) -> tuple[Queue, ...]:
    """Make the value of ``task_queues`` queues of streamq.

    It is a list of queues or names, or a mapping of names to options.  Raises ConfigError for
    anything else.
    """
    if value is None:
        return ()
    if isinstance(value, Mapping):
        return tuple(queue_of_options(each, options, name) for each, options in value.items())
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ConfigError(
            f"{name} must be a list of queues: {shown(value)}", advice=['[Queue("mail")]']
        )
    return tuple(queue_of(each, name) for each in value)


def queue_of(value: Any, name: str) -> Queue:
    """Make a queue of one of streamq or kombu, or of a name."""
    if isinstance(value, Queue):
        return value
    if isinstance(value, str):
        return Queue(value)
    if not isinstance(getattr(value, "name", None), str):
        raise ConfigError(
            f"{name} must be a list of queues: {shown(value)}", advice=['[Queue("mail")]']
        )
    options = {
        "exchange": getattr(value, "exchange", None),
        "routing_key": getattr(value, "routing_key", None),
        "queue_arguments": getattr(value, "queue_arguments", None),
        "max_priority": getattr(value, "max_priority", None),
        "max_length": getattr(value, "max_length", None),
        "message_ttl": getattr(value, "message_ttl", None),
        "bindings": getattr(value, "bindings", None),
    }
    return queue_of_options(value.name, options, name)


def queue_of_options(queue: str, options: Any, name: str) -> Queue:
    """Make a queue of its name and options by kombu's names."""
    if options is not None and not isinstance(options, Mapping):
        raise ConfigError(
            f"{name}: the options of queue {queue!r} must be a mapping: {shown(options)}"
        )
    given = dict(options or {})
    arguments = given.get("queue_arguments") or {}
    priority = given.get("max_priority") or arguments.get("x-max-priority")
    exchange = exchange_of(given.get("exchange"), given.get("exchange_type"))
    key = given.get("binding_key") or given.get("routing_key") or None
    return Queue(
        queue,
        exchange,
        routing_key=key if exchange is not None else None,
        bindings=tuple(
            Binding(source, each.routing_key or "")
            for each in given.get("bindings") or ()
            if (source := exchange_of(each.exchange, None)) is not None
        ),
        max_priority=min(9, priority) if priority else None,
        max_length=given.get("max_length") or arguments.get("x-max-length"),
        message_ttl=given.get("message_ttl"),
    )


def exchange_of(value: Any, type: Any) -> Exchange | None:
    """Make an exchange of one of streamq or kombu, or of a name; None for the default one."""
    if value is None or isinstance(value, Exchange):
        return value
    name = value if isinstance(value, str) else getattr(value, "name", "")
    return Exchange(name, type or getattr(value, "type", None) or "direct") if name else None


def with_priority(queues: Iterable[Queue], priority: int | None) -> tuple[Queue, ...]:
    """The queues, each with levels of priority unless it has its own."""
    if not priority:
        return tuple(queues)
    return tuple(
        queue if queue.max_priority else replace(queue, max_priority=min(9, priority))
        for queue in queues
    )
