"""The table of settings: name, accepted values, default and meaning of each.

``config.py`` and the page ``docs/settings.md`` use this table.
"""

import zoneinfo
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import streamq.core.units as units
from streamq.config.celery_names import ADVICE, explain_foreign
from streamq.core.options import CONFIRM
from streamq.core.text import mask_url, nearest, shown
from streamq.errors import ConfigError
from streamq.routing import check_name
from streamq.serialization.signing import read_keys

#: The default of ``concurrency``: the number is that of the worker's machine.
USABLE_CPUS = "usable CPUs"
#: Payloads above this belong in a file or an object store; Redis stops serving while it copies.
LARGEST_PAYLOAD = "16MiB"

POOLS = ("prefork", "gevent", "solo")
LATER_POOLS = frozenset({"threads", "asyncio"})
#: Settings of a later version; they are refused.
LATER = frozenset(("autoscale",))
URL_SCHEMES = ("redis://", "rediss://", "unix://", "sentinel://", "sentinels://")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of setting: the reader of its values, and its unit in the documentation."""

    unit: str
    read: Callable[[object, str], Any]
    in_python_only: bool = False


def optional(kind: Kind) -> Kind:
    """The same kind, or no value: None in Python, "none" as text."""

    def read(value: object, name: str) -> Any:
        nothing = value is None or (isinstance(value, str) and value.strip().lower() == "none")
        return None if nothing else kind.read(value, name)

    return Kind(f"{kind.unit}, or none", read, kind.in_python_only)


def duration(least: str = "1ms") -> Kind:
    floor = units.seconds(least, "least")

    def read(value: object, name: str) -> float:
        seconds = units.seconds(value, name)
        if seconds < floor:
            raise ConfigError(f"{name} must be at least {least}: {value!r}")
        return seconds

    return Kind("seconds", read)


def size(least: str, most: str | None = None) -> Kind:
    floor, ceiling = units.size(least, "least"), units.size(most or units.LARGEST, "most")

    def read(value: object, name: str) -> int:
        size = units.size(value, name)
        if not floor <= size <= ceiling:
            bounds = f"from {least} to {most}" if most else f"at least {least}"
            raise ConfigError(
                f"{name} must be {bounds}: {value!r}",
                advice=["a number alone is bytes; write text for others: '300MB'"],
            )
        return size

    return Kind("bytes", read)


def limit() -> Kind:
    """A time limit: seconds, or 0 for none."""
    return Kind("seconds, 0 for none", units.limit)


def whole(unit: str, *, least: int = 1, most: int = units.LARGEST) -> Kind:
    return Kind(unit, lambda value, name: units.whole(value, name, least=least, most=most))


def choice(*allowed: str) -> Kind:
    unit = " or ".join([", ".join(allowed[:-1]), allowed[-1]])
    return Kind(unit, lambda value, name: units.choice(value, name, allowed))


def names(value: object, name: str) -> tuple[str, ...]:
    return tuple(check_name(part, f"{name}:") for part in units.texts(value, name))


def pool(value: object, name: str) -> str:
    if isinstance(value, str) and value.lower() in LATER_POOLS:
        raise ConfigError(f"not in this version: {value}", advice=[f"pools: {', '.join(POOLS)}"])
    return units.choice(value, name, POOLS)


def redis_url(value: object, name: str) -> str:
    if not isinstance(value, str):  # not shown: it may contain a password
        raise ConfigError(f"{name} must be text, not {type(value).__name__}")
    url = units.text(value, name)
    if not url.startswith(URL_SCHEMES):
        raise ConfigError(
            f"{name} is not the address of a Redis: {mask_url(url)!r}",
            advice=[
                "redis://host:6379/0, rediss://host:6379/0 or unix:///path/to/redis.sock",
                "sentinel://host:26379,host:26379/service/0  asks Sentinels for the master; "
                "sentinels:// with TLS",
            ],
        )
    return url


def timezone(value: object, name: str) -> str:
    zone = units.text(value, name)
    try:
        zoneinfo.ZoneInfo(zone)
    except (LookupError, ValueError, OSError):
        near = nearest(zone, zoneinfo.available_timezones())
        advice = [f"did you mean {near!r}?"] if near else ()
        raise ConfigError(f"{name}: no time zone named {zone!r}", advice=advice) from None
    return zone


def entries(value: object, name: str) -> Any:
    """Accept a mapping; its entries are checked when they are used.  An empty one is a new one."""
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"{name} must be a mapping: {shown(value)}",
            advice=['{"nightly": {"task": "shop.report", "schedule": crontab(hour=2)}}'],
        )
    return value or {}


def routes(value: object, name: str) -> Any:
    """Accept a mapping, a callable, or a list of these; the rules are checked when used."""
    parts = value if isinstance(value, list | tuple) else [value]
    for part in parts:
        if not isinstance(part, Mapping) and not callable(part):
            raise ConfigError(
                f"{name} must be a mapping, a callable, or a list of these: {value!r}",
                advice=['{"shop.*": {"queue": "shop"}}'],
            )
        for pattern in part if isinstance(part, Mapping) else ():
            if not isinstance(pattern, str):
                raise ConfigError(
                    f"{name}: a task is given by its name or a glob, not {shown(pattern)}",
                    advice=[
                        '{"shop.*": {"queue": "shop"}}',
                        "what a glob cannot say: a function (name, args, kwargs, options) that "
                        "returns the options, or None",
                    ],
                )
    return value


def commit_of(value: object, name: str) -> bool | str:
    """Read ``on_commit``: a truth, or the alias of a database of Django."""
    if isinstance(value, str) and value.strip().lower() not in units.TRUTHS:
        return units.text(value, name)
    return units.truth(value, name)


TRUTH = Kind("true or false", units.truth)
TEXT = Kind("text", units.text)
TEXTS = Kind("list of texts", units.texts)
NAME = Kind("name", lambda value, name: check_name(units.text(value, name), f"{name}:"))
NAMES = Kind("list of names", names)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting; ``default`` is in the form that people write."""

    name: str
    kind: Kind
    default: object
    meaning: str
    flag: str | None = None
    aliases: tuple[str, ...] = ()

    @property
    def variable(self) -> str | None:
        """The environment variable that sets it."""
        return None if self.kind.in_python_only else f"STREAMQ_{self.name.upper()}"


