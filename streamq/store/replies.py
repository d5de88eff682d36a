"""What an error reply of Redis means: our exceptions, and which reply becomes which."""

import re
from typing import Any

import redis

from streamq.errors import BrokerFull, BrokerUnavailable, ConfigError, StreamqError, explain
from streamq.units import mask_url


class Disconnected(BrokerUnavailable):
    """The connection broke; ``sent`` says whether a command may have been executed."""

    sent = False
    timed_out = False


class Passing(BrokerUnavailable):
    """The server answered that it cannot work just now; nothing was executed."""


class Failover(Passing):
    """This server takes no writes, or not any more: by now another one may be the master."""


class WritesRefused(Passing):
    """The server takes no writes until somebody mends it; nothing was written."""


class Denied(BrokerUnavailable, ConfigError):
    """The user or password is wrong, or not good enough: trying again does not help."""


class Refused(StreamqError):
    """Redis answered with an error; ``code`` is its first word."""

    def __init__(self, text: str = "", *, code: str | None = None) -> None:
        super().__init__(WHERE.sub("", text))
        self.code = text.partition(" ")[0] if code is None else code


class Foreign(Refused, ConfigError):
    """A key of ours holds something else: to users a mistake, to who works a refusal."""

    def __init__(self, text: str = "") -> None:
        what = "a key of this namespace holds something that is not streamq's"
        advice = ["streamq redis TYPE KEY  shows it; or use another namespace"]
        super().__init__(explain(what, {"answer": text}, advice), code="WRONGTYPE")


#: Codes of a server that cannot work just now: wait, and try again.
PASSING = frozenset({"LOADING", "TRYAGAIN", "BUSY"})
#: … that is not the one to write to: connect anew, to whoever is the master then.
FAILOVER = frozenset({"READONLY", "MASTERDOWN", "CLUSTERDOWN", "MOVED", "ASK", "UNBLOCKED"})
#: … that takes no writes until somebody does something about it, and what that is.
WRITES_REFUSED = {
    "MISCONF": "it cannot save its data: look at its log, free the disk, or mend what it says",
    "NOREPLICAS": "bring its replicas back, or lower its min-replicas-to-write",
}
DENIED = frozenset({"NOAUTH", "WRONGPASS"})
#: Where in a script it was: what servers append, and nobody but us can read.
WHERE = re.compile(r" script: (\S+, )?on @user_script:\d+\.")
#: What a script answers that did something its caller may not: Redis 7.0, and newer servers.
DENIED_INSIDE = re.compile(r"ERR (The user executing the script can't|ACL failure in script)")
#: How Redis 7.0 says NOGROUP to whoever is blocked when the key goes.
KEY_GONE = "UNBLOCKED the stream key no longer exists"
#: Redis says this to a new connection, and closes it; what follows differs in a cluster.
TOO_MANY_CLIENTS = "max number of clients"

#: redis-py takes these codes off the reply and makes classes of them.  Subclasses first.
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
    """Translate an error reply into our words."""
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
        return Failover(f"this Redis is not the master, and did nothing: {text}")
    if code in PASSING:
        return Passing(f"Redis cannot work just now, and did nothing: {text}")
    if code == "NOPERM" or DENIED_INSIDE.match(text):
        return Denied(
            f"Redis does not permit this to the user of the URL: {text}",
            advice=["streamq acl worker  (or producer, monitor) prints the rights that are needed"],
        )
    if code in DENIED:
        return denied("", text)
    if TOO_MANY_CLIENTS in text:
        return Passing(f"Redis takes no more connections: {text}")
    return Refused(text)


def after_loading(reply: Any) -> Any:
    """A script's reply just after the script was loaded: forgotten again is for now only."""
    if isinstance(reply, Refused) and reply.code == "NOSCRIPT":
        return Passing("somebody makes Redis forget our scripts all the time")
    return reply


def denied(url: str, text: str) -> Denied:
    """Say that the credentials are not good enough."""
    return Denied(
        f"Redis refused the connection{f' at {mask_url(url)}' if url else ''}: {text}",
        advice=["check the user and password in the URL, and that user's ACL rules"],
    )


def translated(error: Exception, url: str) -> StreamqError | None:
    """What redis-py made of an error reply, in our words; None if there was no reply."""
    text = as_sent(error)
    if isinstance(error, redis.AuthenticationError):
        return denied(url, text)
    replied = isinstance(error, redis.ResponseError | redis.exceptions.BusyLoadingError)
    return meaning(text) if replied or TOO_MANY_CLIENTS in text else None


def as_sent(error: Exception) -> str:
    """An error reply as the server sent it, out of redis-py's exception."""
    code = next((code for kind, code in CODES.items() if isinstance(error, kind)), None)
    return f"{code} {error}" if code else str(error)
