"""The address of Redis: parsing a URL, and asking Sentinels for the current master."""

import os
import re
import shlex
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import parse_qs, unquote, unquote_to_bytes, urlencode, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from streamq.core.text import mask_url
from streamq.errors import ConfigError
from streamq.transport import tls

#: Seconds in which a Sentinel has to answer: the next one is asked if it does not.
SENTINEL_TIMEOUT = 0.5
SENTINEL_PORT = 26379

#: The schemes of a URL of Sentinels: without and with TLS.
PLAIN, SECURE = "sentinel://", "sentinels://"
FORMS = (
    "redis://[user:password@]host:6379/0, rediss://… (TLS) or unix:///path/redis.sock",
    "sentinel://[user:password@]host:26379,host:26379/service/0[?sentinel_password=…], "
    "sentinels://… (TLS)",
)
QUOTING = (
    "in a user or password write / as %2F, ? as %3F, # as %23, @ as %40, : as %3A, [ as %5B, "
    "] as %5D, % as %25"
)


class NoMaster(redis.ConnectionError):
    """No Sentinel names a master to connect to at the moment."""


@dataclass(frozen=True, slots=True)
class Sentinels:
    """The Sentinels of a URL, and the service whose master they know."""

    service: str
    hosts: tuple[tuple[str, int], ...]
    username: str | None = None
    password: str | None = None
    #: Options of TLS, for Sentinels that speak it.
    tls: Mapping[str, Any] | None = None

    def master(self) -> tuple[str, int]:
        """The address of the master, by the first Sentinel that knows one.

        Raises NoMaster if none does, or redis-py's error if one refuses the password.
        """
        answers: list[str] = []
        denied: redis.AuthenticationError | None = None
        refused: ssl.SSLError | None = None
        for host, port in self.hosts:
            try:
                found = self.ask(host, port)
            except redis.AuthenticationError as error:
                denied, found = error, str(error)
            except (redis.RedisError, OSError) as error:
                failed = tls.tls_error(error)
                refused, found = failed or refused, tls.cause(failed) if failed else str(error)
            if isinstance(found, tuple):
                return found
            answers.append(f"{host}:{port}: {found}")
        if denied is not None:
            raise denied
        raise NoMaster(
            f"no Sentinel knows a master of {self.service!r} ({'; '.join(answers)})"
        ) from refused

    def ask(self, host: str, port: int) -> tuple[str, int] | str:
        """The answer of one Sentinel: the address of the master, or why there is none."""
        kind: Any = redis.Connection if self.tls is None else redis.SSLConnection
        link = kind(
            **(self.tls or {}),
            host=host,
            port=port,
            username=self.username,
            password=self.password,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_connect_timeout=SENTINEL_TIMEOUT,
            socket_timeout=SENTINEL_TIMEOUT,
        )
        try:
            link.connect()
            link.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)
            reply = link.read_response()
        finally:
            link.disconnect()
        if not reply:
            return "it does not know the service"
        address, number = reply
        return address.decode(), int(number)


@dataclass(frozen=True, slots=True)
class Address:
    """An address: options for redis-py, and the Sentinels to ask first, if any."""

    kind: type[redis.connection.AbstractConnection]
    options: dict[str, Any]
    sentinels: Sentinels | None = None

    def now(self) -> dict[str, Any]:
        """The options with the current host and port; called at each connect."""
        if self.sentinels is None:
            return dict(self.options)
        host, port = self.sentinels.master()
        return {**self.options, "host": host, "port": port}

    @property
    def trial(self) -> str:
        """A command that shows whether the server answers; '' for a plain URL."""
        if "path" in self.options:  # redis-cli takes no URL of a socket
            return f"redis-cli -s {shlex.quote(self.options['path'])} ping"
        if self.sentinels is None:
            return ""
        host, port = self.sentinels.hosts[0]
        secure = "" if self.sentinels.tls is None else " --tls"
        return f"redis-cli -h {host} -p {port}{secure} SENTINEL MASTER {self.sentinels.service}"


#: The host in a URL; none in one that is not quoted: a part of its password might be taken for it.
HOST = re.compile(r"[a-z]+://(?:[^@/]*@)?(?P<host>[\w.-]+(?::\d+)?)(?:/[^@]*)?")

#: The path of a URL that names a server; redis-py takes any other for database 0.
DATABASE = re.compile(r"/?\d*/?", re.ASCII)


