"""Error replies of Redis: our exceptions, and which reply becomes which."""

import re
from collections.abc import Sequence
from typing import Any

import redis

from streamq.core.text import mask_url
from streamq.errors import BrokerFull, BrokerUnavailable, ConfigError, StreamqError, explain
from streamq.transport import decode as reading


class Disconnected(BrokerUnavailable):
    """The connection broke; ``sent`` says whether a command may have been executed."""

    sent = False
    timed_out = False


class Transient(BrokerUnavailable):
    """The server cannot work at the moment; nothing was executed."""


class Failover(Transient):
    """The server is not the master, or not any more; nothing was executed."""


class WritesRefused(Transient):
    """The server takes no writes until an operator repairs it; nothing was written."""


class Denied(BrokerUnavailable, ConfigError):
    """The server denies this to the user: trying again does not help."""


class LoginRefused(Denied):
    """The login was refused: a wrong user or password, or no such database."""


class Refused(StreamqError):
    """Redis answered with an error; ``code`` is its first word."""

    def __init__(self, text: str = "", *, code: str | None = None) -> None:
        super().__init__(WHERE.sub("", text))
        self.code = text.partition(" ")[0] if code is None else code


class WrongType(Refused, ConfigError):
    """A key of ours has another type: a ConfigError for users, a refusal for workers.

    ``key`` is its name, unless the answer names it: ``WRONGTYPE KEY is a …``.
    """

    def __init__(self, text: str = "", key: str = "") -> None:
        key = key or (said[1] if (said := KEY_NAMED.match(text)) else "")
        what = f"{key or 'a key of this namespace'} holds something that is not streamq's: {text}"
        look = f"streamq redis TYPE {key}  shows what it is" if key else "streamq doctor  names it"
        advice = [f"{look}; remove or rename it, or use another namespace"]
        super().__init__(explain(what, {}, advice), code="WRONGTYPE")
        self.key = key


#: Codes of a server that cannot work at the moment: wait, and try again.
PASSING = frozenset({"LOADING", "TRYAGAIN", "BUSY"})
#: Codes of a server that is not the master: connect anew, to the master of then.
FAILOVER = frozenset({"READONLY", "MASTERDOWN", "CLUSTERDOWN", "MOVED", "ASK", "UNBLOCKED"})
#: Codes of a server that takes no writes, and what an operator should do.
WRITES_REFUSED = {
    "MISCONF": "it cannot save its data: look at its log, free the disk, or repair what it says",
    "NOREPLICAS": "bring its replicas back, or lower its min-replicas-to-write",
}
DENIED = frozenset({"NOAUTH", "WRONGPASS"})
#: The place in a script that servers append to an error; it means nothing to users.
WHERE = re.compile(r" script: (\S+, )?on @user_script:\d+\.")
#: The reply of a script that was denied a command: Redis 7.0, and newer servers.
DENIED_INSIDE = re.compile(r"ERR (The user executing the script can't|ACL failure in script)")
#: The NOGROUP of Redis 7.0 to a client that is blocked when the key is deleted.
KEY_GONE = "UNBLOCKED the stream key no longer exists"
#: The reply to a new connection before Redis closes it; in a cluster the text goes on.
TOO_MANY_CLIENTS = "max number of clients"

#: The error of our scripts for a key that has another type.
KEY_NAMED = re.compile(r"WRONGTYPE (\S*:\S*) is an? ")
#: A database that the server does not have, or none but the first.
NO_DATABASE = re.compile(r"(ERR )?(DB index is out of range|SELECT is not allowed)")
#: A database that is not this user's.
OTHER_DATABASE = re.compile(r"(NOPERM )?(this user|User \S+) has no permissions to run the 'select")

#: redis-py removes these codes from the reply and raises classes for them.  Subclasses first.
CODES = {
    redis.exceptions.NoScriptError: "NOSCRIPT",
    redis.exceptions.OutOfMemoryError: "OOM",
    redis.exceptions.ReadOnlyError: "READONLY",
    redis.exceptions.MasterDownError: "MASTERDOWN",
    redis.exceptions.ClusterDownError: "CLUSTERDOWN",
    redis.exceptions.TryAgainError: "TRYAGAIN",
    redis.exceptions.MovedError: "MOVED",
    redis.exceptions.AskError: "ASK",
    redis.exceptions.NoPermissionError: "NOPERM",
    redis.exceptions.BusyLoadingError: "LOADING",
}


