"""What a look at a real server finds: each thing that may be wrong, made so."""

import pytest

from streamq import Queue
from streamq.admin.doctor.checks import diagnose
from streamq.admin.doctor.gather import GatherFacts
from streamq.admin.doctor.leaks import LeakScan
from streamq.transport.client import Client
from streamq.transport.keys import Keys

FAR = 9e15


@pytest.fixture
def client(server_url, redis):
    client = Client(server_url, name="streamq:test")
    yield client
    client.close()


@pytest.fixture
def look(client, keys):
    """``look()`` gathers the facts of the namespace."""
    return GatherFacts(client, keys).facts


@pytest.fixture
def not_at_rest(client, keys):
    """``not_at_rest()`` says what speaks against the namespace being at rest."""
    return LeakScan(client, keys).not_at_rest


@pytest.fixture
def queue(scripts, redis, keys):
    """The declared queue `mail`, and what adds messages to it."""
    scripts("declare_queue", "mail", "{}")

    def add(count=1, stream="mail"):
        key = f"{keys.root}:queue:{stream}"
        return [redis.xadd(key, {"id": f"m{n}", "task": "t"}) for n in range(count)]

    return add


def read(redis, keys, consumer, count=10):
    redis.xreadgroup("workers", consumer, {keys.queue("mail"): ">"}, count)


def said(facts, check):
    """Level and words of one check."""
    return [(each.level, each.says) for each in diagnose(facts) if each.check == check]


def test_the_server_tells_about_itself(look, server_url):
    facts = look()

    assert facts.number("connected_clients") >= 1
    assert facts.config["appendfsync"] in ("everysec", "always", "no")
    assert facts.user == "default"
    assert facts.nopass is True
    assert facts.remote is False
    assert facts.missing == {"producer": [], "worker": []}
    assert abs(facts.ahead) < 1
    assert 0 < facts.round_trip < 1
    assert facts.clients["streamq:test"] == 1
    assert said(facts, "server")[0][0] == "ok"
    assert said(facts, "persistence")[0][0] == "warning"


def test_an_empty_namespace_has_nothing_to_complain_of(look, not_at_rest):
    facts = look()

    complaints = [f for f in diagnose(facts) if f.level != "ok" and f.check != "persistence"]
    assert [f.says for f in complaints if "cluster mode" not in f.says] == []
    assert facts.keys.all_of_them
    assert not_at_rest() == []


def test_eviction_and_memory_are_those_of_the_server(look, redis):
    redis.config_set("maxmemory-policy", "allkeys-lru")
    redis.config_set("maxmemory", 1 << 30)
    try:
        facts = look()
    finally:
        redis.config_set("maxmemory-policy", "noeviction")
        redis.config_set("maxmemory", 0)

    assert said(facts, "eviction")[0][0] == "problem"
    assert "left of 1 GiB" in said(facts, "memory")[0][1]


def test_a_consumer_without_a_lease_is_seen(look, not_at_rest, queue, redis, keys):
    queue()
    read(redis, keys, "gone:1:a")

    assert "gone:1:a" in said(look(), "orphans")[0][1]
    assert "consumers without a lease: gone:1:a" in not_at_rest()

    redis.zadd(keys.leases, {"gone:1:a": FAR})

    assert said(look(), "orphans")[0][0] == "ok"


def test_a_lease_that_is_long_over_is_seen(look, redis, keys, scripts):
    seconds, _ = redis.time()
    redis.zadd(keys.leases, {"late:1:a": (seconds - 100) * 1000, "now:1:a": FAR})

    assert look().leases["late:1:a"] == pytest.approx(100, abs=2)
    assert said(look(), "orphans") == [("warning", "1 lease over for more than 60 s: late:1:a")]


def test_messages_that_nobody_reads_are_seen(look, queue, redis, keys):
    queue(3)

    assert said(look(), "readers")[0] == (
        "warning", "messages wait that no living worker reads: mail (3)"
    )  # fmt: skip

    redis.zadd(keys.workers, {"w@h": FAR})
    redis.hset(keys.worker("w@h"), "queues", "other mail")

    assert said(look(), "readers")[0][0] == "ok"


def test_messages_in_levels_that_nobody_reads_are_seen(look, queue, redis, keys):
    queue(2, "mail:p9")
    redis.zadd(keys.workers, {"w@h": FAR})
    redis.hset(keys.worker("w@h"), "queues", "mail")

    assert said(look(), "readers") == [
        ("warning", "messages wait in priority levels that no living worker reads: mail:p9 (2)")
    ]
    (found,) = [each for each in diagnose(look()) if each.check == "readers"]
    assert "declare the queue with such a max_priority" in found.advice
    assert f"streamq redis DEL {keys.queue('mail', 9)}" in found.advice


