"""URLs of Celery's settings: made those of streamq, and compared by the servers they name."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from streamq.core.text import mask_url, shown
from streamq.errors import ConfigError

#: Names of one machine.
LOCAL = frozenset({"", "localhost", "127.0.0.1", "::1"})

RESULTS = "results live beside the messages, in the Redis of broker_url: remove result_backend"
#: What to do instead of a backend, by the scheme of its URL.
BACKENDS: Mapping[str, str] = {
    "rpc": "results live in Redis, and any process can read them: remove result_backend",
    "amqp": "results live in Redis, and any process can read them: remove result_backend",
    "django-db": f"{RESULTS}; a task or a receiver of task_postrun may write its own rows",
    "django-cache": RESULTS,
}
#: Backends that store nothing, or whose server the other settings name.
HARMLESS = frozenset({"disabled", "redis"})
REDIS = frozenset({"redis", "rediss", "redis+socket", "unix", "sentinel"})

#: Options of TLS by the names of kombu's other transports.
TLS_OPTIONS: Mapping[str, str] = {
    "ca_certs": "ssl_ca_certs",
    "cert_reqs": "ssl_cert_reqs",
    "certfile": "ssl_certfile",
    "keyfile": "ssl_keyfile",
}
#: Python's numbers for how a certificate is checked.
CHECKS = {0: "none", 1: "optional", 2: "required"}


def streamq_url(value: object, name: str) -> object:
    """Make a URL of Celery one of streamq; what is no text, or None, stays as it is.

    Raises ConfigError for more than one server, and for a server that is not Redis.
    """
    if isinstance(value, list | tuple):
        value = ";".join(map(str, value))
    if not isinstance(value, str) or not value.strip():
        return value or None
    parts = [part.strip() for part in value.split(";") if part.strip()]
    if len(parts) > 1:
        if not parts[0].startswith("sentinel://"):
            raise ConfigError(
                f"{name} names {len(parts)} servers",
                known={"first": mask_url(parts[0])},
                advice=["name one; behind Sentinel: sentinel://host:26379,host:26379/service/0"],
            )
        parts = [merged_sentinels(parts)]
    url = "redis://localhost:6379/0" if parts[0] in ("redis", "redis://") else parts[0]
    scheme = url.partition(":")[0]
    if scheme not in REDIS:
        raise ConfigError(
            f"{name} is not the address of a Redis: {mask_url(url)}",
            advice=[
                "redis://host:6379/0; streamq runs on Redis alone",
                "without a URL, the bundled server is used; tests: task_always_eager = True",
            ],
        )
    if scheme == "redis+socket":
        url = f"unix{url.removeprefix('redis+socket')}".replace("virtual_host=", "db=")
    for celerys, ours in (("CERT_NONE", "none"), ("CERT_OPTIONAL", "optional")):
        url = url.replace(f"ssl_cert_reqs={celerys}", f"ssl_cert_reqs={ours}")
    return url.replace("ssl_cert_reqs=CERT_REQUIRED", "ssl_cert_reqs=required")


def merged_sentinels(urls: list[str]) -> str:
    """Make one URL of one for each Sentinel: ``sentinel://a;sentinel://b``."""
    parts = [urlsplit(url if "://" in url else f"sentinel://{url}") for url in urls]
    credentials = next((part.netloc.rpartition("@")[0] for part in parts if "@" in part.netloc), "")
    hosts = ",".join(part.netloc.rpartition("@")[2] for part in parts)
    path = next((part.path for part in parts if part.path.strip("/")), "")
    query = next((part.query for part in parts if part.query), "")
    netloc = f"{credentials}@{hosts}" if credentials else hosts
    return urlunsplit(("sentinel", netloc, path, query, ""))


def with_transport(url: str, options: Mapping[str, Any], tls: object) -> str:
    """Add to a URL what Celery has beside it: the service behind Sentinels, options of TLS."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    scheme, path = parts.scheme, parts.path
    if scheme == "sentinel":
        service, database = options.get("master_name"), path.strip("/")
        if service and (not database or database.isdecimal()):
            path = f"/{service}/{database or 0}"
        password = (options.get("sentinel_kwargs") or {}).get("password")
        if password and "sentinel_password" not in query:
            query["sentinel_password"] = str(password)
    elif tls and scheme in ("redis", "rediss"):
        scheme = "rediss"
        for name, value in (tls if isinstance(tls, Mapping) else {}).items():
            if value is not None:
                query.setdefault(TLS_OPTIONS.get(name, name), tls_value(name, value))
    unchanged = (scheme, path) == (parts.scheme, parts.path) and urlencode(query) == parts.query
    return url if unchanged else urlunsplit((scheme, parts.netloc, path, urlencode(query), ""))


def tls_value(name: str, value: Any) -> str:
    """Write an option of TLS as the query of a URL has it."""
    if name.endswith("cert_reqs"):
        word = str(getattr(value, "name", CHECKS.get(value, value)))
        return word.removeprefix("CERT_").lower()
    return str(value).lower() if isinstance(value, bool) else str(value)


def check_backend(value: object, name: str) -> None:
    """Raise ConfigError for a result backend that is no Redis, with what to do instead."""
    if not isinstance(value, str):
        cls = getattr(value, "__name__", type(value).__name__)
        raise ConfigError(f"{name} is not supported: {cls}", advice=[RESULTS])
    scheme = value.partition("://")[0].partition("+")[0] if "://" in value else value
    if value.partition("://")[0] not in REDIS and scheme not in HARMLESS:
        first = scheme.partition(":")[0].partition("+")[0]
        raise ConfigError(
            f"{name} is not supported: {mask_url(value) if '://' in value else shown(value)}",
            advice=[BACKENDS.get(first, RESULTS)],
        )


def server_of(url: object) -> object:
    """What names the server of a URL, whatever the database; None if the URL does not say."""
    if not isinstance(url, str) or "://" not in url or url.startswith("disabled:"):
        return None
    parts = urlsplit(str(streamq_url(url, "url")))
    if parts.scheme == "unix":
        return unquote(parts.path)
    hosts = parts.netloc.rpartition("@")[2].lower()
    if parts.scheme == "sentinel":
        return frozenset(hosts.split(","))
    host, port = parts.hostname or "", parts.port or 6379
    return ("localhost" if host in LOCAL else host), port
