"""Task options: their names, checks and precedence.

The call has precedence over the decorator, the decorator over ``task_routes``, and that over
the configuration.
"""

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any

from streamq.core.retry import class_names
from streamq.core.text import nearest, shown
from streamq.core.units import SHORTEST, ahead, choice, limit, seconds
from streamq.errors import CHANGEABLE, ConfigError
from streamq.routing import check_name

#: Confirmations of an accepted message: in the server's memory, on its disk, or on replicas.
CONFIRM = ("server", "fsync", "replica")


def flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"option {name} must be True or False, not {value!r}")
    return value


def text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"option {name} must be text, not {value!r}")
    return value


def named(value: Any, name: str) -> str:
    return check_name(getattr(value, "name", value), name)


def exchange(value: Any, name: str) -> str:
    return "" if value == "" else named(value, name)


def headers(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ConfigError(f"option {name} must map names to values, not {value!r}")
    return dict(value)


def priority(value: Any, name: str) -> int:
    if type(value) is not int or not 0 <= value <= 9:
        raise ConfigError(f"option {name} must be 0 to 9 (9 goes first), not {value!r}")
    return value


def count(value: Any, name: str) -> int:
    if type(value) is not int or value < 1:
        raise ConfigError(f"option {name} must be a whole number from 1, not {value!r}")
    return value


def times(value: Any, name: str) -> int | None:
    if value is not None and (type(value) is not int or value < 0):
        raise ConfigError(
            f"option {name} must be a whole number from 0, or None for ever, not {value!r}"
        )
    return value


def lifetime(value: Any, name: str) -> float:
    found = seconds(value, f"option {name}")
    if found < SHORTEST:
        raise ConfigError(
            f"option {name} must be at least a millisecond, not {value!r}",
            advice=["ignore_result=True keeps no result"],
        )
    return found


def backoff(value: Any, name: str) -> float:
    return float(value) if isinstance(value, bool) else seconds(value, name)


def exceptions(value: Any, name: str) -> frozenset[str]:
    if type(value) is frozenset and all(isinstance(name, str) for name in value):
        return value  # it has been checked before
    classes = value if isinstance(value, tuple | list | set | frozenset) else (value,)
    if not all(isinstance(cls, type) and issubclass(cls, BaseException) for cls in classes):
        raise ConfigError(f"option {name} must be exception classes, not {value!r}")
    return class_names(classes)


def retry_details(value: Any, name: str) -> dict[str, Any]:
    known = {"max_retries", "countdown", "eta", *CHANGEABLE, "args", "kwargs"}
    if not isinstance(value, Mapping) or not known.issuperset(value):
        raise ConfigError(
            f"option {name} must map arguments of retry() to values, not {value!r}",
            known={"arguments": ", ".join(sorted(known))},
        )
    return dict(value)


def moment(value: Any, name: str) -> datetime:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            value = repr(value)
    if not isinstance(value, datetime):
        raise ConfigError(
            f"option {name} must be a moment: a datetime, not {value}",
            advice=[
                'as text: "2026-12-24T18:00", or with a zone "2026-12-24T18:00+01:00"',
                "for a time from now there is countdown",
            ],
        )
    return value


def expiry(value: Any, name: str) -> float | datetime:
    if isinstance(value, datetime):
        return value
    if isinstance(value, str) and value[:4].isdigit() and value[4:5] == "-":
        try:
            return datetime.fromisoformat(value)
        except ValueError as error:
            raise ConfigError(
                f"option {name} is not a moment: {value!r}", advice=[str(error), 'or "10m"']
            ) from None
    return ahead(value, name)


def confirm(value: Any, name: str) -> str:
    return choice(value, f"option {name}", CONFIRM)


def commit(value: Any, name: str) -> bool | str:
    """Check ``on_commit``: True, False, or the alias of a database of Django."""
    if isinstance(value, bool) or (isinstance(value, str) and value):
        return value
    raise ConfigError(
        f"option {name} must be True, False, or the alias of a database, not {value!r}"
    )


#: The options of this version, each with the check of its value.
CHECKS: dict[str, Callable[[Any, str], Any]] = {
    "name": named,
    "bind": flag,
    "queue": named,
    "exchange": exchange,
    "routing_key": text,
    "headers": headers,
    "priority": priority,
    "serializer": text,
    "compression": text,
    "acks_late": flag,
    "ignore_result": flag,
    "result_expires": lifetime,
    "track_started": flag,
    "max_deliveries": count,
    "max_retries": times,
    "default_retry_delay": seconds,
    "autoretry_for": exceptions,
    "dont_autoretry_for": exceptions,
    "retry_backoff": backoff,
    "retry_backoff_max": seconds,
    "retry_jitter": flag,
    "retry_kwargs": retry_details,
    "throws": exceptions,
    "time_limit": limit,
    "soft_time_limit": limit,
    "countdown": ahead,
    "eta": moment,
    "expires": expiry,
    "task_id": named,
    "confirm": confirm,
    "on_commit": commit,
    "shadow": text,
    "typing": flag,
}
#: Options for which None is a value, and not the same as not given.
NONE_IS_A_VALUE = frozenset({"max_retries"})

#: Options of a later version.
LATER = frozenset(
    [
        "rate_limit",
        "link",
        "link_error",
    ]
)

#: Options of the decorator only, and of a call only.
DECORATOR_ONLY = frozenset({"name", "bind", "typing", "throws", "retry_kwargs"})
CALL_ONLY = frozenset({"task_id", "countdown", "eta"})

ROUTE = ("queue", "exchange", "routing_key")


def checked(options: Mapping[str, Any], *, decorator: bool = False) -> dict[str, Any]:
    """Return the options with checked values, durations in seconds; None means not given.

    Raises ConfigError for an unknown name (with the nearest known one), for a name of a
    later version, and for a value that does not fit.
    """
    found: dict[str, Any] = {}
    for name, value in options.items():
        check = CHECKS.get(name)
        if check is None or name in (CALL_ONLY if decorator else DECORATOR_ONLY):
            raise unknown(name, decorator)
        if value is not None or name in NONE_IS_A_VALUE:
            found[name] = check(value, name)
    other = next((name for name in ("exchange", "routing_key") if name in found), None)
    if "queue" in found and other is not None:
        raise ConfigError(
            f"queue={found['queue']!r} and {other}={found[other]!r} exclude each other",
            advice=["name the queue, or the exchange and a routing_key"],
        )
    if "countdown" in found and "eta" in found:
        raise ConfigError("countdown and eta exclude each other: both say when the task is due")
    check_limits(found)
    return found


def misplaced(task: str, named: Mapping[str, Any], parameters: Collection[str]) -> str:
    """Advice for options of a call that were given as arguments of the task; '' if none were.

    They are those of ``named`` for which the function has no parameter, and a call an option.
    """
    known = CHECKS.keys() - DECORATOR_ONLY - set(parameters)
    options = [f"{name}={shown(value)}" for name, value in named.items() if name in known]
    if not options:
        return ""
    name, given = task.rpartition(".")[2], ", ".join(options)
    return (
        f"\n  → options go before the call: {name}.options({given}).delay(…)"
        f"\n  → or beside its arguments: {name}.apply_async((…), {given})"
    )


def check_limits(options: Mapping[str, Any]) -> None:
    """Raise ConfigError for a soft time limit that is not below the hard one."""
    hard, soft = options.get("time_limit"), options.get("soft_time_limit")
    if hard and soft and soft >= hard:
        raise ConfigError(
            f"soft_time_limit={soft:g} must be less than time_limit={hard:g}",
            advice=["the soft limit raises inside the task, the hard one ends its process"],
        )


def unknown(name: str, decorator: bool) -> ConfigError:
    """Make the error of a name that is no option here."""
    if name in LATER:
        return ConfigError(f"not in this version: {name}")
    if name in DECORATOR_ONLY | CALL_ONLY:
        return ConfigError(f"option {name} belongs to the {'call' if decorator else 'decorator'}")
    hint = nearest(name, [*CHECKS, *LATER])
    return ConfigError(
        f"unknown option {name!r}", advice=[f"did you mean {hint!r}?"] if hint else ()
    )


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge layers of options; the first layer has the highest precedence.

    The destination is one decision: a layer with a queue hides the exchange and routing key
    of the layers below it, and the other way round.  So is the time: countdown or eta.
    """
    result: dict[str, Any] = {}
    for layer in layers:
        hidden = hidden_by(result)
        for name, value in layer.items():
            if name not in hidden:
                result.setdefault(name, value)
    return result


def hidden_by(found: Mapping[str, Any]) -> tuple[str, ...]:
    """The options of lower layers that these options exclude."""
    hidden: tuple[str, ...] = ()
    if "queue" in found:
        hidden = ("exchange", "routing_key")
    elif "exchange" in found or "routing_key" in found:
        hidden = ("queue",)
    if "countdown" in found or "eta" in found:
        hidden += ("countdown", "eta")
    return hidden


#: Options that a class of tasks may set, and that can be read as attributes of a task.
DECORATOR_OPTIONS = frozenset(CHECKS) - CALL_ONLY - {"name"}
#: Options whose setting has another name.
SETTING_OF = {
    "serializer": "task_serializer",
    "compression": "task_compression",
    "priority": "task_default_priority",
    "time_limit": "task_time_limit",
    "soft_time_limit": "task_soft_time_limit",
}


def read_option(task: Any, name: str) -> Any:
    """Return an option of a task that its class does not set."""
    own: Mapping[str, Any] | None = vars(task).get("own_options")
    if own is None and name == "sender":
        raise ConfigError(
            f"this {type(task).__qualname__} is not registered with an app, and cannot be sent",
            advice=["@app.task(base=…), or app.register_task(…) with streamq.celery"],
        )
    if own is None or name not in DECORATOR_OPTIONS:
        raise AttributeError(f"the task has no attribute {name!r}")
    if name in own:
        return own[name]
    return getattr(task.sender.conf, SETTING_OF.get(name, name), None)