def test_levels_beyond_a_queue_are_no_reason_to_start_a_worker(look, queue):
    queue(2, "mail:p9")

    ((_, says),) = said(look(), "readers")

    assert "levels" in says


def test_levels_that_a_worker_reads_are_no_news(look, scripts, queue, redis, keys):
    queue(1, "mail:p3")
    redis.zadd(keys.workers, {"w@h": FAR})
    redis.hset(keys.worker("w@h"), mapping={"queues": "mail", "levels": "mail:3"})

    assert said(look(), "readers")[0][0] == "ok"


def test_levels_that_were_declared_after_a_worker_had_started_are_seen(
    look, scripts, queue, redis, keys
):
    scripts("declare_queue", "mail", '{"max_priority":9}')
    queue(1, "mail:p3")
    queue(1, "mail:p4")
    redis.xreadgroup("workers", "w:1:a", {keys.queue("mail", 4): ">"}, 1)
    redis.zadd(keys.workers, {"old": FAR, "w@h": FAR})
    redis.hset(keys.worker("old"), "queues", "mail")
    assert said(look(), "readers")[0][0] == "ok"

    redis.hset(keys.worker("w@h"), mapping={"queues": "mail", "levels": "mail:2"})

    assert said(look(), "readers")[0][1].endswith("reads: mail:p3 (1)")


def test_dead_letters_of_a_queue_that_is_not_declared_are_seen(look, queue, redis, keys):
    redis.sadd(keys.queues_with_dead, "old", "mail")
    redis.zadd(keys.dead("old"), {"a": 1, "b": 2})

    assert said(look(), "dead letters") == [("warning", "2 dead letters in old")]


@pytest.mark.parametrize(
    "name", ["queues", "leases", "workers", "revoked", "dead", "queue:mail:p3", "routes:news"]
)
def test_a_key_that_is_not_ours_is_a_problem_with_its_name(look, queue, scripts, redis, keys, name):
    scripts("declare_exchange", "news", "topic", "")
    key = f"{keys.root}:{name}"
    redis.delete(key)
    redis.set(key, "x")

    ((level, says),) = said(look(), "foreign")

    assert level == "problem"
    assert says.startswith(f"{key} is a string, where streamq keeps a ")


def test_who_may_not_ask_for_types_names_the_foreign_key_that_was_met(redis, server_url, keys):
    redis.set(keys.leases, "x")
    redis.execute_command("ACL", "SETUSER", "shop", "on", ">pw", "~*", "&*", "+@all", "-type")
    client = Client(server_url.replace("unix://", "unix://shop:pw@"), name="streamq:test")
    try:
        found = said(GatherFacts(client, keys).facts(), "foreign")
    finally:
        client.close()
        redis.acl_deluser("shop")

    assert found == [("problem", f"{keys.leases} holds something that is not streamq's")]


def test_a_worker_that_is_silent_reads_nothing(look, queue, redis, keys):
    queue(1)
    redis.zadd(keys.workers, {"w@h": 1})
    redis.hset(keys.worker("w@h"), "queues", "mail")

    assert said(look(), "readers")[0][0] == "warning"


def test_a_pending_entry_whose_message_is_deleted_is_seen(look, queue, redis, keys):
    first, _ = queue(2)
    read(redis, keys, "w:1:a")
    redis.xdel(keys.queue("mail"), first)

    assert look().deleted_pending == {"mail": 1}

    redis.xack(keys.queue("mail"), "workers", first)

    assert look().deleted_pending == {}


def test_a_record_that_waits_for_nothing_is_seen(look, not_at_rest, queue, redis, keys):
    redis.hset(keys.task("lost"), mapping={"state": "QUEUED", "queue": "mail"})
    redis.hset(keys.task("split"), mapping={"state": "QUEUED", "copies": "audit:mail"})

    assert look().keys.lost_records == ["lost"]
    assert not_at_rest() == ["2 keys without an expiry: task:lost, task:split"]


@pytest.mark.parametrize(
    "record",
    [
        {"state": "SUCCESS", "queue": "mail"},
        {"state": "SCHEDULED", "queue": "mail"},
        {"state": "QUEUED", "queue": "elsewhere"},
        {"waiters": "r"},
    ],
)
def test_a_record_with_a_reason_to_stay_is_left_alone(record, look, queue, redis, keys):
    redis.hset(keys.task("x"), mapping=record)

    assert look().keys.lost_records == []


