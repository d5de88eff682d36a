"""Missing rights: checking that the user of the URL may do what is needed.

A script that is denied a command stays half done, so its rights are checked before.
"""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from itertools import product

from streamq.acl.footprint import Access
from streamq.acl.roles import RIGHTS, ROLES, ROOT
from streamq.core.text import first_few
from streamq.errors import ConfigError
from streamq.routing import Queue
from streamq.transport.address import address_of
from streamq.transport.client import Client
from streamq.transport.keys import GROUP, Keys
from streamq.transport.replies import Denied, LoginRefused
from streamq.transport.scripts import load

CHECK_RIGHTS = load("check_rights")

#: The user that ``streamq acl producer`` makes.
DEFAULT_USER = "streamq-producer"

#: Commands whose key does not follow the command name.
WORDS = {
    "XREADGROUP": f"XREADGROUP GROUP {GROUP} name STREAMS KEY >",
    "XREAD": "XREAD STREAMS KEY 0",
    "EVALSHA": "EVALSHA sha 1 KEY",
}
#: Commands that name a channel instead of a key.
CHANNELS = frozenset({"PUBLISH", "SUBSCRIBE", "UNSUBSCRIBE"})


def permitted(client: Client, keys: Keys, queues: Sequence[Queue]) -> Sequence[Queue]:
    """The same queues, if the user of the URL may do what a worker of them does.

    Raises ConfigError.
    """
    names = [queue.name for queue in queues]
    missing = missing_rights(client, keys, ROLES["worker"].needs, names)
    if missing:
        raise ConfigError(
            "the Redis user of this worker lacks rights; nothing was started",
            known={"missing": first_few(missing)},
            advice=["streamq acl worker  prints the rights a worker needs, for redis-cli"],
        )
    return queues


def require(
    right: str, client: Client, keys: Keys, queues: Sequence[str] = (), *, reason: str = ""
) -> None:
    """Check that the user of the URL has one of RIGHTS, before anything is done with it.

    ``queues`` are those to declare, ``reason`` says why that is needed.  Raises
    ConfigError, which names the right and the line that gives it.
    """
    missing = missing_rights(client, keys, RIGHTS[right].writes, queues)
    if not missing:
        return
    known = {"right": right, "missing": first_few(missing)}
    raise ConfigError(
        f"the Redis user of the URL may not {RIGHTS[right].may}; nothing was done",
        known={"because": reason, **known} if reason else known,
        advice=[f"{giving(right, client, keys)}  prints the line that gives it, for redis-cli"],
    )


def giving(right: str, client: Client, keys: Keys) -> str:
    """The command that prints the line for this right and those that the user has."""
    has = {name for name in RIGHTS if not missing_rights(client, keys, RIGHTS[name].needs)}
    wanted = [name for name in RIGHTS if name in has or name == right]
    words = ["streamq", "acl", "producer", "--may", ",".join(wanted)]
    options = address_of(client.url).options
    if (user := options.get("username")) and user != DEFAULT_USER:
        words += ["--user", user]
    if options.get("db"):
        words += ["--db", str(options["db"])]
    if keys != Keys():
        words += ["--namespace", keys.namespace]
    return shlex.join(words)


def missing_rights(
    client: Client, keys: Keys, needs: Iterable[Access], queues: Sequence[str] = ()
) -> list[str]:
    """The missing rights of the user: for each a command that is denied, as text.

    ``queues`` are the queues to check; without any, a queue of any name is checked.
    Raises LoginRefused if the user cannot log in.
    """
    db = str(address_of(client.url).options.get("db") or 0)
    tries = [
        (need, [*words, db] if words == ["SELECT"] else words)
        for need in needs
        for words in probes(need, keys, queues)
    ]
    argv = [part for _, words in tries for part in (len(words), *words)]
    try:
        denied = client.call(CHECK_RIGHTS, keys.root, *argv)
    except LoginRefused:
        raise
    except Denied as refused:
        return [str(refused).partition("\n")[0].rpartition("NOPERM ")[2]]
    missing: dict[Access, str] = {}
    for place in denied:
        need, words = tries[place]
        missing.setdefault(need, " ".join(words))
    return sorted(missing.values())


def probes(need: Access, keys: Keys, queues: Sequence[str]) -> Iterator[list[str]]:
    """Commands that need this right, one for each combination of keys."""
    if need.command in CHANNELS:
        yield [need.command, f"{keys.root}:any"]
        return
    verb = need.command.split("|")
    for named in product(*(examples(kind, keys, queues) for kind in sorted(need.kinds))):
        if need.command in WORDS:
            yield WORDS[need.command].replace("KEY", named[0]).split(" ")
        else:
            yield [*verb, *named]


def examples(kind: str, keys: Keys, queues: Sequence[str]) -> list[str]:
    """Keys of a kind: the queues' own, or any."""
    if kind == ROOT:
        return [keys.root]
    if kind == "queue:*" and queues:
        return [stream for name in queues for stream in keys.streams(name)]
    return [f"{keys.root}:{kind.replace('*', 'any')}"]
