"""Secrets stay where they belong: in memory, and in the environment that brought them."""

import os
import pathlib
import signal
import subprocess
import sys
import textwrap

import pytest

from streamq.runner.config import RunnerConfig

CANARY = "c4n4ry0fAllSecrets" + "x" * 20
TASKS = """
@app.task
def echo(word):
    return word

@app.task
def fail():
    raise ValueError("as it should")

@app.task
def sleep():
    note("sleeps")
    time.sleep(60)
"""


def family(pid):
    """A process and all below it."""
    found = [pid]
    for parent in found:
        for children in pathlib.Path(f"/proc/{parent}/task").glob("*/children"):
            found += [int(child) for child in children.read_text().split()]
    return found


def command_line(pid):
    return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()


def everything_in(redis):
    """All keys with their values, and the names of all clients, as one text."""
    redis.config_set("rdbcompression", "no")  # dumps, too, are to be read
    parts = list(redis.scan_iter("*", count=1000))
    parts += [redis.dump(key.encode(errors="surrogateescape")) for key in parts]
    return repr(parts) + repr(redis.client_list())


@pytest.fixture
def guarded(site, server):
    """A site whose server wants a password, told by URL; and whose messages are signed."""
    site.write(TASKS)
    server.client.acl_setuser(
        "keeper",
        enabled=True,
        passwords=f"+{CANARY}",
        commands=["+@all"],
        keys=["*"],
        channels=["*"],
        reset=True,
    )
    url = server.url.replace("unix://", f"unix://keeper:{CANARY}@")
    site.env |= {
        "STREAMQ_URL": url,
        "STREAMQ_SIGNING": "required",
        "STREAMQ_SIGNING_KEYS": f"k1:{CANARY}",
        "STREAMQ_LOG_LEVEL": "debug",
    }
    site.app = site.new_app(signing="required", signing_keys={"k1": CANARY})
    return site


def streamq(site, *words, **environment):
    """Run a command; return all that it says."""
    done = subprocess.run(
        [sys.executable, "-m", "streamq", *words],
        cwd=site.folder,
        env={**site.env, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("pool", ["prefork", "gevent", "solo"])
def test_a_worker_shows_its_secrets_to_nobody(guarded, pool):
    worker = guarded.worker("-P", pool, "-c", 2)
    assert guarded.send("echo", "x").get(timeout=10) == "x"
    with pytest.raises(ValueError, match="as it should"):
        guarded.send("fail").get(timeout=10)
    guarded.new_app().enqueue("tasks.echo", "unsigned")
    guarded.redis.xadd("{streamq}:queue:default", {"task": "tasks.echo", "signature": "k1:00"})
    guarded.until(lambda: guarded.redis.zcard("{streamq}:dead:default") == 2)
    guarded.send("sleep")
    guarded.until(lambda: "sleeps" in guarded.notes())
    lines = b"\n".join(command_line(pid) for pid in family(worker.pid))
    stored = everything_in(guarded.redis)
    os.kill(worker.runners()[0], signal.SIGKILL)
    guarded.until(lambda: "killed by SIGKILL" in worker.said, "the death is logged")
    worker.signal(signal.SIGKILL)
    worker.wait()

    assert CANARY.encode() not in lines
    assert b"streamq" in lines
    assert CANARY not in stored
    assert "keeper" in stored  # the search looks where names are
    assert "keeper:***@" in worker.said
    assert CANARY not in worker.said


def test_no_command_shows_a_secret(guarded):
    guarded.worker("-c", 1)
    guarded.send("echo", "x").get(timeout=10)
    said = [
        streamq(guarded, *words.split())
        for words in (
            "config show", "config show --json", "queues ls", "workers ls --json", "dead ls -v",
            "exchanges ls", "enqueue tasks.echo x --wait", "enqueue tasks.fail --wait -v",
            "redis CLIENT LIST", "server status",
        )
    ]  # fmt: skip

    assert "k1:***" in said[0]
    assert "keeper:***@" in said[0]
    assert CANARY not in "".join(said)


WRONG = [
    {"STREAMQ_URL": f"redis://user:{CANARY}@localhost:1"},
    {"STREAMQ_URL": f"redis://localhost:1?password={CANARY}"},
    {"STREAMQ_URL": f"redis://user:{CANARY}"},
    {"STREAMQ_URL": f"redis://:{CANARY}/0"},
    {"STREAMQ_URL": f"redis://user:{CANARY}#1@localhost:1"},
    {"STREAMQ_URL": f"redis://:a/{CANARY}@localhost:1"},
    {"STREAMQ_URL": f"user:{CANARY}@localhost"},
    {"STREAMQ_URL": f"sentinel://:{CANARY}@a:1,b:2/svc/0?sentinel_password={CANARY}"},
    {"STREAMQ_SIGNING_KEYS": CANARY},
    {"STREAMQ_SIGNING_KEYS": f"k1:{CANARY[:20]}"},
    {"STREAMQ_SIGNING_KEYS": f"k1:{CANARY},k1:{CANARY}"},
    {"STREAMQ_SIGNING_KEY": CANARY},
]


@pytest.mark.parametrize("given", WRONG)
@pytest.mark.parametrize(
    "words", ["enqueue tasks.echo x -v", "worker --burst -v -A tasks", "config show -v"]
)
def test_mistakes_in_secrets_are_told_without_them(guarded, given, words):
    guarded.write(
        "@app.task\ndef echo(word): return word",
        header="from streamq import App\napp = App('site')\n",
    )

    said = streamq(guarded, *words.split(), **given)

    assert said
    assert CANARY not in said
    assert CANARY[:20] not in said


def test_a_producer_shows_its_secrets_to_nobody(guarded):
    code = f"""
        import asyncio, logging, sys, traceback
        logging.basicConfig(level=1)
        import streamq
        from streamq import App

        for url in {[each["STREAMQ_URL"] for each in WRONG if "STREAMQ_URL" in each]!r}:
            try:
                app = App("p", url=url, publish_timeout=0.1, signing="required",
                          signing_keys={{"k1": {CANARY!r}}})
                print(repr(app), repr(app.conf), app.conf.signing_keys, app.signer)
                print(app.conf.items(), vars(app.templates), app.broker)
                try:
                    asyncio.run(app.aenqueue("tasks.echo", 1))
                except Exception:
                    traceback.print_exc()
                app.enqueue("tasks.echo", 1)
            except Exception:
                traceback.print_exc()
    """
    process = guarded.python(textwrap.dedent(code))
    out, err = process.communicate(timeout=100)

    said = (out + err).decode()
    assert "not a Redis URL" in said
    assert "cannot reach Redis" in said
    assert CANARY not in said


def test_what_a_runner_is_told_is_readable_to_its_user_alone_and_goes_away(tmp_path):
    told = RunnerConfig(
        number=1, node="n", token="t", supervisor=1, url=f"redis://:{CANARY}@h", sources=[("q", 0)],
        pool="gevent", concurrency=1, burst=False, folder=str(tmp_path), runners=1, slots=1,
    )  # fmt: skip

    path = pathlib.Path(told.write())
    mode = path.stat().st_mode & 0o777
    taken = RunnerConfig.read(str(path))

    assert mode == 0o600
    assert taken == told
    assert not path.exists()
    assert CANARY not in repr(told)
