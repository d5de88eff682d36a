"""What facts about a Redis mean: one fact changed, one finding."""

from dataclasses import replace

import pytest

from streamq.admin.doctor.checks import diagnose, worst
from streamq.admin.doctor.facts import Facts, KeyFacts, QueueFacts

MIB = 1 << 20

#: A server as it should be.
HEALTHY = Facts(
    url="redis://127.0.0.1:6379/0",
    root="{streamq}",
    remote=False,
    info={
        "redis_version": "7.2.4",
        "server_name": "valkey",
        "valkey_version": "8.1.0",
        "aof_enabled": "1",
        "aof_last_write_status": "ok",
        "rdb_last_bgsave_status": "ok",
        "maxmemory_policy": "noeviction",
        "maxmemory": str(100 * MIB),
        "used_memory": str(10 * MIB),
        "role": "master",
        "connected_slaves": "0",
        "connected_clients": "7",
    },
    config={
        "appendfsync": "everysec",
        "save": "",
        "min-replicas-to-write": "0",
        "busy-reply-threshold": "5000",
        "timeout": "0",
        "tcp-keepalive": "300",
        "maxclients": "10000",
        "bind": "127.0.0.1",
        "protected-mode": "yes",
        "port": "6379",
    },
    user="app",
    nopass=False,
    missing={"producer": [], "worker": []},
    queues=[QueueFacts(name="mail", length=3, pending=1, consumers={"w:1:a": 1})],
    leases={"w:1:a": -10.0},
    workers={"w": ["mail"]},
    deleted_pending={},
    keys=KeyFacts(looked_at=10, all_of_them=True),
    clients={"streamq:runner": 3},
)


def with_info(**info: str) -> Facts:
    return replace(HEALTHY, info={**HEALTHY.info, **info})


def with_config(**config: str) -> Facts:
    changed = {name.replace("_", "-"): value for name, value in config.items()}
    return replace(HEALTHY, config={**(HEALTHY.config or {}), **changed})


def old_redis(version: str) -> Facts:
    info = {name: text for name, text in HEALTHY.info.items() if "valkey" not in text + name}
    info.pop("valkey_version", None)
    return replace(HEALTHY, info={**info, "redis_version": version})


def queue(name: str = "mail", **facts: object) -> Facts:
    kept = {"length": 0, "pending": 0, **facts}
    return replace(HEALTHY, queues=[QueueFacts(name=name, **kept)])


def test_a_healthy_server_gets_nothing_but_ok():
    findings = diagnose(HEALTHY)

    assert [finding for finding in findings if finding.level != "ok"] == []
    assert [finding for finding in findings if finding.advice] == []
    assert worst(findings) == "ok"


