"""Publishing, straight at Redis: what is written, what is remembered, what is refused."""

import os
import re
import subprocess
import sys
from pathlib import Path

import fakeredis
import pytest
from redis.exceptions import OutOfMemoryError, ResponseError

from streamq.transport.scripts import load, names, refusal

#: Enough of redis-cli for the documentation's lines, where it is not installed.
REDIS_CLI = """#!{python}
import sys, redis
client = redis.Redis.from_url("{url}", protocol=2, decode_responses=True)
answer = client.execute_command(*sys.argv[1:])
print(*answer if isinstance(answer, list) else [answer], sep="\\n")
"""

HOUR_AHEAD = "local function clock() return redis.call('TIME')[1] * 1000 + 3600000 end"


def message(
    exchange="", key="mail", id="", window=0, keep=1, priority="", due="", expires="",
    headers=None, **fields,
):  # fmt: skip
    """One message as publish.lua takes it."""
    pairs = {"task": "tasks.send", **fields}
    return [
        *(exchange, key, id, window, keep, priority, due, expires),
        *(len(headers or {}), *(text for pair in (headers or {}).items() for text in pair)),
        *(len(pairs), *(text for pair in pairs.items() for text in pair)),
    ]


@pytest.fixture
def publish(scripts):
    def publish(*messages, channel="", number=""):
        return scripts("publish", channel, number, *(text for m in messages for text in m))

    scripts("declare_queue", "mail", "{}")
    return publish


@pytest.fixture
def news(scripts):
    """A fanout exchange in front of three queues."""
    scripts("declare_exchange", "news", "fanout", "")
    for queue in ("c", "a", "b"):
        scripts("declare_queue", queue, "{}")
        scripts("bind", "news", "queue", queue, "")
    return "news"


def refused(publish, *messages, **channel):
    with pytest.raises(ResponseError) as caught:
        publish(*messages, **channel)
    return refusal(caught.value.args[0])


def entries(redis, stream):
    return [fields for _, fields in redis.xrange(stream)]


def test_a_message_lies_in_its_queue_and_its_record_says_so(publish, redis, keys):
    assert publish(message(id="m1", args="[1]")) == ["mail"]

    assert entries(redis, keys.queue("mail")) == [{"id": "m1", "task": "tasks.send", "args": "[1]"}]
    record = redis.hgetall(keys.task("m1"))
    seconds, _ = redis.time()
    assert abs(int(record.pop("enqueued")) / 1000 - seconds) < 5
    assert record == {"state": "QUEUED", "task": "tasks.send", "queue": "mail"}
    assert redis.ttl(keys.task("m1")) == -1


def test_time_is_what_the_clock_says(publish, scripts, redis, keys):
    scripts.clock = HOUR_AHEAD

    publish(message(id="m1"))

    ahead = int(redis.hget(keys.task("m1"), "enqueued")) / 1000 - redis.time()[0]
    assert 3590 < ahead < 3610


def test_without_keep_there_is_no_record(publish, redis, keys):
    publish(message(id="m1", keep=0))

    assert redis.xlen(keys.queue("mail")) == 1
    assert not redis.exists(keys.task("m1"))


def test_without_an_id_the_entry_names_the_task_as_after_a_typed_xadd(publish, redis, keys):
    publish(message())

    [(entry, fields)] = redis.xrange(keys.queue("mail"))
    assert fields == {"task": "tasks.send"}
    assert redis.hget(keys.task(f"mail-{entry}"), "queue") == "mail"


def test_bytes_pass_as_they_are(publish, redis, keys, server_url):
    odd = bytes(range(256))

    publish(message(id="m1", args=odd))

    raw = type(redis).from_url(server_url, protocol=2)
    assert raw.xrange(keys.queue("mail"))[0][1][b"args"] == odd
    raw.close()


def test_a_message_for_three_queues_is_three_tasks_and_a_list_of_them(publish, news, redis, keys):
    assert publish(message(news, "", id="m1")) == ["a:b:c"]

    for queue in "abc":
        assert entries(redis, keys.queue(queue)) == [{"id": f"m1@{queue}", "task": "tasks.send"}]
        assert redis.hmget(keys.task(f"m1@{queue}"), "state", "queue") == ["QUEUED", queue]
    base = redis.hgetall(keys.task("m1"))
    assert (base["state"], base["copies"], "queue" in base) == ("QUEUED", "a:b:c", False)


def test_three_copies_without_an_id_are_tasks_of_their_own(publish, news, redis, keys):
    assert publish(message(news, "")) == ["a:b:c"]

    for queue in "abc":
        [(entry, _)] = redis.xrange(keys.queue(queue))
        assert redis.hget(keys.task(f"{queue}-{entry}"), "state") == "QUEUED"
    assert len(redis.keys(keys.task("*"))) == 3


