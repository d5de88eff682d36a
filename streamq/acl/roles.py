"""Roles: the rights of producers, workers and monitors, as a line for Redis.

The commands of a role's scripts are in the table of footprints; the commands that Python sends
besides are listed here.  A right is a command on a kind of key: a user who may write a record
may not therefore write a queue.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from streamq.acl.footprint import Access, accesses, footprint
from streamq.errors import ConfigError
from streamq.transport.client import Client
from streamq.transport.keys import Keys
from streamq.transport.replies import Denied

#: The text in a rule where the password belongs.
PLACEHOLDER = "PASSWORD"

#: Commands that Redis 7.0 lacks; it refuses a rule that names an unknown command.
NEWER = frozenset({"CLIENT|SETINFO", "WAITAOF"})

#: Commands that change nothing: their keys may be given for reading only.
READS = frozenset(
    {"EXISTS", "GET", "HEXISTS", "HGET", "HGETALL", "HKEYS", "HLEN", "HMGET", "PTTL", "TTL", "TYPE"}
    | {"SMEMBERS"}
    | {"XINFO|CONSUMERS", "XINFO|GROUPS", "XLEN", "XPENDING", "XRANGE", "XREAD"}
    | {"ZCARD", "ZCOUNT", "ZRANGE", "ZRANK", "ZSCORE"}
)

#: The bare root of the namespace, which every script is given, as a kind of key.
ROOT = "."

#: The commands that open a connection, and those that load and call scripts.
CONNECTING = accesses("PING SELECT CLIENT|SETNAME CLIENT|SETINFO")
CALLING = accesses(f"{ROOT}: EVALSHA", "SCRIPT|LOAD")


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A role: the scripts that one kind of user runs, and the commands it sends besides."""

    about: str
    scripts: tuple[str, ...]
    native: frozenset[Access]
    channels: bool = True

    @property
    def needs(self) -> frozenset[Access]:
        """Every right of the role."""
        return self.native.union(*map(footprint, self.scripts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """A right that a producer has only if it is given: its scripts, and commands besides."""

    may: str
    scripts: tuple[str, ...]
    native: frozenset[Access] = frozenset()

    @property
    def writes(self) -> frozenset[Access]:
        """The accesses of its scripts, which must not be denied half-way."""
        return frozenset[Access]().union(*map(footprint, self.scripts))

    @property
    def needs(self) -> frozenset[Access]:
        """Every access that belongs to the right."""
        return self.writes | self.native


SENDING = ("publish", "publish_plain", "await_result", "check_rights")

#: The rights that a producer has only if it is given them, by their names.
RIGHTS: Mapping[str, Right] = {
    "revoke": Right(may="revoke tasks", scripts=("revoke",)),
    "declare": Right(
        may="declare queues, exchanges and bindings",
        scripts=("declare_exchange", "declare_queue", "bind"),
        native=accesses("exchanges queues: HGETALL"),
    ),
    "forget": Right(may="forget tasks", scripts=("forget_result",)),
}
#: The scripts and commands of a user with all of these rights.
ALL_RIGHTS = tuple(script for right in RIGHTS.values() for script in right.scripts)
ALL_RIGHTS_NATIVE = frozenset[Access]().union(*(right.native for right in RIGHTS.values()))
WORKING = (
    *("claim", "register", "renew", "list_leases", "recover", "release", "promote"),
    *("check_start", "settle", "follow", "reject", "mark_started", "update_state"),
    *("declare_schedules", "change_schedule", "tick"),
)

#: Scripts that only people run, through commands that repair and delete.
FOR_PEOPLE = (
    "delete_exchange", "delete_queue", "delete_dead", "explain_route", "import_letter", "purge",
    "repair", "retry_dead", "unbind",
)  # fmt: skip

SENT_BY_PRODUCERS = accesses(
    "task:*: HGETALL",
    "reply:*: XREAD",
    "script:*: HGET",
    "workers: ZRANGE",  # who waits in vain is told that no worker reads the queue
    "worker:*: HGET",
    "TIME ROLE WAIT WAITAOF",
)
SENT_BY_WORKERS = accesses(
    "queue:*: XREADGROUP XPENDING XRANGE TYPE",
    "queues: HGET HGETALL",
    "script:*: HMGET HSET",
    "leases: ZSCORE",
    "revoked: ZRANGE",
    "terminating: ZMSCORE",
    "schedules: ZMSCORE ZRANGE",
    "schedule:*: HGETALL HMGET",
    "started:*: HGET HSET",
    "workers: ZREM ZRANGE",  # ZRANGE is for health checks, which have the URL of the worker
    "worker:*: HMGET HGET DEL",
    "SUBSCRIBE UNSUBSCRIBE",
)
SENT_BY_MONITORS = accesses(
    "TIME INFO CLIENT|LIST ACL|WHOAMI",
    "queue:*: XLEN XPENDING XINFO|GROUPS XINFO|CONSUMERS",
    "queues: HGETALL HKEYS",
    "exchanges alternates bindings:*: HGETALL",
    "dead:* scheduled: ZCARD",
    "dead: SMEMBERS",
    "exchanges alternates queues queue:* dead dead:* scheduled: TYPE",
    "bindings:* routes:* revoked terminating quarantine leases lease_ms orphans workers: TYPE",
    "schedules schedule:*: TYPE",
    "leases workers schedules: ZRANGE",
    "worker:*: HGETALL HGET",
    "started:*: HLEN",
)

ROLES: Mapping[str, Role] = {
    "producer": Role(
        about="sends tasks to queues that are there, and reads results",
        scripts=SENDING,
        native=CONNECTING | CALLING | SENT_BY_PRODUCERS,
    ),
    "worker": Role(
        about="runs tasks, which may send others",
        scripts=SENDING + ALL_RIGHTS + WORKING,
        native=CONNECTING | CALLING | SENT_BY_PRODUCERS | ALL_RIGHTS_NATIVE | SENT_BY_WORKERS,
    ),
    "monitor": Role(
        about="counts what waits and runs; sees no arguments and no results",
        scripts=(),
        native=CONNECTING | SENT_BY_MONITORS,
        channels=False,
    ),
}


def rule(
    needs: Iterable[Access],
    keys: Keys,
    *,
    user: str,
    password: str | None = None,
    channels: bool = True,
    newer: Iterable[str] = (),
    db: int = 0,
) -> str:
    """The ``ACL SETUSER`` line that gives a user these rights and no others.

    ``newer`` are those commands of NEWER that the server knows, ``db`` is the database that
    it may select.  Only the hash of the password is in the line; without one, a placeholder.
    """
    unknown = NEWER.difference(newer)
    keyless, by_kinds = set(), dict[frozenset[str], set[str]]()
    for need in needs:
        if need.command in unknown:
            continue
        if need.kinds <= {ROOT}:
            keyless.add(f"SELECT|{db}" if need.command == "SELECT" else need.command)
        else:
            by_kinds.setdefault(need.kinds, set()).add(need.command)
    kinds_of: dict[frozenset[str], set[str]] = {}
    for kinds, commands in by_kinds.items():
        if len(kinds) == 1:  # several kinds together are for one command that names them all
            kinds_of.setdefault(frozenset(commands), set()).update(kinds)
    selectors = [(kinds, commands) for commands, kinds in kinds_of.items()]
    selectors += [(set(kinds), frozenset(by_kinds[kinds])) for kinds in by_kinds if len(kinds) > 1]
    secret = f"#{hashlib.sha256(password.encode()).hexdigest()}" if password else f">{PLACEHOLDER}"
    root = pattern(keys, ROOT)
    words = ["ACL SETUSER", plain(user, "user"), "reset on", secret, "resetchannels"]
    words += [f"&{root}:*"] if channels else []
    words += [f"~{root}"] if "EVALSHA" in keyless else []
    words += [f"+{command.lower()}" for command in sorted(keyless)]
    words += [selector(keys, *each) for each in sorted(selectors, key=by_use)]
    return " ".join(words)


def by_use(each: tuple[set[str], frozenset[str]]) -> tuple[int, list[str]]:
    """Sort key: Redis tries selectors in order, so those with many commands come first."""
    kinds, commands = each
    return -len(commands), sorted(kinds)


def selector(keys: Keys, kinds: set[str], commands: frozenset[str]) -> str:
    """The selector of a rule for these commands on these kinds of keys."""
    sign = "%R~" if commands <= READS else "~"
    words = [f"{sign}{pattern(keys, kind)}" for kind in sorted(kinds)]
    return f"({' '.join([*words, *(f'+{command.lower()}' for command in sorted(commands))])})"


def pattern(keys: Keys, kind: str) -> str:
    """The keys of a kind.  Raises ConfigError for a namespace that no rule can name."""
    plain(keys.root, "namespace")
    return keys.glob if kind == ROOT else f"{keys.glob}:{kind}"


def plain(word: str, what: str) -> str:
    """A word that may stand in a line for redis-cli.  Raises ConfigError."""
    if not word or re.search(r"[\s\"'()\0]", word):
        raise ConfigError(
            f"no rule can be written for the {what} {word!r}",
            known={"not allowed": "white space, quotes and parentheses"},
        )
    return word


def newer_commands(client: Client) -> frozenset[str]:
    """Those commands that Redis 7.0 lacks and this server has, as far as it reports."""
    names = sorted(NEWER)
    try:
        answers = client.ask("COMMAND", "INFO", *(name.lower() for name in names))
    except Denied:
        return frozenset()
    return frozenset(name for name, answer in zip(names, answers, strict=True) if answer)
