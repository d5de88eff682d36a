"""Options of tasks and calls by Celery's names, made those of streamq.

A project that ran on Celery gives options that streamq does not have.  On a task they become its
attributes; of a call they are dropped.  Each is named once in a warning where that matters.
"""

import logging
from collections.abc import Mapping
from typing import Any

from streamq.celery.config_values import compression, content
from streamq.core.options import CALL_ONLY, CHECKS, DECORATOR_ONLY, LATER
from streamq.core.text import nearest

logger = logging.getLogger("streamq")

#: Options of a task that Celery has and streamq does not need: they are attributes of the task.
ATTRIBUTES = frozenset(
    {"abstract", "acks_on_failure", "acks_on_failure_or_timeout", "acks_on_timeout"}
    | {"add_to_parent", "backend", "delivery_mode", "exchange_type", "from_config", "immutable"}
    | {"mandatory", "reject_on_worker_lost", "resultrepr_maxsize", "retry_on_worker_lost"}
    | {"send_events", "store_eager_result", "store_errors_even_if_ignored", "trail"}
    | {"Request", "Strategy", "interval_start", "interval_step", "interval_max"}
)
#: Options of a task that Celery acts on, and streamq in a later version.
LATER_OPTIONS = LATER | {"pydantic"}
#: Options that the decorator may have.
DECORATOR = frozenset(CHECKS) - CALL_ONLY
#: Options that a call may have.
CALL = frozenset(CHECKS) - DECORATOR_ONLY

#: What was warned of already.
warned: set[str] = set()


def warn_once(key: str, message: str, *details: object) -> None:
    """Log a warning, unless this process has logged it."""
    if key not in warned:
        warned.add(key)
        logger.warning(message, *details)


def task_options(name: str, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split the options of a task into those of streamq and other attributes."""
    known: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    for option, value in given.items():
        if option in DECORATOR:
            known[option] = value
            continue
        attributes[option] = value
        if option in LATER_OPTIONS and value:
            warn_once(f"{name} {option}", "%s: not in this version: %s", name, option)
        elif (
            option not in ATTRIBUTES | LATER_OPTIONS
            and (near := nearest(option, DECORATOR)) is not None
        ):
            message = "%s: %s is no option, and only an attribute of the task; is %s meant?"
            warn_once(f"{name} {option}", message, name, option, near)
    return one_destination(translated(known)), attributes


def call_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a call that streamq has; what nobody knows is dropped, with one warning.

    Options of a later version, such as ``link``, are left in: they are refused by name.
    """
    found: dict[str, Any] = {}
    for option, value in given.items():
        if value is None:
            continue
        if option == "task_id" and not isinstance(value, str):
            value = str(value)  # such as a UUID
        elif option == "countdown" and isinstance(value, int | float) and value < 0:
            value = 0  # with Celery a call that should have been sent before is sent at once
        if option in CALL or (option in LATER and value):
            found[option] = value
        elif option not in LATER:
            near = nearest(option, CALL)
            message = "the option %s of a call is dropped: unknown here"
            message += f"; is {near} meant?" if near else ""
            warn_once(f"call {option}", message, option)
    return one_destination(translated(found))


def translated(options: dict[str, Any]) -> dict[str, Any]:
    """Replace names of serializers and compressions that Celery has and streamq has not."""
    for option, translate in (("serializer", content), ("compression", compression)):
        if options.get(option) is not None:
            options[option] = translate(options[option], f"option {option}")
    return options


def one_destination(options: dict[str, Any]) -> dict[str, Any]:
    """Keep one destination: Celery takes a queue together with an exchange or a routing key.

    There the queue wins, unless both others are given.
    """
    if options.get("queue") is None:
        return options
    if options.get("exchange") and options.get("routing_key"):
        del options["queue"]
    else:
        options.pop("exchange", None)
        options.pop("routing_key", None)
    return options
