"""``streamq server`` and ``streamq redis``, in a project of their own."""

import json
import os
import socket
from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner

from streamq.cli.redis import redis as redis_command
from streamq.cli.server import server as server_command
from streamq.devserver import server
from streamq.errors import BrokerUnavailable


@pytest.fixture
def run(tmp_path, monkeypatch) -> Iterator[Callable[..., str]]:
    """Run a command in a new project's folder; what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STREAMQ_URL", raising=False)
    (tmp_path / "pyproject.toml").touch()

    def run(command, *words, exit_code=0, **options) -> str:
        result = CliRunner().invoke(command, list(words), **options)
        assert result.exit_code == exit_code, result.output
        return result.output.rstrip("\n")

    yield run
    server.stop(tmp_path)


def test_redis_prints_a_hash_in_two_columns_and_an_entry_a_field_a_line(run):
    assert run(redis_command, "HSET", "h", "a", "1", "long", "2\n3", "raw", "") == "(integer) 3"
    assert run(redis_command, "HGETALL", "h") == 'a     1\nlong  2\n      3\nraw   ""'
    assert run(redis_command, "XADD", "s", "1-1", "task", "add", "args", "-1") == "1-1"
    assert run(redis_command, "XRANGE", "s", "-", "+") == "1-1\n  task  add\n  args  -1"
    assert json.loads(run(redis_command, "--json", "XRANGE", "s", "-", "+")) == [
        {"id": "1-1", "fields": {"task": "add", "args": "-1"}}
    ]


def test_redis_numbers_lists_and_escapes_what_a_terminal_must_not_see(run):
    script = r"return {1, {'a', 'b'}, false, '\27[31m', '\255'}"
    assert run(redis_command, "EVAL", script, "0").splitlines() == [
        "1) (integer) 1",
        "2) 1) a",
        "   2) b",
        "3) (nil)",
        "4) \\x1b[31m",
        "5) \\xff",
    ]


def test_redis_says_in_one_line_what_the_server_refuses(run):
    assert run(redis_command, "NONSENSE", exit_code=1).startswith("ERR unknown command 'NONSENSE'")
    assert "redis-cli" in run(redis_command, "MONITOR", exit_code=2)


def test_redis_wakes_a_sleeping_server(run):
    run(redis_command, "SET", "kept", "yes")
    server.stop()
    assert run(redis_command, "GET", "kept") == "yes"


def test_server_commands_start_show_and_stop_it(run):
    assert "development only" in run(server_command, "start")
    shown = json.loads(run(server_command, "status", "--json"))
    assert shown["running"]
    assert shown["pinned"]
    assert shown["clients"] == 0
    assert shown["version"] in run(server_command, "status")
    assert run(server_command, "path") == str(server.project_folder().socket)
    assert "ready to accept connections" in run(server_command, "logs").lower()

    assert "the data stays" in run(server_command, "stop")
    assert json.loads(run(server_command, "status", "--json"))["running"] is False
    assert "no server runs" in run(server_command, "stop")


def test_of_another_users_server_nothing_is_said_and_nothing_is_touched(run, monkeypatch):
    run(server_command, "start")
    with monkeypatch.context() as other:
        other.setattr("os.getuid", lambda: os.geteuid() + 1)

        for command in ("status", "stop", "logs"):
            result = CliRunner().invoke(server_command, [command])
            assert isinstance(result.exception, BrokerUnavailable)
            assert "the folder belongs to another user" in str(result.exception)

    assert server.find().pinned


def test_server_stop_says_how_many_are_connected_and_asks(run):
    run(server_command, "start")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(server.project_folder().socket))
        said = run(server_command, "stop", input="n\n", exit_code=1)
        assert "1 connection would be cut off" in said
        assert server.find()

        run(server_command, "stop", "--yes")
        assert server.find() is None
