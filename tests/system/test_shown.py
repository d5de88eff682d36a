"""What people look at does nothing to their terminal, whoever wrote it into Redis."""

import json
import os
import subprocess
import sys
import threading

import pytest

from streamq.errors import ResultTimeout, StreamqError

#: Clear the screen; C1 controls; turn the direction of text; hide; and lone bytes.
EVIL = "a\x1b[2J\x9b31m\u202eb\u2066c\u200b\x07\x08\rd\u2028e"
WORST = EVIL.encode() + b"\xff\xfe\x00"
DANGEROUS = [char for char in EVIL if not char.isprintable()]
ROOT = "{streamq}"


@pytest.fixture
def haunted(site):
    """A namespace in which every name and every value was written by somebody wicked."""
    redis = site.redis
    redis.hset(
        f"{ROOT}:queues", mapping={EVIL: '{"max_length":"\\u001b[2J"}', "default": "not json"}
    )
    redis.hset(f"{ROOT}:exchanges", mapping={EVIL: "topic", "ex": EVIL})
    redis.hset(f"{ROOT}:alternates", mapping={EVIL: EVIL})
    redis.hset(
        f"{ROOT}:bindings:{EVIL}", mapping={f"queue:{EVIL}:{EVIL}": EVIL, "queue:q:k": "a=i:x"}
    )
    for queue in ("default", EVIL):
        for _ in range(2):
            redis.xadd(
                f"{ROOT}:queue:{queue}", {EVIL: EVIL, "task": EVIL, "args": WORST, "id": WORST}
            )
        redis.xgroup_create(f"{ROOT}:queue:{queue}", "workers", 0)
        redis.xreadgroup("workers", f"{EVIL}:7:x", {f"{ROOT}:queue:{queue}": ">"}, count=1)
        redis.zadd(f"{ROOT}:dead:{queue}", {EVIL: 1})
        letter = {
            "task": EVIL,
            "dead_reason": EVIL,
            "dead_error": WORST,
            "dead_at": EVIL,
            EVIL: EVIL,
        }
        redis.hset(f"{ROOT}:dead:{queue}:{EVIL}", mapping=letter)
    redis.zadd(f"{ROOT}:workers", {EVIL: 1e13, "w": "inf"})
    redis.zadd(f"{ROOT}:leases", {f"{EVIL}:7:x": 1e13})
    about = {
        "pid": EVIL,
        "pool": EVIL,
        "queues": EVIL,
        "started": "9" * 15,
        "seen": "-1",
        f"runner:{EVIL}": EVIL,
        "host": EVIL,
        "concurrency": "9" * 5000,
    }
    redis.hset(f"{ROOT}:worker:{EVIL}", mapping=about)
    redis.hset(f"{ROOT}:started:{EVIL}:7:x", mapping={"default 1-1": "{", EVIL: '{"stream":1}'})
    record = {
        "state": EVIL,
        "task": EVIL,
        "queue": WORST,
        "worker": EVIL,
        "enqueued": "soon",
        "started": "9" * 30,
        "finished": "9" * 15,
        "runtime": "nan",
        "generation": EVIL,
        "history": EVIL,
        "error": WORST,
        "error_type": EVIL,
        "traceback": WORST,
        "reason": EVIL,
    }
    for state in (EVIL, "FAILURE", "SUCCESS", "REVOKED"):
        result = {"result": json.dumps(EVIL), "meta": WORST, "meta_content_type": WORST}
        redis.hset(f"{ROOT}:task:{state}", mapping={**record, **result, "state": state})
    redis.hset(f"{ROOT}:task:many", mapping={"copies": f"{EVIL}:b", "state": EVIL})
    return site


COMMANDS = [
    ["queues", "ls"], ["queues", "show", "default"], ["queues", "show", EVIL],
    ["queues", "peek", "default"], ["queues", "peek", EVIL], ["queues", "show", EVIL + "?"],
    ["exchanges", "ls"], ["exchanges", "show", EVIL], ["exchanges", "route", EVIL, "k"],
    ["exchanges", "show", EVIL + "?"],
    ["workers", "ls"], ["workers", "show", EVIL], ["workers", "show", EVIL + "?"],
    ["dead", "ls"], ["dead", "ls", EVIL], ["dead", "show", "default", EVIL],
    ["dead", "show", "default", EVIL + "?"],
    ["result", EVIL], ["result", "FAILURE"], ["result", "SUCCESS"], ["result", "REVOKED"],
    ["result", "many"], ["result", "FAILURE", "--wait"],
    ["redis", "HGETALL", f"{ROOT}:task:FAILURE"],
    ["redis", "XRANGE", f"{ROOT}:queue:default", "-", "+"],
    ["redis", "EVAL", f"return redis.error_reply('E {EVIL}')", "0"],
]  # fmt: skip


@pytest.mark.parametrize("form", ["table", "json"])
@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: ascii(" ".join(words[:2])))
def test_nothing_that_is_shown_reaches_the_terminal_raw(haunted, words, form):
    if form == "json":
        words = [words[0], "--json", *words[1:]] if words[0] == "redis" else [*words, "--json"]

    done = subprocess.run(
        [sys.executable, "-m", "streamq", *words],
        cwd=haunted.folder, env={**haunted.env, "PYTHONIOENCODING": "utf-8"},
        capture_output=True, timeout=60,
    )  # fmt: skip

    said = (done.stdout + done.stderr).decode()
    assert said.strip()
    assert "Traceback" not in said
    assert [char for char in DANGEROUS if char in said] == []


FORGED = "default\nforged line"