def test_a_record_of_a_message_that_may_still_be_somewhere_is_left_alone(look, queue, redis, keys):
    redis.hset(keys.task("x"), mapping={"state": "STARTED", "queue": "mail"})
    queue()
    assert look().keys.lost_records == []

    redis.xtrim(keys.queue("mail"), maxlen=0)
    assert look().keys.lost_records == ["x"]

    redis.zadd(keys.leases, {"w:1:a": FAR})
    redis.hset(keys.started("w:1:a"), "mail 1-1", "{}")
    assert look().keys.lost_records == []


def test_streams_and_marks_that_belong_to_nobody_are_seen(look, not_at_rest, queue, redis, keys):
    queue(1, "old:p3")
    redis.hset(keys.started("gone:1:a"), "mail 1-1", "{}")

    found = look().keys

    assert found.undeclared == ["old:p3"]
    assert found.marks_without_lease == ["gone:1:a"]
    assert "old:p3 holds 1 message, 0 of them read by a worker" in not_at_rest()
    assert "1 key without an expiry: started:gone:1:a" in not_at_rest()


def test_other_namespaces_are_not_looked_at(look, not_at_rest, redis, client):
    other = Keys("streamq2")
    redis.hset(other.task("lost"), mapping={"state": "QUEUED", "queue": "mail"})
    redis.xadd("{streamq", {"a": 1})

    assert look().keys.looked_at == 0
    assert not_at_rest() == []
    assert LeakScan(client, other).not_at_rest() != []


def test_a_name_that_would_be_a_pattern_names_itself(redis, client):
    redis.set("{ab}:publisher:x", 1)

    assert LeakScan(client, Keys("a[b]")).not_at_rest() == []
    assert LeakScan(client, Keys("a*")).not_at_rest() == []
    assert LeakScan(client, Keys("ab")).not_at_rest() == ["1 key without an expiry: publisher:x"]


def test_a_look_at_many_keys_ends_at_its_budget(redis, client, keys):
    pipeline = redis.pipeline(transaction=False)
    for number in range(3000):
        pipeline.set(keys.channel(str(number)), 1)
    pipeline.execute()
    leftovers = LeakScan(client, keys)

    some = leftovers.sample(1000, [], [], [])

    assert not some.all_of_them
    assert 500 < some.looked_at < 1600
    assert leftovers.sample(100_000, [], [], []).looked_at == 3000


def test_no_command_stops_the_server_for_everybody(look, not_at_rest, queue, redis):
    queue(5)
    redis.config_resetstat()

    look()
    not_at_rest()

    used = {name.removeprefix("cmdstat_") for name in redis.info("commandstats")}
    assert "scan" in used
    assert not used & {"keys", "flushall", "debug"}


def test_a_namespace_in_which_all_has_ended_is_at_rest(app, drain, client, not_at_rest, eventually):
    app.queues = [Queue("default"), Queue("mail", max_priority=3)]
    rest = LeakScan(client, app.broker.keys).not_at_rest

    @app.task
    def add(x, y):
        return x + y

    result = add.enqueue(1, 2)
    assert any("default holds 1 message, 0" in line for line in rest())
    assert any(f"task:{result.id}" in line for line in rest())

    assert drain(app) == 1
    assert result.get(timeout=5) == 3
    assert rest() == []


def test_schedules_that_nobody_fires_are_seen(look, redis, keys):
    assert said(look(), "schedules") == [("ok", "none")]

    seconds, _ = redis.time()
    redis.zadd(keys.schedules, {"soon": FAR, "now": seconds * 1000, "quiet": float("inf")})
    assert said(look(), "schedules") == [("ok", "3 schedules, none is late, 1 paused")]

    redis.zadd(keys.schedules, {"nightly": (seconds - 100) * 1000})
    assert said(look(), "schedules") == [
        ("warning", "1 schedule late by more than 60 s: nightly")
    ]  # fmt: skip


def test_schedules_are_kept_for_good(not_at_rest, look, redis, keys):
    redis.zadd(keys.schedules, {"nightly": FAR})
    redis.hset(keys.schedule("nightly"), "task", "t")
    redis.xadd(keys.schedule_runs("nightly"), {"tick": 1})
    assert not_at_rest() == []

    redis.delete(keys.schedule("nightly"))
    redis.set(keys.schedule("nightly"), 1)
    assert (
        "schedule:nightly is a string, where streamq keeps a hash"
        in (said(look(), "foreign")[0][1])
    )
