"""Checks of the server itself: version, persistence, memory, replication, limits and rights."""

from collections.abc import Iterator, Mapping, Sequence

from streamq.admin.doctor.facts import Facts, Finding, Level
from streamq.core.text import count, first_few

#: The oldest versions that have what the scripts use.
OLDEST = {"redis": (7, 0), "valkey": (8, 0)}


def check_server(facts: Facts) -> Iterator[Finding]:
    if not facts.info:
        says = f"{facts.url} answers, but INFO is not permitted: nothing is known of the server"
        advice = "look with the monitor's user (streamq acl monitor), or with the default one"
        yield Finding("server", "warning", says, advice)
        return
    kind, version = server_of(facts.info)
    says = (
        f"{kind.capitalize()} {version} at {facts.url}, answers in {facts.round_trip * 1000:.2g} ms"
    )
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    oldest = OLDEST.get(kind)
    if oldest is None:
        advice = "streamq is tested with Redis and Valkey"
        yield Finding("server", "warning", says, advice)
    elif numbers < oldest:
        wanted = ".".join(map(str, oldest))
        advice = f"streamq needs {kind.capitalize()} {wanted} or newer"
        yield Finding("server", "problem", says, advice)
    else:
        yield Finding("server", "ok", says)


def server_of(info: Mapping[str, str]) -> tuple[str, str]:
    """The kind of the server and its version."""
    kind = info.get("server_name", "redis")
    for other in ("valkey", "dragonfly", "keydb"):
        if f"{other}_version" in info:
            return other, info[f"{other}_version"]
    return kind, info.get("redis_version", "0")


ALL = "everything"
NOTHING = "nothing that was answered"

#: Persistence → data lost when the server's process crashes, and when the power fails.
LOSSES = {
    "none": (ALL, ALL),
    "RDB": ("what came after the last snapshot", "what came after the last snapshot"),
    "AOF, fsync left to the system": (NOTHING, "about 30 s"),
    "AOF everysec": (NOTHING, "about 1 s"),
    "AOF always": (NOTHING, NOTHING),
    "AOF": (NOTHING, "1 s or more: appendfsync could not be read"),
}
AOF = {
    "no": "AOF, fsync left to the system", "everysec": "AOF everysec", "always": "AOF always"
}  # fmt: skip


def persistence_of(facts: Facts) -> str:
    """The persistence of the server; a key of LOSSES."""
    if facts.info.get("aof_enabled") == "1":
        return AOF.get(facts.setting("appendfsync") or "", "AOF")
    snapshots = facts.setting("save")
    if snapshots is None:  # not readable: an existing snapshot shows that the setting is on
        return "RDB" if facts.number("rdb_saves") else "none"
    return "RDB" if snapshots else "none"


def check_persistence(facts: Facts) -> Iterator[Finding]:
    for name, what in {
        "aof_last_write_status": "the append-only file could not be written",
        "rdb_last_bgsave_status": "the last snapshot failed",
    }.items():
        if facts.info.get(name, "ok") != "ok":
            advice = "look into the server's log and its disk; it may refuse writes (MISCONF)"
            yield Finding("persistence", "problem", what, advice)
    kept = persistence_of(facts)
    crash, power = LOSSES[kept]
    says = f"{kept}: a crash of the server loses {crash}, a power loss {power}"
    if facts.number("connected_slaves"):
        says += ", a failover what was not yet replicated"
    good = kept in ("AOF everysec", "AOF always", "AOF")
    advice = "" if good else "appendonly yes, appendfsync everysec (or always: slower, loses none)"
    yield Finding("persistence", "ok" if good else "warning", says, advice)


def check_eviction(facts: Facts) -> Iterator[Finding]:
    policy = facts.info.get("maxmemory_policy", "unknown")
    if policy == "noeviction":
        yield Finding("eviction", "ok", "noeviction: a full server refuses, and drops nothing")
        return
    bounded = facts.number("maxmemory") > 0
    says = f"{policy}: a full server deletes messages, results or dead letters in silence"
    yield Finding(
        "eviction",
        "problem" if bounded else "warning",
        says if bounded else f"{policy}, without effect as long as maxmemory is 0",
        "CONFIG SET maxmemory-policy noeviction, and in the server's configuration",
    )


#: Free fractions of the memory below which the finding is a warning, or a problem.
LITTLE_LEFT, ALMOST_FULL = 0.2, 0.05


def check_memory(facts: Facts) -> Iterator[Finding]:
    used, most = facts.number("used_memory"), facts.number("maxmemory")
    limit = most or facts.number("total_system_memory")
    if not limit:
        yield Finding("memory", "ok", f"{size(used)} used")
        return
    left = 1 - used / limit
    of_what = "maxmemory" if most else "the machine's memory; maxmemory is not set"
    says = f"{size(used)} used, {left:.0%} left of {size(limit)} ({of_what})"
    level: Level = "ok" if left > LITTLE_LEFT else "warning" if left > ALMOST_FULL else "problem"
    advice = "" if level == "ok" else "start workers, let results expire sooner, or add memory"
    yield Finding("memory", level, says, advice)


def size(amount: int) -> str:
    value, unit = float(amount), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.3g} {unit}"


#: Seconds that two clocks may differ.
MAX_CLOCK_DIFFERENCE = 2.0


def check_clock(facts: Facts) -> Iterator[Finding]:
    off = abs(facts.ahead)
    if off <= MAX_CLOCK_DIFFERENCE + facts.round_trip:
        yield Finding("clock", "ok", f"the server's clock and ours differ by {off:.1f} s")
        return
    way = "ahead of" if facts.ahead > 0 else "behind"
    says = f"the server's clock is {off:.1f} s {way} ours"
    advice = "let both follow NTP: moments you give (eta, expires) are judged by the server's clock"
    yield Finding("clock", "warning", says, advice)