@pytest.mark.parametrize(
    ("facts", "check", "level", "says"),
    [
        (old_redis("6.2.14"), "server", "problem", "Redis 6.2.14"),
        (with_info(valkey_version="7.2.5"), "server", "problem", "Valkey 7.2.5"),
        (
            replace(HEALTHY, info={**old_redis("7.4").info, "dragonfly_version": "1.2"}),
            "server",
            "warning",
            "Dragonfly 1.2",
        ),
        (replace(HEALTHY, info={}), "server", "warning", "INFO is not permitted"),
        (with_info(aof_enabled="0"), "persistence", "warning", "none: a crash of the server loses"),
        (
            replace(with_config(save="60 1"), info={**HEALTHY.info, "aof_enabled": "0"}),
            "persistence",
            "warning",
            "RDB: a crash of the server loses what came after the last snapshot",
        ),
        (with_config(appendfsync="no"), "persistence", "warning", "a power loss about 30 s"),
        (with_info(aof_last_write_status="err"), "persistence", "problem", "could not be written"),
        (with_info(rdb_last_bgsave_status="err"), "persistence", "problem", "snapshot failed"),
        (with_info(maxmemory_policy="allkeys-lru"), "eviction", "problem", "in silence"),
        (
            with_info(maxmemory_policy="volatile-ttl", maxmemory="0"),
            "eviction",
            "warning",
            "without effect",
        ),
        (with_info(used_memory=str(90 * MIB)), "memory", "warning", "10% left of 100 MiB"),
        (with_info(used_memory=str(99 * MIB)), "memory", "problem", "1% left"),
        (replace(HEALTHY, ahead=3.0), "clock", "warning", "3.0 s ahead of ours"),
        (replace(HEALTHY, ahead=-3.0), "clock", "warning", "3.0 s behind ours"),
        (
            with_info(role="slave", master_host="db1", master_port="6379"),
            "replication",
            "problem",
            "replica of db1:6379",
        ),
        (with_info(connected_slaves="2"), "replication", "warning", "2 replicas, none of which"),
        (
            replace(
                with_config(min_replicas_to_write="1"),
                info={**HEALTHY.info, "min_slaves_good_slaves": "0"},
            ),
            "replication",
            "problem",
            "min-replicas-to-write is 1",
        ),
        (with_info(cluster_enabled="1"), "cluster", "warning", "in one slot"),
        (replace(HEALTHY, unreadable="MOVED 12 a:1"), "cluster", "problem", "MOVED 12 a:1"),
        (with_config(busy_reply_threshold="0"), "limits", "warning", "is not reported"),
        (with_config(busy_reply_threshold="100"), "limits", "warning", "0.1 s"),
        (with_config(timeout="5"), "limits", "warning", "timeout is 5 s"),
        (with_config(tcp_keepalive="0"), "limits", "warning", "tcp-keepalive is off"),
        (with_info(connected_clients="9000"), "limits", "warning", "9000 of 10000"),
        (
            replace(HEALTHY, missing={"producer": ["EVALSHA x"], "worker": ["EVALSHA x", "TIME"]}),
            "rights",
            "warning",
            "user app can neither send nor run tasks: it lacks EVALSHA x",
        ),
        (replace(HEALTHY, nopass=True, remote=True), "password", "problem", "may do everything"),
        (
            replace(with_config(protected_mode="no", bind="* -::*"), nopass=True),
            "password",
            "problem",
            "may do everything",
        ),
        (
            queue(consumers={"gone:1:a": 2, "gone:2:b": 0}),
            "orphans",
            "warning",
            "2 consumers without a lease, holding 2 of the messages: gone:1:a, gone:2:b",
        ),
        (replace(HEALTHY, leases={"w:1:a": 61.0}), "orphans", "warning", "1 lease over for more"),
        (queue("audit", length=5, pending=2), "readers", "warning", "audit (3)"),
        (
            queue(out_of_ids=["mail:p9", "mail"]),
            "ids",
            "problem",
            "queue mail is out of ids, or nearly: it takes no more messages in mail:p9, mail",
        ),
        (replace(HEALTHY, dead={"mail": 4}), "dead letters", "warning", "4 dead letters in mail"),
        (
            replace(HEALTHY, keys=KeyFacts(looked_at=1, all_of_them=True, lost_records=["x"])),
            "leaks",
            "warning",
            "1 record of tasks that no queue holds: x",
        ),
        (
            replace(HEALTHY, keys=KeyFacts(looked_at=1, all_of_them=True, undeclared=["old"])),
            "leaks",
            "warning",
            "1 stream of no declared queue: old",
        ),
        (
            replace(
                HEALTHY, keys=KeyFacts(looked_at=1, all_of_them=True, marks_without_lease=["w"])
            ),
            "leaks",
            "warning",
            "consumers without a lease: w",
        ),
        (
            replace(HEALTHY, deleted_pending={"mail:p9": 2}),
            "deleted_pending",
            "warning",
            "mail:p9 (2)",
        ),
        (replace(HEALTHY, unreadable="NOPERM"), "contents", "warning", "not to be read: NOPERM"),
    ],
)
def test_what_is_wrong_is_said_once_with_an_advice(facts, check, level, says):
    findings = diagnose(facts)
    bad = [finding for finding in findings if finding.level != "ok"]
    ours = [finding for finding in bad if finding.check == check]

    assert len(ours) == 1
    assert ours[0].level == level
    assert says in ours[0].says
    assert ours[0].advice
    assert worst(findings) == (
        "problem" if "problem" in {each.level for each in bad} else "warning"
    )


@pytest.mark.parametrize(
    ("facts", "check", "says"),
    [
        (with_config(appendfsync="always"), "persistence", "a power loss nothing"),
        (with_info(connected_slaves="1"), "persistence", "a failover what was not yet replicated"),
        (old_redis("7.0.15"), "server", "Redis 7.0.15"),
        (replace(HEALTHY, ahead=1.9), "clock", "differ by 1.9 s"),
        (replace(HEALTHY, ahead=2.5, round_trip=1.0), "clock", "differ by 2.5 s"),
        (replace(HEALTHY, nopass=True), "password", "only this machine"),
        (replace(HEALTHY, missing={"producer": [], "worker": ["XACK q", "TIME"]}), "rights",
         "a worker would lack XACK q and 1 more"),
        (replace(HEALTHY, missing={"producer": [], "worker": ["XACK q"]}, may=["revoke", "forget"]),
         "rights", "has the rights of producers, and revoke, forget; a worker would lack XACK q"),
        (replace(HEALTHY, config=None), "limits", "CONFIG GET is not permitted"),
        (replace(HEALTHY, keys=None), "leaks", "SCAN is not permitted"),
        (replace(HEALTHY, deleted_pending=None), "deleted_pending", "may not be read"),
        (replace(HEALTHY, clients=None), "clients", "CLIENT LIST is not permitted"),
        (replace(HEALTHY, leases={"w:1:a": 59.0}), "orphans", "1 consumer, each with a lease"),
        (replace(HEALTHY, scheduled=4), "backlog", "2 ready, 1 running, 4 scheduled"),
        (HEALTHY, "clients", "3 streamq:runner; 4 others"),
        (HEALTHY, "memory", "90% left of 100 MiB"),
    ],
)  # fmt: skip
def test_what_is_fine_is_said_too(facts, check, says):
    ours = [finding for finding in diagnose(facts) if finding.check == check]

    assert [finding.level for finding in ours] == ["ok"]
    assert says in ours[0].says


def test_without_info_nothing_is_guessed_about_the_server():
    checks = {finding.check for finding in diagnose(replace(HEALTHY, info={}))}

    assert not checks & {"persistence", "eviction", "memory", "replication"}
    assert {"clock", "rights", "orphans"} <= checks
