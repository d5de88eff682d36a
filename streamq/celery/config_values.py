"""Values of Celery's settings that mean something else here, and settings that are refused."""

from collections.abc import Callable, Mapping
from datetime import tzinfo
from typing import Any

from streamq.celery.config_names import DEFAULTS
from streamq.celery.config_routes import streamq_routes
from streamq.celery.config_servers import check_backend, streamq_url
from streamq.core.units import LONGEST, texts, whole
from streamq.errors import ConfigError

#: Given as a value: the default.
DEFAULT: Any = object()

#: Content types by their names.
CONTENT: Mapping[str, str] = {
    "application/json": "json",
    "application/x-python-serialize": "pickle",
    "application/x-msgpack": "msgpack",
    "application/msgpack": "msgpack",
    "application/x-yaml": "yaml",
}
#: Compressions: both sides are streamq, so that gzip is as good as zlib.
COMPRESSIONS: Mapping[str, str] = {
    "gzip": "zlib",
    "application/x-gzip": "zlib",
    "zstandard": "zstd",
    "application/zstd": "zstd",
}
POOLS: Mapping[str, str] = {"processes": "prefork", "thread": "threads"}


def content(value: Any, name: str) -> Any:
    """The name of a content type, which may be given as a MIME type."""
    if value == "auth":
        raise ConfigError(f"{name} cannot be 'auth'", advice=[SIGNING])
    return CONTENT.get(value, value) if isinstance(value, str) else value


def accepted(value: Any, name: str) -> Any:
    """The names of content types."""
    return DEFAULT if value is None else [content(each, name) for each in texts(value, name)]


def compression(value: Any, name: str) -> Any:
    """The name of a compression."""
    if not isinstance(value, str):
        return value
    word = value.lower()
    found = COMPRESSIONS.get(word, word)
    if found not in ("zlib", "zstd", "none"):
        raise ConfigError(f"{name}: unknown compression {value!r}", advice=["zlib or zstd"])
    return found


def zone(value: Any, name: str) -> Any:
    """The name of a time zone, also of one of Python's or of pytz."""
    if isinstance(value, tzinfo):
        return getattr(value, "key", None) or getattr(value, "zone", None) or str(value)
    return value


def kibibytes(value: Any, name: str) -> Any:
    """A size, which Celery counts in KiB."""
    return f"{whole(value, name)}KiB" if value else None


def expiry(value: Any, name: str) -> Any:
    """How long results are kept; for ever is as long as can be."""
    return value or LONGEST


def tasks_at_a_time(value: Any, name: str) -> Any:
    """The concurrency; none, 0 and "auto" are the number of CPUs."""
    return DEFAULT if value in (None, 0, "0", "auto", "") else value


def pool(value: Any, name: str) -> Any:
    """The name of a pool, which may be given as Celery's class."""
    if not isinstance(value, str):
        return DEFAULT if value is None else value
    word = value.partition(":")[0].rpartition(".")[2].lower()
    if word == "eventlet":
        raise ConfigError(f"{name}: not in this version: eventlet", advice=["use gevent"])
    return POOLS.get(word, word)


def unless_zero(value: Any, name: str) -> Any:
    """A number of which 0 is none."""
    return value or None


def modules(value: Any, name: str) -> Any:
    """Names of modules."""
    return texts(value or (), name)


#: Settings whose values are translated: the setting here, and the function that translates.
TRANSLATIONS: Mapping[str, tuple[str, Callable[[Any, str], Any]]] = {
    "url": ("url", streamq_url),
    "broker_url": ("url", streamq_url),
    "accept_content": ("accept_content", accepted),
    "include": ("include", modules),
    "result_compression": ("result_compression", compression),
    "result_expires": ("result_expires", expiry),
    "result_serializer": ("result_serializer", content),
    "task_compression": ("task_compression", compression),
    "task_routes": ("task_routes", streamq_routes),
    "task_serializer": ("task_serializer", content),
    "timezone": ("timezone", zone),
    "worker_concurrency": ("concurrency", tasks_at_a_time),
    "worker_max_memory_per_child": ("max_memory_per_child", kibibytes),
    "worker_max_tasks_per_child": ("max_tasks_per_child", unless_zero),
    "worker_pool": ("pool", pool),
}

ONE_URL = "producers and workers use one broker_url: remove it"
SIGNING = "sign messages with signing = 'required' and signing_keys"

#: Settings that are refused unless they are empty, with what to do.
REFUSED: Mapping[str, str] = {
    "broker_host": "write broker_url = 'redis://host:6379/0'",
    "database_url": "results live beside the messages, in the Redis of broker_url: remove it",
    "security_cert_store": SIGNING,
    "security_certificate": SIGNING,
    "security_key": SIGNING,
    "task_annotations": "give the options to the task itself: @app.task(…)",
    "worker_direct": "give the worker a queue of its own: -Q mail,worker1",
}
#: Words of ``broker_transport`` for Redis.
TRANSPORTS = frozenset({"redis", "rediss", "sentinel", "redis+socket", ""})


def check_kept(setting: str, value: Any, name: str) -> None:
    """Raise ConfigError if a setting that is none here has a value that has to be refused."""
    if not value:
        return
    if setting == "result_backend":
        check_backend(value, name)
    if setting in REFUSED:
        raise ConfigError(f"{name} is not supported", advice=[REFUSED[setting]])
    if setting == "broker_transport" and value not in TRANSPORTS:
        raise ConfigError(
            f"{name} is not supported: {value!r}", advice=["streamq runs on Redis alone"]
        )


def truth(value: Any) -> Any:
    """A boolean of what Celery takes for one: also a number, and None for the default."""
    if value is None:
        return DEFAULT
    return bool(value) if isinstance(value, int) or value == "" else value


#: Celery's settings that are true or false and exist here.
TRUTHS = frozenset(name for name, default in DEFAULTS.items() if isinstance(default, bool))