def check_replication(facts: Facts) -> Iterator[Finding]:
    replicas, needed = facts.number("connected_slaves"), facts.setting("min-replicas-to-write")
    if facts.info.get("role", "master") != "master":
        where = f"{facts.info.get('master_host')}:{facts.info.get('master_port')}"
        says = f"this is a replica of {where}: it takes no writes"
        yield Finding("replication", "problem", says, "name the master in the URL")
    elif facts.number("min_slaves_good_slaves") < int(needed or 0):
        says = f"{count(replicas, 'replica')}, but min-replicas-to-write is {needed}"
        yield Finding("replication", "problem", says, "start the replicas: writes are refused")
    elif not replicas:
        yield Finding("replication", "ok", "master without replicas")
    elif needed == "0":
        says = f"master with {count(replicas, 'replica')}, none of which it waits for"
        advice = "min-replicas-to-write 1, min-replicas-max-lag 2: a lost link then stops writes"
        yield Finding("replication", "warning", says, advice)
    else:
        least = needed or "unknown (CONFIG GET is not permitted)"
        says = f"master with {count(replicas, 'replica')}, min-replicas-to-write {least}"
        yield Finding("replication", "ok", says)


def check_cluster(facts: Facts) -> Iterator[Finding]:
    if facts.unreadable.startswith(("MOVED", "CROSSSLOT", "CLUSTERDOWN")):
        advice = "name the node that has this slot in the URL: redirects are not followed"
        yield Finding("cluster", "problem", facts.unreadable, advice)
    elif facts.number("cluster_enabled"):
        says = f"cluster mode: all keys of {facts.root} are in one slot, which this node has"
        advice = "if the slot moves, the URL must follow it: redirects are not followed"
        yield Finding("cluster", "warning", says, advice)


#: Seconds: bounds of a good busy-reply-threshold, and the shortest good timeout of idle clients.
LONGEST_SCRIPT, SHORTEST_SCRIPT, SHORTEST_TIMEOUT = 60.0, 1.0, 60


def check_limits(facts: Facts) -> Iterator[Finding]:
    if facts.config is None:
        says = "CONFIG GET is not permitted: timeouts and fsync could not be looked at"
        yield Finding("limits", "ok", says)
        return
    findings = list(odd_limits(facts))
    yield from findings or [Finding("limits", "ok", "timeouts and the number of clients are fine")]


def odd_limits(facts: Facts) -> Iterator[Finding]:
    threshold = int(facts.setting("busy-reply-threshold") or 5000) / 1000
    if not SHORTEST_SCRIPT <= threshold <= LONGEST_SCRIPT:
        says = f"busy-reply-threshold is {threshold:g} s: a stuck script " + (
            "is not reported"
            if threshold == 0 or threshold > LONGEST_SCRIPT
            else "is soon reported"
        )
        yield Finding("limits", "warning", says, "CONFIG SET busy-reply-threshold 5000")
    idle = int(facts.setting("timeout") or 0)
    if 0 < idle < SHORTEST_TIMEOUT:
        says = f"timeout is {idle} s: idle connections are closed all the time"
        yield Finding("limits", "warning", says, "CONFIG SET timeout 0")
    if facts.setting("tcp-keepalive") == "0":
        says = "tcp-keepalive is off: dead clients are never noticed"
        yield Finding("limits", "warning", says, "CONFIG SET tcp-keepalive 300")
    most, now = int(facts.setting("maxclients") or 0), facts.number("connected_clients")
    if most and now > 0.8 * most:
        says = f"{now} of {most} possible clients are connected"
        yield Finding(
            "limits", "warning", says, "raise maxclients, or find the program that leaks them"
        )


# Rights


def check_rights(facts: Facts) -> Iterator[Finding]:
    user = f"user {facts.user}" if facts.user else "the user of the URL"
    missing = facts.missing or {}
    may = [role for role in ("worker", "producer") if role in missing and not missing[role]]
    if facts.missing is None:
        yield Finding("rights", "ok", f"{user}: rights could not be looked at")
    elif "worker" in may:
        yield Finding("rights", "ok", f"{user} has the rights of workers and producers")
    elif "producer" in may:
        also = f", and {', '.join(facts.may)}" if facts.may else ""
        says = f"{user} has the rights of producers{also}"
        says += f"; a worker would lack {some(missing['worker'])}"
        yield Finding("rights", "ok", says)
    else:
        says = f"{user} can neither send nor run tasks: it lacks {some(missing.get('producer'))}"
        advice = "fine for a monitor; else streamq acl producer, or worker, prints what is needed"
        yield Finding("rights", "warning", says, advice)


def some(missing: Sequence[str] | None) -> str:
    """The first missing right, and how many more there are."""
    return first_few(missing or ["rights"], 1)


def check_password(facts: Facts) -> Iterator[Finding]:
    if not facts.nopass:
        return
    advice = "requirepass, or ACL SETUSER default off beside users from streamq acl"
    listens = facts.setting("bind") or ""
    open_port = (
        facts.setting("protected-mode") == "no"
        and facts.setting("port") not in (None, "0")
        and not all(is_loopback(address.lstrip("-")) for address in (listens or "*").split())
    )
    if facts.remote or open_port:
        says = "the user default has no password: anyone who reaches the port may do everything"
        yield Finding("password", "problem", says, advice)
    else:
        says = "the user default has no password; only this machine reaches the server"
        yield Finding("password", "ok", says)


def is_loopback(host: str) -> bool:
    """Whether an address reaches this machine only."""
    return host in ("localhost", "::1", "") or host.startswith("127.")