TABLE = (
    # where
    Setting("url", optional(Kind("URL", redis_url)), None,
            "Where Redis is; with none, the bundled server is used.",
            flag="-b, --broker", aliases=("broker_url",)),
    Setting("namespace", NAME, "streamq",
            "The prefix of every key; apps with different namespaces do not see each other."),
    # the app
    Setting("app", optional(TEXT), None,
            "Where commands find the app: MODULE or MODULE:NAME.", flag="-A, --app"),
    Setting("include", TEXTS, (),
            "Modules a worker imports so that their tasks are known.",
            flag="-I, --include", aliases=("imports",)),
    Setting("timezone", optional(Kind("time zone", timezone)), "UTC",
            "The zone of times that name none; with none, it is UTC."),
    Setting("beat_schedule", Kind("mapping", entries, True), {},
            "Schedules by name, as Celery's users write them: task, schedule, args, kwargs, "
            "options."),
    Setting("scheduler", TRUTH, True,
            "Whether a worker fires schedules.", flag="--no-scheduler"),
    Setting("schedule_revision", whole("0 or more", least=0), 0,
            "Which code declares schedules: one of a lower number does not replace them."),
    # routing
    Setting("queues", NAMES, (),
            "The queues a worker reads; with none, all that the app declares.",
            flag="-Q, --queues"),
    Setting("task_default_queue", NAME, "default",
            "The queue of tasks that name neither queue nor exchange."),
    Setting("task_create_missing_queues", TRUTH, True,
            "Whether naming a queue that does not exist creates it."),
    Setting("task_routes", optional(Kind("mapping, callable or list", routes, True)), None,
            "Options by task name or glob, or a callable that returns them."),
    Setting("task_default_priority", whole("0–9", least=0, most=9), 0,
            "The priority of tasks that name none; 9 goes first, in queues with max_priority."),
    # what is sent
    Setting("task_serializer", TEXT, "json",
            "The content type of arguments: json, pickle, yaml, msgpack or one you registered."),
    Setting("result_serializer", TEXT, "json", "The content type of results."),
    Setting("accept_content", TEXTS, ("json",),
            "Content types that are decoded; messages of others become dead letters."),
    Setting("task_compression", optional(TEXT), None, "How arguments are compressed: zlib, zstd."),
    Setting("result_compression", optional(TEXT), None, "How results are compressed: zlib, zstd."),
    Setting("message_limit", size("1KiB", LARGEST_PAYLOAD), "1MiB",
            "The largest message that is sent."),
    Setting("result_limit", size("1KiB", LARGEST_PAYLOAD), "1MiB",
            "The largest result that is stored; a larger one fails its task."),
    Setting("decompressed_limit", size("1KiB"), "8MiB",
            "The largest payload that decompressing may produce."),
    Setting("decompressed_ratio", whole("times"), 100,
            "How many times its compressed size a payload may become."),
    # who may send
    Setting("signing", choice("off", "permissive", "required"), "off",
            "Sign what is sent, and refuse what is signed wrongly or, if required, not at all."),
    Setting("signing_keys", optional(Kind("ID:SECRET list", read_keys)), None,
            "Secrets by the ids of their keys, at least 32 bytes each; any of them verifies."),
    Setting("signing_key", optional(TEXT), None,
            "The id of the key to sign with; without one, the first."),
    # sending
    Setting("publish_timeout", duration(), "30s",
            "How long a producer tries before it gives up with an error; 1.5 s at most in a "
            "process that has never reached Redis nor learnt its address from a Sentinel: its URL "
            "is likely wrong. All of a publish ends by then: connecting, answers, confirmation, "
            "and declaring what is missing."),
    Setting("confirm", choice(*CONFIRM), "server",
            "What confirms an accepted message: the server's answer, its disk, or replicas."),
    Setting("confirm_replicas", whole("replicas"), 1,
            "How many replicas must have a message with confirm=replica."),
    Setting("confirm_timeout", duration(), "5s",
            "How long a producer waits for disk or replicas before NotConfirmed; not beyond "
            "`publish_timeout`."),
    Setting("on_commit", Kind("true, false, or the alias of a database", commit_of), False,
            "Whether calls made inside a transaction of Django wait for its commit: of the default "
            "database, or of the one with this alias."),
    Setting("dedup_window", duration("0s"), "10m",
            "How long the same task id counts as the same task; longer while that has not ended."),
    # how tasks run
    Setting("task_always_eager", TRUTH, False,
            "Run tasks where they are called instead of sending them; for tests."),
    Setting("task_eager_propagates", TRUTH, False,
            "Whether a task that is run in place raises where it was called."),
    Setting("acks_late", TRUTH, True,
            "Acknowledge after the run (at least once), else before it (at most once).",
            aliases=("task_acks_late",)),
    Setting("max_deliveries", whole("crashes"), 3,
            "Crashes of its worker after which a message becomes a dead letter."),
    Setting("task_time_limit", limit(), "1h",
            "How long a task may run before its process is ended.", flag="--time-limit"),
    Setting("task_soft_time_limit", limit(), 0,
            "How long a task may run before SoftTimeLimitExceeded is raised inside it.",
            flag="--soft-time-limit"),
    Setting("max_retries", optional(whole("retries", least=0)), 3,
            "How often a task is tried again; none means for ever."),
    Setting("default_retry_delay", duration("0s"), "3m",
            "The pause before a task is tried again, if nothing else is asked for."),
    Setting("retry_backoff_max", duration(), "10m",
            "The longest pause of a task whose pauses grow (retry_backoff)."),
    Setting("retry_jitter", TRUTH, True,
            "Whether growing pauses are chosen by chance between 0 and their length."),
    Setting("unknown_task_patience", duration("0s"), "25s",
            "How long a message of a task that a worker does not know is offered to others "
            "before it becomes a dead letter; longer if another one has its task."),
    Setting("revoke_expires", duration(), "30d",
            "How long a revocation is kept for a message that no worker has met."),
    # results
    Setting("ignore_result", TRUTH, False, "Store no result.", aliases=("task_ignore_result",)),
    Setting("track_started", TRUTH, True,
            "Record when a task starts, and where.", aliases=("task_track_started",)),
    Setting("result_expires", duration(), "1d",
            "How long a result is kept after the task ended."),
    Setting("dead_max_length", whole("messages"), 10_000,
            "Dead letters kept for each queue; the oldest go first."),
    Setting("dead_expires", duration(), "30d", "How long a dead letter is kept."),
    # the worker
    Setting("pool", Kind("prefork, gevent or solo", pool), "prefork",
            "How a worker runs tasks: in processes, in greenlets, or one by one.",
            flag="-P, --pool", aliases=("worker_pool",)),
    Setting("concurrency", whole("tasks"), USABLE_CPUS,
            "Tasks at a time: processes for prefork, greenlets in each process for gevent.",
            flag="-c, --concurrency", aliases=("worker_concurrency",)),
    Setting("processes", whole("processes"), 1,
            "Processes of the gevent pool.", flag="--processes"),
    Setting("worker_name", TEXT, "worker@%h",
            "The worker's name; %h is the host name, %n its first part, %d its domain.",
            flag="-n"),
    Setting("lease", duration("500ms"), "15s",
            "How long a worker may be silent before others take over its messages."),
    Setting("shutdown_timeout", duration("0s"), "25s",
            "How long a worker that stops lets running tasks finish."),
    Setting("max_tasks_per_child", optional(whole("tasks")), None,
            "Tasks after which a process is replaced.",
            flag="--max-tasks-per-child", aliases=("worker_max_tasks_per_child",)),
    Setting("max_memory_per_child", optional(size("1MiB")), None,
            "Resident memory above which a process is replaced after its task.",
            flag="--max-memory-per-child"),
    Setting("log_level", choice("debug", "info", "warning", "error", "critical"), "info",
            "The least important log lines that are shown.", flag="-l, --log-level"),
    Setting("log_format", choice("text", "json"), "text",
            "Log lines for people or for programs.", flag="--log-format"),
)  # fmt: skip

SETTINGS: Mapping[str, Setting] = {setting.name: setting for setting in TABLE}
ALIASES: Mapping[str, str] = {alias: setting.name for setting in TABLE for alias in setting.aliases}


def is_foreign(name: str) -> bool:
    """Whether ``name`` is a setting of Celery or of a later version, and none of this one."""
    return name in LATER or (name in ADVICE and not name.endswith("_"))


def find(
    name: str, spell: Callable[[str], str] = str, known: Mapping[str, object] | None = None
) -> Setting:
    """Return the setting called ``name``, by its own name or Celery's.

    Raises ConfigError for any other name, with advice and the facts in ``known``; ``spell``
    writes a name as it is written in the source of this one.
    """
    if setting := SETTINGS.get(ALIASES.get(name, name)):
        return setting
    if name in LATER:
        raise ConfigError(f"not in this version: {name}", known=known)
    if explanation := explain_foreign(name):
        raise ConfigError(f"{name} is not a setting here", known=known, advice=[explanation])
    near = nearest(name.lower(), [*SETTINGS, *ALIASES])
    raise ConfigError(
        f"unknown setting {spell(name)!r}",
        known=known,
        advice=[f"did you mean {spell(near)!r}?" if near else "`streamq config show` lists all"],
    )