def test_priorities_are_levels_up_to_what_the_queue_has(publish, scripts, redis, keys):
    scripts("declare_queue", "fast", '{"max_priority":3}')

    publish(*(message(key="fast", priority=p) for p in ("", 0, 1, 3, 9)), message(priority=9))

    assert [redis.xlen(keys.queue("fast", level)) for level in range(4)] == [2, 1, 0, 2]
    assert redis.xlen(keys.queue("mail")) == 1


# All or nothing


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (message("", "a b\n%é"), ["UNROUTABLE", "1", "", "a b\n%é"]),
        (message("topics", "x y"), ["UNROUTABLE", "1", "topics", "x y"]),
        (message("no such", "x"), ["NOEXCHANGE", "1", "no such"]),
        (message("", "small"), ["QUEUEFULL", "1", "small", "0"]),
        (message()[:-1], ["BADMESSAGE", "1", "bad-field-count"]),
        (message(priority=10), ["BADMESSAGE", "1", "bad-priority"]),
        (message(window=5), ["BADMESSAGE", "1", "window-without-id"]),
        (message(window=-5, id="x"), ["BADMESSAGE", "1", "bad-window"]),
        *(
            (message(id=id), ["BADMESSAGE", "1", "bad-id"])
            for id in ("a" * 201, "a@b", "a:b", "{a}", "a\0", "a\x7f")
        ),
        (message(due="soon", id="x"), ["BADMESSAGE", "1", "bad-moment"]),
        (message(expires="-5"), ["BADMESSAGE", "1", "bad-moment"]),
        (message(due="+5"), ["BADMESSAGE", "1", "due-without-id"]),
        (
            ["", "mail", "", 0, 1, "", "", "", 0, 1, "name", "t"],
            ["BADMESSAGE", "1", "first-field-is-not-task"],
        ),
        (["", "mail", "", 0, 1, "", 9, "a"], ["BADMESSAGE", "1", "bad-header-count"]),
    ],
)
def test_one_bad_message_keeps_the_whole_call_from_writing(publish, scripts, redis, last, words):
    scripts("declare_exchange", "topics", "topic", "")
    scripts("declare_queue", "small", '{"max_length":0}')
    before = sorted(redis.keys())

    assert refused(publish, message(id="m1", window=1000), last, channel="l", number=1) == words

    assert sorted(redis.keys()) == before
    assert redis.xlen("{streamq}:queue:mail") == 0


def test_max_length_counts_every_stream_of_a_queue_and_the_call_itself(
    publish, scripts, redis, keys
):
    scripts("declare_queue", "mail", '{"max_length":5,"max_priority":1}')
    redis.xadd(keys.returned("mail"), {"task": "t"})
    redis.xadd(keys.queue("mail", 9), {"task": "t"})
    publish(message(priority=1))

    three = [message(), message(), message()]
    assert refused(publish, *three) == ["QUEUEFULL", "2", "mail", "5"]
    assert publish(*three[:2]) == ["mail", "mail"]
    assert refused(publish, message()) == ["QUEUEFULL", "0", "mail", "5"]


def test_a_full_queue_keeps_the_copies_for_the_others_back_too(publish, news, scripts, redis, keys):
    scripts("declare_queue", "b", '{"max_length":0}')

    assert refused(publish, message(news, "")) == ["QUEUEFULL", "0", "b", "0"]
    assert redis.xlen(keys.queue("a")) == 0


@pytest.mark.parametrize("settings", ["garbage", "[", "7", '"{}"', ""])
def test_settings_that_nobody_can_read_keep_the_whole_call_from_writing(
    publish, redis, keys, settings
):
    redis.hset(keys.queues, "broken", settings)

    assert refused(publish, message(), message("", "broken")) == ["BADSETTINGS", "1", "broken"]
    assert redis.xlen(keys.queue("mail")) == 0


def test_a_stream_that_is_none_keeps_the_copies_for_the_others_back_too(publish, news, redis, keys):
    redis.delete(keys.queue("b"))
    redis.set(keys.queue("b"), "not ours")

    with pytest.raises(ResponseError, match=r"WRONGTYPE .*queue:b"):
        publish(message(news, "", id="m1"))

    assert (redis.xlen(keys.queue("a")), redis.exists(keys.task("m1"))) == (0, 0)


def test_a_server_without_memory_refuses_the_whole_call(publish, redis, keys):
    redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(OutOfMemoryError):
            publish(message(id="m1"))
    finally:
        redis.config_set("maxmemory", 0)

    assert redis.xlen(keys.queue("mail")) == 0


