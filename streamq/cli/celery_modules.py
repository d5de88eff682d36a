"""What has no counterpart in ``streamq.celery``, and what to do about it."""

from collections.abc import Mapping

#: Dotted name → what to do about it; the longest that fits is said.
ADVICE: Mapping[str, str] = {
    "celery": "streamq.celery has no such name: see 'Coming from Celery' in the docs",
    "celery._state": "from streamq.celery import current_app, current_task",
    "celery.app.amqp": "queues and exchanges are declared by app.conf.task_queues",
    "celery.app.autoretry": "give the task autoretry_for=(…)",
    "celery.app.base": "from streamq.celery import Celery",
    "celery.app.builtins": "streamq has no tasks of its own",
    "celery.app.defaults": "`streamq config show` lists the settings",
    "celery.app.log": "connect streamq.celery.signals.setup_logging",
    "celery.app.registry": "app.tasks is the registry",
    "celery.app.routes": "give task_routes a name, a glob or a function",
    "celery.app.trace": "connect streamq.celery.signals, or write middleware",
    "celery.app.utils": "`streamq config show` lists the settings",
    "celery.apps": "a worker is started by its command: streamq worker",
    "celery.backends": "results live in the Redis of the tasks: use AsyncResult",
    "celery.beat": "every worker fires schedules: streamq.celery.schedules, streamq schedules",
    "celery.bin": "command lines are streamq's own: streamq --help",
    "celery.bootsteps": "connect worker_init, worker_ready or worker_shutdown of "
    "streamq.celery.signals",
    "celery.concurrency": "the pool is chosen by `streamq worker -P`",
    "celery.contrib.abortable": "AsyncResult(id).revoke(terminate=True) stops a task",
    "celery.contrib.migrate": "messages are moved by `streamq dead` and `streamq redis`",
    "celery.contrib.rdb": "run the task in your own process, task(…), and use pdb there",
    "celery.contrib.sphinx": "tasks are documented as the functions that they are",
    "celery.decorators": "from streamq.celery import shared_task",
    "celery.events": "events are not in this version: connect streamq.celery.signals",
    "celery.fixups": "not needed: remove it",
    "celery.five": "this is Python 3: remove it",
    "celery.loaders": "settings come by app.config_from_object(…)",
    "celery.local": "from streamq.celery import current_app, current_task",
    "celery.platforms": "not part of streamq: use os and signal of Python",
    "celery.security": "messages are signed by the setting signing_keys",
    "celery.task": "from streamq.celery import Task, shared_task",
    "celery.utils": "not part of streamq: copy the function, or use Python's own",
    "celery.utils.log": "from streamq.celery.utils.log import get_task_logger; all else is "
    "Python's logging",
    "celery.utils.time": "use datetime and zoneinfo of Python",
    "celery.worker": "the worker's parts are streamq's own: use streamq.celery.signals and "
    "app.control",
    "kombu": "streamq.celery.kombu has no such name: use a Queue, an Exchange or streamq itself",
    "kombu.common": "a queue for each reader and an Exchange of type fanout do what Broadcast does",
    "kombu.pools": "connections are streamq's own: tasks are sent by delay() and apply_async()",
    "kombu.transport": "the transport is Redis: CELERY_BROKER_URL names it",
    "kombu.utils": "not part of streamq: copy the function, or use Python's own",
    "django_celery_beat": "schedules are in Redis: streamq schedules add, app.schedules.add",
    "django_celery_results": "results live in the Redis of the tasks: use AsyncResult",
    "django_celery": "it stays Celery's, and needs it",
    "pytest_celery": "pytest_plugins = ('streamq.celery.contrib.pytest',) has the fixtures",
    "billiard": "use multiprocessing or concurrent.futures of Python",
    "flask_celeryext": "it makes an app of Celery: use streamq.celery or streamq.contrib.flask",
    "flask_celery": "it makes an app of Celery: use streamq.celery or streamq.contrib.flask",
    "celery_batches": "batches are not in this version",
    "celery_once": "unique tasks are not in this version",
    "celery_singleton": "unique tasks are not in this version",
    "celery_progress": "it imports Celery: AsyncResult(id).info is what update_state gave",
    "redbeat": "schedules are not in this version: it stays Celery's, and needs it",
    "opentelemetry.instrumentation.celery": "it imports Celery: take it out; receivers of "
    "task_prerun and task_postrun may begin and end a span",
    "sentry_sdk.integrations.celery": "it imports Celery: take CeleryIntegration out; a receiver "
    "of task_failure may report what tasks raise",
}

#: Beginnings of the names of packages that work with Celery alone.
FOREIGN = ("django_celery_", "pytest_celery", "billiard", "flask_celery")
#: Other packages and modules that work with Celery alone.
FOREIGN_MODULES = (
    "celery_batches",
    "celery_once",
    "celery_progress",
    "celery_singleton",
    "opentelemetry.instrumentation.celery",
    "redbeat",
    "sentry_sdk.integrations.celery",
)

#: Packages of Celery that programs name in text, and that have no counterpart.
INTERNAL = (
    "celery.app",
    "celery.apps",
    "celery.backends",
    "celery.beat",
    "celery.bin",
    "celery.bootsteps",
    "celery.concurrency",
    "celery.contrib",
    "celery.events",
    "celery.fixups",
    "celery.loaders",
    "celery.platforms",
    "celery.security",
    "celery.utils",
    "celery.worker",
    "kombu.transport",
    "kombu.utils",
)


def advice_for(name: str) -> str:
    """What to do about something that has no counterpart."""
    fitting = [known for known in ADVICE if is_below(name, known) or name.startswith(f"{known}_")]
    return ADVICE[max(fitting, key=len)] if fitting else ""


def foreign_package(name: str) -> bool:
    """Whether a module belongs to a package that works with Celery alone."""
    return name.startswith(FOREIGN) or any(is_below(name, each) for each in FOREIGN_MODULES)


def internal(name: str) -> bool:
    """Whether a dotted name is below a package of Celery, and not a task that is called so."""
    return any(is_below(name, package) for package in INTERNAL)


def is_below(name: str, package: str) -> bool:
    """Whether a dotted name is a package, or something in it."""
    return name == package or name.startswith((f"{package}.", f"{package}:"))