def meaning(text: str) -> StreamqError:
    """Our exception for an error reply."""
    code = text.partition(" ")[0]
    if text.startswith(KEY_GONE):
        return Refused(text, code="NOGROUP")
    if code == "OOM":
        return BrokerFull(
            "Redis is out of memory and refused the write; nothing was written",
            known={"answer": text},
            advice=["let workers drain the queues, raise maxmemory, or expire results sooner"],
        )
    if code in WRITES_REFUSED:
        return WritesRefused(
            f"Redis takes no writes; nothing was written: {text}", advice=[WRITES_REFUSED[code]]
        )
    if code in FAILOVER:
        return Failover(
            f"this Redis is not the master, and did nothing: {text}",
            advice=["let the URL name the master, or the Sentinels, who know which one it is"],
        )
    if code in PASSING:
        return Transient(f"Redis cannot work just now, and did nothing: {text}")
    if code == "NOPERM" or DENIED_INSIDE.match(text):
        return Denied(
            f"Redis does not permit this to the user of the URL: {text}",
            advice=[
                "streamq acl worker  (or producer, monitor) prints the rights of these roles",
                "to purge, to delete and for dead letters it takes a user that may do more",
            ],
        )
    if code in DENIED:
        return denied("", text)
    if TOO_MANY_CLIENTS in text:
        return Transient(
            f"Redis takes no more connections: {text}",
            advice=["close some (CLIENT LIST says whose they are), or raise its maxclients"],
        )
    return Refused(text)


def raised(reply: Any) -> Any:
    """The reply; an error reply is raised."""
    if isinstance(reply, Exception):
        raise reply
    return reply


def named(reply: Any, command: Sequence[Any] = ()) -> Any:
    """The reply; if a key has another type, an error that names the key.

    ``command`` is the one that was sent; a script names the key itself.
    """
    if isinstance(reply, Refused) and reply.code == "WRONGTYPE":
        place = 2 if command[:1] == ("XINFO",) else 1
        return WrongType(str(reply), reading.text(command[place]) if command else "")
    return reply


def after_loading(reply: Any) -> Any:
    """The reply of a script that was just loaded; Transient if the server has dropped it again."""
    if isinstance(reply, Refused) and reply.code == "NOSCRIPT":
        return Transient("another client makes Redis forget our scripts again and again")
    return reply


def denied(url: str, text: str) -> LoginRefused:
    """The error for wrong credentials, or a database that does not exist."""
    advice = "check the user and password in the URL, and that user's ACL rules"
    if NO_DATABASE.match(text):
        advice = (
            "name a database that it has: 0 to 15 unless it is set up otherwise, in a cluster 0"
        )
    elif OTHER_DATABASE.match(text):
        advice = "name the database of this user, or give it this one: streamq acl ROLE --db N"
        text = "its user may not use this database"
    return LoginRefused(
        f"Redis refused the connection{f' at {mask_url(url)}' if url else ''}: {text}",
        advice=[advice, "streamq config show  says where the URL comes from"],
    )


def translated(error: Exception, url: str) -> StreamqError | None:
    """Our exception for an error reply that redis-py has raised; None if there was no reply."""
    text = as_sent(error)
    if isinstance(error, redis.AuthenticationError) or wrong_database(text):
        return denied(url, text)
    replied = isinstance(error, redis.ResponseError | redis.exceptions.BusyLoadingError)
    return meaning(text) if replied or TOO_MANY_CLIENTS in text else None


def wrong_database(text: str) -> bool:
    """Whether an error says that the URL's database does not exist, or is denied to its user."""
    return bool(NO_DATABASE.match(text) or OTHER_DATABASE.match(text))


def as_sent(error: Exception) -> str:
    """An error reply as the server sent it, out of redis-py's exception."""
    code = next((code for kind, code in CODES.items() if isinstance(error, kind)), None)
    return f"{code} {error}" if code else str(error)