# Accepted once


def test_a_call_sent_again_gets_the_same_answer_and_writes_nothing(publish, news, redis, keys):
    first = publish(message(news, ""), message(), channel="l", number=7)

    assert (
        publish(message(news, ""), message(), channel="l", number=7) == first == ["a:b:c", "mail"]
    )
    assert redis.xlen(keys.queue("mail")) == 1
    assert 590_000 < redis.pttl(keys.channel("l")) <= 600_000


def test_a_call_sent_again_is_answered_whatever_the_topology_says_by_then(
    publish, news, scripts, redis, keys
):
    first = publish(message(news, ""), channel="l", number=7)
    scripts("delete_exchange", news)

    assert publish(message(news, ""), channel="l", number=7) == first


def test_the_next_call_of_a_channel_is_a_new_one(publish, redis, keys):
    publish(message(), channel="l", number=9)
    publish(message(), channel="l", number=10)
    publish(message(), channel="other", number=10)

    assert redis.xlen(keys.queue("mail")) == 3


def test_a_call_that_was_overtaken_on_its_channel_writes_nothing(publish, redis, keys):
    publish(message(), channel="l", number=10)

    assert refused(publish, message(), channel="l", number=9) == ["STALE", "9", "10"]
    assert redis.xlen(keys.queue("mail")) == 1


@pytest.mark.parametrize("number", [9, 10])
def test_another_call_under_a_number_that_is_taken_is_refused(publish, redis, keys, number):
    """A copy of a machine goes on with the channel that its original has."""
    publish(message(id="m1"), message(id="m2"), channel="l", number=10)

    words = ["STALE", str(number), "10"]
    assert refused(publish, message(id="m3"), message(id="m2"), channel="l", number=number) == words
    assert len(publish(message(id="m1"), message(id="m2"), channel="l", number=10)) == 2
    assert redis.xlen(keys.queue("mail")) == 2


def test_a_refused_call_may_be_repeated_under_its_number(publish, scripts, redis, keys):
    assert refused(publish, message(key="late"), channel="l", number=1)[0] == "UNROUTABLE"
    scripts("declare_queue", "late", "{}")

    assert publish(message(key="late"), channel="l", number=1) == ["late"]


def test_an_id_within_its_window_is_accepted_once(publish, news, scripts, redis, keys):
    assert publish(message(news, "", id="m1", window=5000)) == ["a:b:c"]
    scripts("delete_exchange", news)

    assert publish(message(key="mail", id="m1", window=5000)) == ["a:b:c"]
    assert redis.xlen(keys.queue("a")) == 1
    assert redis.xlen(keys.queue("mail")) == 0
    assert 4000 < redis.pttl(keys.dedup("m1")) <= 5000


def test_an_id_twice_in_one_call_is_accepted_once(publish, redis, keys):
    twice = [message(id="m1", window=5000), message(key="no such", id="m1", window=5000)]

    assert publish(*twice) == ["mail", "mail"]
    assert redis.xlen(keys.queue("mail")) == 1


def test_a_repeated_id_takes_no_room_in_a_full_queue(publish, scripts, redis, keys):
    scripts("declare_queue", "mail", '{"max_length":1}')
    publish(message(id="m1", window=5000))

    assert publish(message(id="m1", window=5000)) == ["mail"]


def test_after_the_window_an_id_is_accepted_again_and_begins_a_generation(publish, redis, keys):
    publish(message(id="m1", window=5000))
    ended = {"state": "SUCCESS", "result": "4", "history": "h", "finished": "5"}
    redis.hset(keys.task("m1"), mapping=ended)
    redis.expire(keys.task("m1"), 5)
    redis.delete(keys.dedup("m1"))

    assert publish(message(id="m1", window=5000)) == ["mail"]

    first, second = [fields for _, fields in redis.xrange(keys.queue("mail"))]
    assert ("generation" in first, second["generation"]) == (False, "2")
    record = redis.hgetall(keys.task("m1"))
    assert (record["state"], record["generation"], record["history"]) == ("QUEUED", "2", "h")
    assert record.keys().isdisjoint({"result", "finished"})
    assert redis.ttl(keys.task("m1")) == -1


def test_who_waits_for_a_chosen_id_stands_in_the_record_it_gets(publish, redis, keys):
    redis.set(keys.early_waiters("m1"), "w1 w2", ex=30)

    publish(message(id="m1", window=5000))

    assert redis.hmget(keys.task("m1"), "state", "waiters") == ["QUEUED", "w1 w2"]
    assert redis.ttl(keys.task("m1")) == -1
    assert redis.exists(keys.early_waiters("m1")) == 0


# Size and place