DESTROYING = [
    ["queues", "purge", EVIL], ["queues", "delete", EVIL + "?"], ["queues", "repair", EVIL],
    ["exchanges", "bind", EVIL, EVIL, EVIL], ["exchanges", "unbind", EVIL, EVIL, EVIL],
    ["exchanges", "delete", EVIL], ["dead", "retry", EVIL, EVIL], ["dead", "delete", EVIL, "--all"],
    ["dead", "delete", "default", EVIL], ["revoke", EVIL], ["enqueue", EVIL, EVIL],
    ["dead", "export", EVIL + "?", EVIL.replace("\x00", "")], ["queues", "delete", FORGED],
    ["exchanges", "delete", FORGED], ["no such command" + EVIL], ["queues", "ls", "--" + EVIL],
]  # fmt: skip


@pytest.mark.parametrize("words", DESTROYING, ids=lambda words: ascii(" ".join(words[:2])))
def test_nor_does_what_a_command_says_that_changes_something(haunted, words):
    """With the traceback of what went wrong, too."""
    for queue in (EVIL + "?", FORGED):  # where nothing runs, and nothing is in the way
        haunted.redis.hset(f"{ROOT}:queues", queue, "{}")
        haunted.redis.xadd(f"{ROOT}:queue:{queue}", {"task": EVIL})
        haunted.redis.xgroup_create(f"{ROOT}:queue:{queue}", "workers", 0)
    haunted.redis.hset(f"{ROOT}:exchanges", FORGED, "topic")

    agreed = ["--yes"] if words[1:] and words[1] in ("purge", "delete", "unbind") else []
    done = subprocess.run(
        [sys.executable, "-m", "streamq", *words, *agreed, "-v"],
        cwd=haunted.folder, env={**haunted.env, "PYTHONIOENCODING": "utf-8"},
        capture_output=True, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip

    said = (done.stdout + done.stderr).decode()
    assert said.strip()
    assert [char for char in DANGEROUS if char in said] == []
    assert "\nforged line" not in said


def test_control_the_values_are_as_dangerous_as_they_look(haunted):
    raw = haunted.redis.hget(f"{ROOT}:task:FAILURE", "worker")

    assert [char for char in DANGEROUS if char in raw] == DANGEROUS


def test_a_worker_logs_nothing_that_moves_the_cursor(site):
    site.write("@app.task\ndef fail(text):\n    raise ValueError(text)\n")
    worker = site.worker("-c", 1)
    site.redis.xadd(f"{ROOT}:queue:default", {"task": EVIL, "id": EVIL + "\nforged line"})
    site.redis.xadd(f"{ROOT}:queue:default", {"task": "tasks.fail", "args": json.dumps([EVIL])})
    site.redis.xadd(f"{ROOT}:queue:default", {"task": "tasks.fail", "shadow": EVIL})

    site.until(lambda: "tasks.fail" in worker.said and "dead letter" in worker.said)
    site.drained()
    worker.stop()

    assert [char for char in DANGEROUS if char in worker.said] == []
    assert "\nforged line" not in worker.said


JUNK = [
    {b"\xff": b"\xfe"},
    {"id": b"\xff\xfe"},
    {"id": "wanted", "state": b"\xff"},
    {"id": "other", "state": "SUCCESS", "result": "1"},
    {"state": "SUCCESS"},
    {"id": "wanted", "state": "SUCCESS\n"},
    {"id": "", "state": "FAILURE", "error_type": "SystemExit"},
]


def test_junk_in_a_reply_stream_ends_no_wait(site):
    site.redis.hset(f"{ROOT}:task:wanted", "state", "QUEUED")
    result = site.app.result("wanted")
    got = []
    waiting = threading.Thread(target=lambda: got.append(outcome(result)))
    waiting.start()
    site.until(lambda: site.redis.hget(f"{ROOT}:task:wanted", "waiters"))
    reply = f"{ROOT}:reply:{site.redis.hget(f'{ROOT}:task:wanted', 'waiters').split()[0]}"
    for fields in JUNK[:2] + JUNK[3:5] + JUNK[6:]:
        site.redis.xadd(reply, fields)
    site.redis.hset(f"{ROOT}:task:wanted", mapping={"state": "SUCCESS", "result": "7"})
    site.redis.xadd(reply, {"id": "wanted", "state": "SUCCESS", "result": "7"})

    waiting.join(20)

    assert got == [7]


@pytest.mark.parametrize("fields", [JUNK[2], JUNK[5]])
def test_a_reply_with_a_state_that_is_none_raises_nothing_odd(site, fields):
    site.redis.hset(f"{ROOT}:task:wanted", mapping=fields)

    with pytest.raises((ResultTimeout, StreamqError)):
        site.app.result("wanted").get(timeout=0.3)


def outcome(result):
    try:
        return result.get(timeout=15)
    except BaseException as error:
        return error


RECORDS = [
    {"state": "FAILURE", "error_type": name, "error": "told", "error_args": args}
    for name in ("SystemExit", "KeyboardInterrupt", "os.system", "builtins.exec", "a.__class__.b")
    for args in ("[]", '["harm"]', "[" * 9999, "9" * 9999)
] + [
    {"state": "SUCCESS", "result": value, **more}
    for value in (b"\xff", b"[" * 9999, b"", b"9" * 9999, b'{"a":1,"a":2}')
    for more in ({}, {"content_type": "pickle"}, {"content_type": b"\xff"}, {"compression": "zlib"})
]  # fmt: skip


def test_forged_records_raise_errors_that_can_be_caught_and_nothing_else(site):
    for number, record in enumerate(RECORDS):
        site.redis.hset(f"{ROOT}:task:{number}", mapping=record)
        error = outcome(site.app.result(str(number)))

        assert isinstance(error, Exception), record
        assert not isinstance(error, (SystemExit, KeyboardInterrupt)), record
        assert isinstance(error, StreamqError), record
    assert os.getpid()
