"""Whatever somebody writes into a queue ends as a run or a dead letter, and stops nobody."""

import json
import random
from collections import Counter

import pytest

TASKS = """
@app.task
def echo(word: str = "", **more):
    return word

@app.task
def square(number):
    return number * number
"""

KNOWN = [
    "id", "task", "args", "kwargs", "content_type", "compression", "headers", "acks_late",
    "ignore_result", "track_started", "result_expires", "max_deliveries", "crashes", "priority",
    "exchange", "routing_key", "shadow", "expires", "eta", "retries", "signature", "root_id",
    "parent_id", "timelimit", "unknown_since", "quarantine_stream",
]  # fmt: skip
VALUES = [
    b"", b"0", b"1", b"-1", b"tasks.echo", b"tasks.nope", b"[]", b"{}", b"[1", b"null", b"NaN",
    b'["x"]', b'{"word":"x"}', b'{"a":1,"a":2}', b"[" * 500, b"9" * 5000, b"1e999", b"\xff\xfe\x00",
    b"application/json", b"application/x-python-serialize", b"zlib", b"zstd", b"k1:00", b"a@b",
    b"with\nnewline\x1b[31m", b"\xe2\x80\xae", b"{streamq}:task:x", b"99999999999999999999",
    b"1700000000000", b"0.5", b"inf", b"x" * 10_000, b"%s%n{}", b"__class__", b"os.system",
]  # fmt: skip

#: Fields that change when a message is handed back.
OF_ITS_WAY = {"id", "crashes"}


def junk(chance):
    """The fields of one message that nobody of ours would send."""
    fields = {}
    if chance.random() < 0.7:
        fields["task"] = chance.choice([b"tasks.echo", b"tasks.square", b"nope", b"\xff"])
    for _ in range(chance.randrange(6)):
        known = chance.random() < 0.8
        name = chance.choice(KNOWN) if known else chance.randbytes(chance.randrange(1, 9))
        value = chance.choice(VALUES) if chance.random() < 0.7 else chance.randbytes(20)
        fields.setdefault(name, value)
    return fields or {"only": b"junk"}


@pytest.mark.parametrize("read", [False, True], ids=["new", "read"])
@pytest.mark.parametrize("flags", [("-P", "prefork", "-c", 2), ("-P", "gevent", "-c", 20)])
def test_junk_beside_good_messages_stops_no_runner_and_loses_nothing(site, flags, read):
    chance = random.Random(5)
    site.write(TASKS)
    site.env["STREAMQ_LEASE"] = "2s"
    site.worker("-c", 1).stop()  # the queue is there
    sent, good = [], []
    pipeline = site.redis.pipeline(transaction=False)
    for number in range(600):
        fields = junk(chance) if number % 2 else wanted(number)
        (sent if number % 2 else good).append(fields)
        pipeline.xadd("{streamq}:queue:default", fields)
    entries = pipeline.execute()
    if read:  # by a consumer that is gone: all of it is handed back before it is decoded
        site.redis.xreadgroup("workers", "gone", {"{streamq}:queue:default": ">"})

    worker = site.worker(*flags)
    runners = worker.runners()
    site.drained()

    assert worker.runners() == runners, worker.said
    states = {fields["id"]: state_of(site, fields["id"]) for fields in good}
    assert set(states.values()) == {"SUCCESS"}
    results = {site.redis.hget(f"{{streamq}}:task:{each}", "result") for each in states}
    assert results == {str(n * n) for n in range(0, 600, 2)}
    unended = Counter()
    for fields, entry in zip(sent, entries[1::2], strict=True):
        id = fields.get("id", f"default-{entry}".encode())
        brief = fields.get("ignore_result") == b"1" or "result_expires" in fields
        if not brief and state_of(site, id) not in ("SUCCESS", "FAILURE", "REVOKED"):
            unended[body(fields)] += 1
    assert unended
    lost = unended - Counter(map(body, letters(site)))
    assert not lost
    assert worker.stop() == 0
    site.at_rest()


def wanted(number):
    """The fields of a message that is as it should be."""
    return {"id": f"good-{number}", "task": "tasks.square", "args": json.dumps([number])}


def letters(site):
    """The fields of every dead letter."""
    for name in site.redis.zrange("{streamq}:dead:default", 0, -1):
        yield site.redis.hgetall(f"{{streamq}}:dead:default:{name}")


def body(fields):
    """What a message keeps, handed back or dead-lettered: a bad id gets another."""
    pairs = {(raw(name), raw(value)) for name, value in fields.items() if name not in OF_ITS_WAY}
    return frozenset(pair for pair in pairs if not pair[0].startswith(b"dead_"))


def state_of(site, id):
    return site.redis.hget(b"{streamq}:task:" + raw(id), "state")


def raw(text):
    return text if isinstance(text, bytes) else text.encode(errors="surrogateescape")


def test_a_message_over_the_limit_is_put_aside_without_being_decoded(site):
    site.write(TASKS)
    worker = site.worker("-c", 1)
    runners = worker.runners()
    large = json.dumps(["x" * (1 << 20)])
    site.redis.xadd("{streamq}:queue:default", {"id": "large", "task": "tasks.echo", "args": large})

    site.until(lambda: state_of(site, "large") == "FAILURE", "it ends")

    letter = site.redis.hgetall("{streamq}:dead:default:large")
    assert letter["dead_reason"] == "undecodable message"
    assert "over the message_limit" in letter["dead_error"]
    assert letter["args"] == large
    assert site.send("square", 3).get(timeout=10) == 9
    assert worker.runners() == runners


def test_control_below_the_limit_it_runs(site):
    site.write(TASKS)
    site.env["STREAMQ_MESSAGE_LIMIT"] = "4MiB"
    site.env["STREAMQ_RESULT_LIMIT"] = "4MiB"
    site.worker("-c", 1)
    large = json.dumps(["x" * (1 << 20)])
    site.redis.xadd("{streamq}:queue:default", {"id": "large", "task": "tasks.echo", "args": large})

    site.until(lambda: state_of(site, "large") == "SUCCESS", "it runs")
