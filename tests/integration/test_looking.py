"""The commands that look into Redis, where somebody else has written there."""

import pytest

from streamq import Queue
from streamq.cli import common
from streamq.cli.base import Given
from streamq.cli.main import main


@pytest.fixture
def run(make_app, tmp_path, monkeypatch, capsys):
    """Run a command; its exit code, and what it printed on both streams."""
    app = make_app(namespace="streamq")
    app.queues = [Queue("default")]
    app.declare()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(common, "App", lambda: app)  # as if configured; the fixture closes it

    def run(*words):
        code = main.run(list(words), Given())
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def spoil(redis, keys):
    """Put something else into a key; return its name."""

    def spoil(name):
        key = f"{keys.root}:{name}"
        redis.delete(key)
        redis.set(key, "not ours")
        return key

    return spoil


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("queues", "queues ls"),
        ("queues", "queues show default"),
        ("queues", "queues peek default"),
        ("queues", "queues delete default"),
        ("queues", "workers ls"),
        ("leases", "workers ls"),
        ("workers", "workers ls"),
        ("queues", "dead ls"),
        ("dead", "dead ls"),
    ],
)
def test_a_key_that_is_not_ours_is_named_with_what_to_do(run, spoil, name, words):
    key = spoil(name)

    code, _, said = run(*words.split())

    assert code == 78
    assert said.startswith(f"streamq: {key} holds something that is not streamq's: WRONGTYPE")
    assert f"→ streamq redis TYPE {key}  shows what it is" in said


@pytest.mark.parametrize(
    ("name", "words", "shown"),
    [
        ("queue:default", "queues ls", "default"),
        ("exchanges", "exchanges ls", ""),
        ("worker:w@h", "workers ls", "w@h"),
    ],
)
def test_what_else_there_is_is_shown_beside_it(run, spoil, redis, keys, name, words, shown):
    redis.zadd(keys.workers, {"w@h": 9e15})
    key = spoil(name)

    code, out, said = run(*words.split())

    assert (code, shown in out) == (0, True)
    assert said.startswith(f"streamq: {key} holds something that is not streamq's")