def test_a_thousand_messages_are_one_call_with_two_writes_each(publish, redis, keys):
    redis.config_resetstat()

    answers = publish(*(message(id=f"m{i}") for i in range(1000)))

    assert answers == ["mail"] * 1000
    stats = redis.info("commandstats")
    calls = {name.removeprefix("cmdstat_"): one["calls"] for name, one in stats.items()}
    assert (calls["xadd"], calls["hset"]) == (1001, 1000)  # one asks whether there are ids left
    assert sum(calls.values()) < 2010


def test_routing_reads_the_index_once_for_messages_that_go_the_same_way(publish, scripts, redis):
    scripts("declare_exchange", "t", "topic", "")
    scripts("bind", "t", "queue", "mail", "a.#")
    redis.config_resetstat()

    publish(*(message("t", "a.b", keep=0) for _ in range(100)))

    assert redis.info("commandstats")["cmdstat_hmget"]["calls"] <= 4


def test_patterns_full_of_hashes_do_not_explode(publish, scripts, redis):
    scripts("declare_exchange", "t", "topic", "")
    scripts("bind", "t", "queue", "mail", ".".join(["#", "a"] * 12))
    redis.config_resetstat()

    key = ".".join(["a"] * 100 + ["b"])
    assert refused(publish, message("t", key))[0] == "UNROUTABLE"
    assert redis.info("commandstats")["cmdstat_hmget"]["calls"] < 250


@pytest.mark.parametrize("kind", ["direct", "topic", "headers"])
def test_bindings_that_do_not_match_are_not_looked_at(publish, scripts, redis, kind):
    scripts("declare_exchange", "x", kind, "")
    asked = ["format", "s:pdf", "customer", "i:7"] if kind == "headers" else []
    scripts("bind", "x", "queue", "mail", "orders.7", *asked)
    one = message("x", "orders.7", keep=0, headers=dict(zip(asked[::2], asked[1::2], strict=True)))

    def looked_up():
        """How many fields of hashes one publish asked for."""
        with redis.monitor() as monitor:
            publish(one)
            redis.echo("done")
            seen = []
            for event in monitor.listen():
                if "done" in event["command"]:
                    return seen
                if event["client_type"] == "lua" and event["command"].startswith(("HGET", "HMGET")):
                    seen += event["command"].split(" ")[2:]

    alone = looked_up()
    assert len(alone) > 2
    for i in range(100, 400):
        asked = ["format", "s:pdf", "customer", f"i:{i}"] if kind == "headers" else []
        scripts("bind", "x", "queue", "mail", f"orders.{i}", *asked)

    assert looked_up() == alone


# Other languages, other servers


def test_the_lines_in_the_documentation_publish(scripts, redis, keys, server_url, tmp_path):
    page = (Path(__file__).parents[2] / "docs/design/publish.md").read_text()
    [lines] = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    redis_cli = tmp_path / "redis-cli"
    redis_cli.write_text(REDIS_CLI.format(python=sys.executable, url=server_url))
    redis_cli.chmod(0o755)
    scripts("declare_queue", "demo", "{}")
    redis.hset(keys.script("publish"), "source", load("publish").text)

    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    run = subprocess.run(
        ["sh", "-eu", "-c", lines], env={"PATH": path}, capture_output=True, text=True, timeout=60
    )

    assert (run.stdout, run.stderr) == ("demo\n", "")
    [fields] = entries(redis, keys.queue("demo"))
    assert fields == {"id": "hello", "task": "tasks.add", "args": "[1,2]"}
    assert redis.hget(keys.task("hello"), "state") == "QUEUED"


@pytest.mark.parametrize("name", names())
def test_every_script_compiles_and_says_what_it_is_for(redis, name):
    script = load(name)

    assert redis.script_load(script.text) == script.sha
    assert script.text.startswith("#!lua")
    assert "KEYS" in script.header
    assert "@include" not in script.text


def test_publishing_works_on_fakeredis():
    client = fakeredis.FakeRedis(decode_responses=True)

    def run(name, *argv):
        return client.eval(load(name).text.partition("\n")[2], 1, "{streamq}", *argv)

    run("declare_queue", "mail", '{"max_length":1}')
    assert run("publish", "l", 1, *message(id="m1", window=1000)) == ["mail"]
    assert run("publish", "l", 1, *message(id="m1", window=1000)) == ["mail"]
    with pytest.raises(ResponseError, match="QUEUEFULL 0 mail 1"):
        run("publish", "l", 2, *message())
    assert entries(client, "{streamq}:queue:mail") == [{"id": "m1", "task": "tasks.send"}]
    assert client.hget("{streamq}:task:m1", "enqueued").isdigit()
    client.close()
