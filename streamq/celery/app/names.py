"""Names of apps, classes named as text, copies of tasks, and parts that an app does not have."""

import sys
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from streamq.celery.shared import MakeTask
from streamq.config.importing import import_named
from streamq.errors import ConfigError
from streamq.host.modules import names_in, real_name
from streamq.routing import FORBIDDEN

#: The most characters of an app's name that come from ``main``.
LONGEST_NAME = 100
#: Arguments of Celery's constructor that mean nothing here.
IGNORED = (
    "loader", "amqp", "events", "log", "control", "fixups", "autofinalize", "strict_typing",
    "result_cls", "accept_magic_kwargs",
)  # fmt: skip

#: Parts of Celery's app that streamq does not have, and what stands for them.
ELSEWHERE = {
    "amqp": "app.queues declares queues; streamq queues ls shows them",
    "backend": "app.AsyncResult(id) reads results",
    "broker_connection": "streamq doctor checks Redis; app.control.ping() asks workers",
    "bugreport": "streamq doctor",
    "connection": "streamq doctor checks Redis; app.control.ping() asks workers",
    "connection_for_read": "streamq doctor checks Redis; app.control.ping() asks workers",
    "connection_for_write": "streamq doctor checks Redis; app.control.ping() asks workers",
    "connection_or_acquire": "streamq doctor checks Redis; app.control.ping() asks workers",
    "events": "signals tell what tasks do",
    "loader": "app.config_from_object and app.autodiscover_tasks load",
    "log": "the signal setup_logging replaces the logging",
    "pool": "the app keeps its connections itself; app.close() closes them",
    "producer_or_acquire": "the app keeps its connections itself; app.close() closes them",
    "producer_pool": "the app keeps its connections itself; app.close() closes them",
    "select_queues": "streamq worker -Q NAMES",
    "setup_security": "the settings signing and signing_keys sign messages",
    "steps": "signals such as worker_init and worker_shutdown",
    "Beat": "every worker fires schedules",
    "Worker": "streamq worker",
    "WorkController": "streamq worker",
}


def app_name(main: str | None) -> str:
    """The name of an app that is called ``main``: without what a name must not have."""
    kept = "".join(
        "-" if char in FORBIDDEN or not char.isprintable() else char for char in main or ""
    )
    return kept.encode()[:LONGEST_NAME].decode(errors="ignore") or "celery"


def named_class(name: str) -> Any:
    """Import a class that is named as text: ``shop.tasks:Base`` or ``shop.tasks.Base``."""
    module, _, attribute = name.replace(":", ".").rpartition(".")
    found = getattr(import_named(module), attribute, None) if module else None
    if found is None:
        raise ConfigError(
            f"there is no class {name!r}",
            known={"given as": "task_cls"},
            advice=["MODULE:CLASS, as in shop.tasks:Base"],
        )
    return found


def words_for(app: Any) -> list[str]:
    """The words of the command line that stand for this app: ``celery -A shop:app``.

    Raises ConfigError if no module holds the app.
    """
    for name, module in list(sys.modules.items()):
        for attribute, value in list(names_in(module).items()):
            if value is app and not attribute.startswith("_"):
                return ["celery", "-A", f"{real_name(names_in(module), name) or name}:{attribute}"]
    raise ConfigError(
        "no module holds this app, so that a worker could not find it",
        advice=["app = Celery(…) in a module, then app.start()"],
    )


def without_program(argv: Sequence[str]) -> list[str]:
    """The words of a command line without the name of the program: this one, or ``celery``."""
    words = list(argv)
    return words[1:] if words[:1] in (sys.argv[:1], ["celery"]) else words


def is_redefined(task: Any, function: Any) -> bool:
    """Whether a function replaces that of a task: its module was loaded again."""
    known = task.function
    if known is function:
        return False
    path = getattr(function, "__qualname__", "<")
    same = path == getattr(known, "__qualname__", None) and function.__module__ == known.__module__
    return same and "<" not in path


def maker_of(task: Any, options: Mapping[str, Any]) -> MakeTask:
    """What makes the same task for other apps, as long as the task itself lives."""
    known, name = weakref.ref(task), task.name

    def make(app: Any) -> None:
        found = known()
        if found is not None and app is not found.app and name not in app.tasks.tasks:
            app._task_from_fun(found.function, **{**options, "name": name})

    return make
