"""The commands that look into Redis, where somebody else has written there."""

import pytest

from streamq import Queue
from streamq.cli import shared
from streamq.cli.command import GivenOptions
from streamq.cli.main import main
from streamq.cli.shared import format_time


@pytest.fixture
def run(make_app, tmp_path, monkeypatch, capsys):
    """Run a command; its exit code, and what it printed on both streams."""
    app = make_app(namespace="streamq")
    app.queues = [Queue("default")]
    app.declare()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shared, "App", lambda: app)  # as if configured; the fixture closes it

    def run(*words):
        code = main.run(list(words), GivenOptions())
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


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


@pytest.fixture
def letter(redis, keys):
    """Put a dead letter down by hand; its fields may be anything."""

    def letter(name, **fields):
        told = {"id": name, "task": "t", "dead_reason": "odd", "dead_at": 1, **fields}
        redis.hset(keys.dead_letter("default", name), mapping=told)
        redis.zadd(keys.dead("default"), {name: 1})
        redis.sadd(keys.queues_with_dead, "default")

    return letter


def test_one_huge_letter_makes_no_row_of_a_table_wide(run, letter):
    letter("small")
    letter("huge", task="a" * 3_000_000)
    letter("b" * 3_000_000)

    _, out, _ = run("dead", "ls")
    _, whole, _ = run("dead", "ls", "--json")

    assert len(out.splitlines()) == 4
    assert max(map(len, out.splitlines())) < 1000
    assert "a" * 200 in out
    assert "…" in out
    assert "a" * 3_000_000 in whole


def test_the_times_of_a_letter_are_shown_as_clocks_show_them(run, letter):
    letter("one", dead_enqueued=1795451398588, expires=1795451401588)

    _, out, _ = run("dead", "show", "default", "one")

    assert "1795451398588" not in out
    assert "1795451401588" not in out
    assert f"enqueued  {format_time(1795451398.588)}" in out
    assert f"expires       {format_time(1795451401.588)}" in out