@cache
def address_of(url: str) -> Address:
    """Parse a URL, with a cache.  Raises ConfigError if it is not valid.

    Reconnecting needs no file descriptor for this: there may be none left.
    """
    try:
        check_one(url)
        if url.startswith((PLAIN, SECURE)):
            return behind_sentinels(url)
        options = redis.connection.parse_url(url)  # type: ignore[no-untyped-call]
        if not DATABASE.fullmatch(urlsplit(url).path) and "path" not in options:
            raise ValueError("a database is a number")
        if "path" in options:  # of any bytes, which redis-py would replace
            options["path"] = os.fsdecode(unquote_to_bytes(urlsplit(url).path))
        options.pop("max_connections", None)
        kind = options.pop("connection_class", redis.Connection)
        address = Address(kind, tls.checked(options) if is_tls(kind) else options)
        check_host(options.get("host", ""))
        check_options(address)
    except ValueError as error:
        # redis-py quotes a part of the URL, which may be a password.
        problem = re.sub(r"(['\"]).*\1", "…", str(error), flags=re.DOTALL)
        advice = (*FORMS, QUOTING) if "@" in url else FORMS
        raise ConfigError(
            f"not a Redis URL: {mask_url(url)!r}", known={"problem": problem}, advice=advice
        ) from None
    return address


def is_tls(kind: type) -> bool:
    return issubclass(kind, redis.SSLConnection)


def check_one(url: str) -> None:
    """Raise ValueError for several URLs in one text, as Celery takes them."""
    urls = re.split(r";(?=[a-z]+://)", url)
    if len(urls) > 1 and all(each.startswith((PLAIN, SECURE)) for each in urls):
        places = [HOST.fullmatch(each) for each in urls]
        hosts = [place["host"] if place else "host:26379" for place in places]
        raise ValueError(
            "it is several URLs: write one, with the service that the Sentinels watch: "
            f"{PLAIN}{','.join(hosts)}/SERVICE/0"
        )
    if len(urls) > 1:
        raise ValueError("it is several URLs: name one server, or Sentinels that know the master")


def check_options(address: Address) -> None:
    """Check the options with redis-py, without connecting.  Raises ValueError."""
    try:
        address.kind(**address.options)
    except TypeError as error:
        _, _, name = str(error).partition("unexpected keyword argument ")
        name = name.strip("'")
        plain = name.startswith("ssl_") and address.kind is redis.Connection
        wanted = "; options of TLS need rediss://" if plain else ""
        raise ValueError(f"unknown option {name or error}{wanted}") from None
    except redis.RedisError as error:
        raise ValueError(str(error)) from None


def check_host(host: str) -> None:
    """Raise ValueError if a name server cannot be asked for such a host."""
    try:
        host.encode("idna")
    except UnicodeError:
        raise ValueError("no host can have that name: is there a dot too many?") from None


def behind_sentinels(url: str) -> Address:
    """Read sentinel://[user:password@]host:port,host:port/service/db?sentinel_password=…

    With ``sentinels://``, the Sentinels and the server speak TLS, with the same options.
    """
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    service, _, db = parts.path.strip("/").partition("/")
    if not service or not hosts:
        raise ValueError("it names no service" if hosts else "it names no Sentinel")
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    user, password = query.pop("sentinel_username", None), query.pop("sentinel_password", None)
    secure = url.startswith(SECURE)
    secured = tls_options(query) if secure else {}
    if unknown := query.keys() - secured:
        wanted = "; options of TLS need sentinels://" if any(map(is_of_tls, unknown)) else ""
        raise ValueError(f"unknown option {', '.join(sorted(unknown))}{wanted}")
    sentinels = Sentinels(
        unquote(service),
        tuple(host_and_port(each) for each in hosts.split(",") if each),
        user,
        password,
        secured if secure else None,
    )
    username, _, password = credentials.partition(":")
    options: dict[str, Any] = {"db": int(db or 0)}
    options |= given({"username": unquote(username), "password": unquote(password)}.items())
    address = Address(redis.SSLConnection if secure else redis.Connection, options, sentinels)
    address.options.update(secured)
    check_options(address)
    return address


def is_of_tls(name: str) -> bool:
    return name.startswith("ssl_")


def tls_options(query: Mapping[str, str]) -> dict[str, Any]:
    """The options of TLS in the query of a URL of Sentinels, read as in any other URL."""
    words = urlencode({name: value for name, value in query.items() if is_of_tls(name)})
    options = redis.connection.parse_url(f"rediss://?{words}")  # type: ignore[no-untyped-call]
    return tls.checked({name: value for name, value in options.items() if is_of_tls(name)})


def given(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {name: value for name, value in pairs if value}


def host_and_port(text: str) -> tuple[str, int]:
    """``host``, ``host:port`` or ``[::1]:port``."""
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError(f"{text!r} is no host")
    check_host(parts.hostname)
    return parts.hostname, parts.port or SENTINEL_PORT


def check_role(reply: Any) -> None:
    """Raise NoMaster unless ROLE has answered that this is a master."""
    role = reply[0].decode(errors="replace") if reply else "nothing"
    if role != "master":
        raise NoMaster(f"Sentinel named a server that is a {role}, not the master")
