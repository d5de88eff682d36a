"""The command line as people and programs use it: real processes, a real server."""

import importlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from typing import Any

import pytest

from streamq.cli.command import GivenOptions
from streamq.cli.main import COMMANDS, main
from streamq.core.text import mask_url
from streamq.transport.keys import Keys
from tests.processes import until
from tests.system.shell import Shell

for name in COMMANDS:
    importlib.import_module(f"streamq.cli.{name}")


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command line that is wrong, in this process; what it says on stderr."""

    def said(*words: str, code: int = 2) -> str:
        assert main.run(list(words), GivenOptions()) == code
        return capsys.readouterr().err

    return said


# Help, names and options


def test_help_loads_neither_redis_nor_the_app(shell):
    program = """
        import sys
        from streamq.cli.main import main
        try:
            main(["--help"])
        except SystemExit as end:
            print(end.code)
        for name in ("redis", "hiredis", "rich", "msgspec", "streamq.app", "streamq.config.config"):
            assert name not in sys.modules, name
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=shell.env, capture_output=True, text=True,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("0\n")
    assert all(f"\n  {name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_has_help(name, capsys):
    assert main.run([name, "--help"], GivenOptions()) == 0

    assert f"Usage: streamq {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [["--version"], ["worker", "--version"], ["queues", "ls", "--version"]]
)
def test_the_version_is_shown_wherever_it_is_asked_for(words, capsys):
    assert main.run(words, GivenOptions()) == 0

    assert capsys.readouterr().out.startswith("streamq 0.")


def test_without_a_command_the_commands_are_listed(said):
    assert "Commands:\n  worker" in said()
    assert "peek" in said("queues")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("wroker", "did you mean worker?"),
        ("queues shw", "did you mean show?"),
        ("worker --conurrency 3", "did you mean --concurrency?"),
        ("enqueue tasks.add --quue mail 1", "did you mean --queue?"),
        ("dead delete mail --al", "did you mean --all?"),
        ("worker --url redis://h", "STREAMQ_URL=…"),
        ("-b redis://h worker", "STREAMQ_URL=…"),
        ("enqueue --broker=redis://h tasks.add 1", "STREAMQ_URL=…"),
    ],
)
def test_a_misspelt_word_gets_a_suggestion(words, hint, said):
    message = said(*words.split())

    assert message.startswith("streamq: no such ")
    assert hint in message


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("worker --reload", "--reload"),
        ("worker -P threads", "--pool threads\n  → pools: prefork, gevent, solo"),
        ("worker --pool=asyncio", "--pool asyncio\n  → pools: prefork, gevent, solo"),
        ("workers stop w1", "streamq workers stop"),
        ("queues pause mail", "streamq queues pause"),
        ("queues resume mail", "streamq queues resume"),
    ],
)
def test_names_of_a_later_version_are_refused_by_name(words, name, said):
    assert said(*words.split()) == f"streamq: not in this version: {name}\n"


@pytest.mark.parametrize("value", ["x", "0", "3,1,1", "3,", "0,0", ",3"])
def test_autoscale_wants_one_or_two_numbers(value, said):
    assert "--autoscale is MAX,MIN" in said("worker", "--autoscale", value)


# Mistakes, and the codes that programs see


def test_a_redis_that_is_not_there_is_code_69_with_the_password_masked(shell):
    message = shell("queues", "ls", code=69, STREAMQ_URL="redis://me:secret@127.0.0.1:1/0")

    assert "cannot reach Redis at redis://me:***@127.0.0.1:1/0: connection refused" in message
    assert "→ is it up?" in message
    assert "secret" not in message


def test_an_app_that_is_not_there_is_code_78(bare):
    assert "no app was given, and none was found here" in bare("worker", code=78)
    assert "nosuch (STREAMQ_APP)" in bare("queues", "ls", code=78, STREAMQ_APP="nosuch")


def test_a_misspelt_setting_is_code_78_with_a_suggestion(bare):
    message = bare("queues", "ls", code=78, STREAMQ_CONCURENCY="3")

    assert "did you mean 'STREAMQ_CONCURRENCY'?" in message


def test_a_broken_module_is_told_in_a_few_lines_and_in_full_with_v(bare):
    (bare.folder / "shop.py").write_text("import streamq\nprice = int('cheap')\n")

    message = bare("worker", "-A", "shop", code=78)
    assert "importing 'shop' failed: ValueError" in message
    assert "shop.py:2" in message

    process = bare.start("-v", "worker", "-A", "shop")
    _, err = process.communicate(timeout=30)
    assert process.returncode == 78
    assert "Traceback" in err
    assert "price = int('cheap')" in err


def test_a_broken_module_that_nobody_named_does_not_keep_people_from_looking(bare):
    (bare.folder / "tasks.py").write_text("price = int('cheap')\n")

    assert "no queue is declared yet" in bare("queues", "ls")
    assert "importing 'tasks' failed" in bare.err
    assert "going on without the app in this folder" in bare.err


@pytest.mark.parametrize("command", [("queues", "ls"), ("enqueue", "tasks.add", "1", "2")])
def test_a_broken_module_may_be_the_only_one_that_knows_the_server(bare, command):
    del bare.env["STREAMQ_URL"]
    (bare.folder / "tasks.py").write_text("url = 'redis://ours'\nprice = int('cheap')\n")

    bare(*command, code=78)

    assert "tasks.py:2" in bare.err
    assert "export STREAMQ_URL" in bare.err
    assert not (bare.folder / ".streamq").exists(), "no server was started in its place"


BIG = "9" * 5000

WRONG = {
    "--countdown": ["enqueue", "any.task", "--countdown", "nan"],
    "--expires": ["enqueue", "any.task", "--expires", "soon"],
    "--eta": ["enqueue", "any.task", "--eta", "nonsense"],
    "--timeout nan": ["enqueue", "any.task", "--timeout", "nan"],
    "--timeout inf": ["result", "any-id", "--timeout", "inf"],
    "--timeout -1": ["result", "any-id", "--timeout", "-1"],
    "--queue": ["enqueue", "any.task", "--queue", "a:b"],
    "--exchange": ["enqueue", "any.task", "--exchange", ""],
    "--routing-key": ["enqueue", "any.task", "--routing-key", ""],
    "--id": ["enqueue", "any.task", "--id", ""],
    "task": ["enqueue", ""],
    "result": ["result", ""],
    "revoke": ["revoke", "any-id", ""],
    "signal alone": ["revoke", "any-id", "--signal", "SIGKILL"],
    "no signal": ["revoke", "any-id", "--terminate", "--signal", "SIGNAL"],
    "app": ["queues", "ls", "-A", ""],
    "peek": ["queues", "peek", "default", "-n", BIG],
    "logs": ["server", "logs", "-n", "-5"],
    "dead ls": ["dead", "ls", "-n", BIG],
    "older": ["dead", "ls", "--older", "nan"],
    "bind": ["exchanges", "bind", "a:b", "default", "--type", "topic"],
    "namespace": ["acl", "worker", "--namespace", ""],
    "user": ["acl", "worker", "--user", ""],
    "level": ["worker", "-l", "loud"],
    "concurrency": ["worker", "-c", "nan"],
    "queues": ["worker", "-Q", ","],
    "limit": ["worker", "--time-limit", "0.5ms"],
    "soft limit": ["worker", "--soft-time-limit", "nan"],
    "autoscale": ["worker", "--autoscale", BIG],
}


@pytest.mark.parametrize("words", WRONG.values(), ids=WRONG)
def test_a_value_that_does_not_fit_is_a_mistake_in_the_command_line(shell, redis, words):
    shell.quick("enqueue", "tasks.add", "1", "2", "--id", "declares-the-queue")

    assert "streamq: " in shell.quick(*words, code=2)

    assert redis.xlen("{streamq}:queue:default") == 1


@pytest.mark.parametrize("countdown", ["-5", "-5s", "0"])
def test_what_was_due_before_now_is_due_now(shell, redis, keys, countdown):
    shell.quick("enqueue", "tasks.add", "1", "2", "--countdown", countdown)

    assert redis.xlen(keys.queue("default")) == 1


@pytest.mark.parametrize("spec", [".", ":app", "../shop", ".tasks:app"])
def test_what_names_no_module_is_told_as_such(shell, spec):
    assert "names no module" in shell.quick("queues", "ls", "-A", spec, code=78)


def test_a_signal_is_told_to_those_that_are_terminated(shell):
    assert "UNKNOWN" in shell.quick("revoke", "any-id", "--terminate", "--signal", "kill")


@pytest.mark.parametrize("text", ["raise RuntimeError('boom')", "def f(:", "import no_such_thing"])
def test_an_included_module_that_fails_is_told_in_a_few_lines(shell, text):
    (shell.folder / "extra.py").write_text(text)

    said = shell.quick("worker", "-I", "extra", code=78)

    assert said.startswith("streamq: importing 'extra' failed: ")
    assert len(said.splitlines()) < 6


def test_a_file_that_cannot_be_written_or_read_is_told(shell, tmp_path):
    for place in ("", str(tmp_path), "x" * 300, "/nowhere/at/all"):
        assert "cannot write" in shell.quick("dead", "export", "-o", place, "--yes", code=1)
    assert "nowhere" in shell.quick("dead", "import", "/nowhere", code=2)
    assert "nowhere" in shell.quick("acl", "worker", "--password-file", "/nowhere", code=2)
    assert "no password" in shell.quick("acl", "worker", "--password-file", "/dev/null", code=2)


def test_a_database_that_is_no_number_is_not_taken_for_the_first_one(bare):
    said = bare("queues", "ls", code=78, STREAMQ_URL="redis://localhost:1/shop")

    assert "a database is a number" in said


def test_what_is_bound_is_shown_escaped(shell):
    shell.quick("enqueue", "tasks.add", "1", "2")
    words = ["odd", "default", "\x1b[31m"]

    assert "\\x1b[31m" in shell.quick("exchanges", "bind", *words, "--type", "topic")
    assert "\\x1b[31m" in shell.quick("exchanges", "unbind", *words, "--yes")


def test_bytes_that_are_no_text_are_a_mistake_in_the_command_line(shell):
    assert shell("result", b"\xff", code=2) == "streamq: an argument is not UTF-8\n"


def test_a_reader_that_goes_away_is_no_error(shell):
    reader, writer = os.pipe()
    os.close(reader)
    process = shell.start("config", "show", stdout=writer)
    os.close(writer)
    _, err = process.communicate(timeout=30)

    assert (process.returncode, err) == (141, "")


def test_a_full_disk_below_the_output_is_told(shell):
    with open("/dev/full", "w") as full:
        process = shell.start("config", "show", stdout=full)
        _, err = process.communicate(timeout=30)

    assert err.startswith("streamq: cannot go on: No space left on device\n")
    assert "Traceback" not in err
    assert process.returncode == 1


def test_a_name_that_is_not_there_leads_to_those_that_are(shell):
    assert "→ streamq queues ls" in shell.quick("queues", "show", "nope", code=2)
    assert "→ streamq exchanges ls" in shell.quick("exchanges", "show", "nope", code=2)
    assert "→ streamq workers ls" in shell.quick("workers", "show", "nope", code=2)


def test_a_moment_that_is_none_is_told_how_to_write_one(shell):
    said = shell.quick("enqueue", "tasks.add", "1", "2", "--eta", "tomorrow", code=2)

    assert "2026-12-24T18:00" in said


def test_any_redis_command_goes_to_the_server_of_the_app(bare, redis):
    url = bare.env.pop("STREAMQ_URL")
    (bare.folder / "tasks.py").write_text(f"import streamq\napp = streamq.App(url={url!r})\n")
    redis.set("kept", "here")

    assert bare("redis", "GET", "kept") == "here\n"
    assert bare("redis", "-A", "tasks", "GET", "kept") == "here\n"
    assert not (bare.folder / ".streamq").exists()


def test_an_option_of_the_url_that_there_is_not_is_told(bare):
    said = bare("queues", "ls", code=78, STREAMQ_URL="redis://localhost:1/0?colour=red")

    assert "unknown option colour" in said


def test_ctrl_c_ends_a_wait_without_a_traceback(shell, redis, keys):
    id = shell.json("enqueue", "tasks.add", "1", "2")["id"]
    waiting = shell.start("result", id, "--wait")
    until(lambda: redis.hget(keys.task(id), "waiters"))

    waiting.send_signal(signal.SIGINT)
    _, err = waiting.communicate(timeout=20)

    assert waiting.returncode == 130
    assert "Traceback" not in err


@pytest.mark.parametrize("words", [["worker"], ["enqueue", "tasks.add"], ["--help"]])
def test_a_ctrl_c_during_the_imports_shows_no_traceback(bare, words):
    (bare.folder / "click.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)\n"
    )
    command = [sys.executable, "-m", "streamq", *words]
    done = subprocess.run(command, cwd=bare.folder, env=bare.env, capture_output=True, timeout=9)

    assert (done.returncode, done.stdout + done.stderr) == (-signal.SIGINT, b"")


# Sending


def test_arguments_are_json_else_text_and_names_make_keywords(bare, redis):
    bare("enqueue", "any.task", "1", "-2.5", "text", '{"a": [null]}', "x=true", "https://h/?a=b")

    (_, message), *rest = redis.xrange("{streamq}:queue:default")
    assert rest == []
    assert message["task"] == "any.task"
    assert json.loads(message["args"]) == [1, -2.5, "text", {"a": [None]}, "https://h/?a=b"]
    assert json.loads(message["kwargs"]) == {"x": True}


def test_what_only_looks_like_json_is_text(bare, redis):
    words = ["NaN", "[NaN]", '{"a": -Infinity}', '{"a": 1, "a": 2}', "[" * 5000]

    bare("enqueue", "any.task", *words)

    assert json.loads(redis.xrange("{streamq}:queue:default")[0][1]["args"]) == words


def test_without_app_and_url_it_is_said_which_server_takes_it(bare):
    sent = bare("enqueue", "any.task", STREAMQ_URL="")

    assert "✓ any.task" in sent
    where = f"the bundled server of {bare.folder / '.streamq'}"
    assert f"no app here: any.task is sent unchecked, to {where}" in bare.err
    assert "set STREAMQ_URL" in bare.err
    bare("server", "stop", "--yes", STREAMQ_URL="")


def test_without_an_app_it_is_said_that_the_task_is_sent_unchecked_and_where_to(bare):
    bare("enqueue", "any.task")

    place = f"{mask_url(bare.env['STREAMQ_URL'])}  [STREAMQ_URL]"
    assert f"no app here: any.task is sent unchecked, to {place}\n" in bare.err


def test_after_two_dashes_everything_is_an_argument(bare, redis):
    bare("enqueue", "any.task", "--", "--queue", "-x")

    assert json.loads(redis.xrange("{streamq}:queue:default")[0][1]["args"]) == ["--queue", "-x"]


def test_enqueue_says_what_was_sent_and_where_to(shell):
    shell("enqueue", "tasks.add", "1", "2", "--queue", "mail", "--id", "mine")
    out = shell("enqueue", "tasks.add", "1", "2", "--exchange", "events", "--routing-key", "mail.x")
    words = out.split()

    assert words[:2] == ["✓", "tasks.add"]
    assert out.endswith(" on audit, mail\n")
    assert shell.json("queues", "peek", "mail")[0]["id"] == "mine"


@pytest.mark.parametrize("words", [["-A", "tasks", "enqueue"], ["enqueue", "-A", "tasks"]])
def test_an_app_that_was_named_must_know_the_task(shell, words, redis):
    message = shell(*words, "tasks.addd", "1", "2", code=2)

    assert "no task named 'tasks.addd'" in message
    assert "did you mean 'tasks.add'?" in message
    assert redis.keys() == []


def test_an_app_that_was_found_only_warns_of_a_task_it_does_not_know(shell, redis):
    out = shell("enqueue", "elsewhere.task")

    assert out.startswith("✓ elsewhere.task ")
    assert "a worker may know it" in shell.err
    assert redis.xlen("{streamq}:queue:default") == 1


def test_arguments_that_do_not_fit_are_refused_before_sending(shell, redis):
    message = shell("enqueue", "tasks.add", "1", code=2)

    assert "missing a required argument: 'y'" in message
    assert redis.keys("*queue*") == []


def test_what_cannot_be_sent_is_code_2(shell):
    message = shell("enqueue", "any.task", "x" * 2000, code=2, STREAMQ_MESSAGE_LIMIT="1KiB")

    assert "over the limit" in message


def test_a_queue_and_an_exchange_exclude_each_other(said):
    assert "exclude each other" in said("enqueue", "a.task", "--queue", "q", "--exchange", "x")


def test_waiting_in_vain_is_code_75_and_says_where_the_task_is(shell):
    message = shell("enqueue", "tasks.add", "1", "2", "--timeout", "0.1", code=75)

    assert "state  QUEUED" in message
    assert "no worker reads default: streamq worker -Q default" in message


def test_waiting_without_an_end_says_at_once_that_no_worker_reads_the_queue(shell, redis):
    waiting = shell.start("enqueue", "tasks.add", "1", "2", "--queue", "mail", "--wait", "--json")

    until(lambda: redis.hgetall("{streamq}:queues"), "it is sent")
    assert "no worker reads mail: streamq worker -Q mail" in waiting.stderr.readline()
    waiting.kill()
    waiting.communicate()


# With a worker


@pytest.fixture
def worker(shell: Shell, redis: Any) -> subprocess.Popen[str]:
    """A worker of the shop."""
    process = shell.start(
        "worker",
        "-A",
        "tasks",
        "-c",
        "1",
        "-n",
        "w1@here",
        "-l",
        "error",
        stderr=subprocess.DEVNULL,
    )
    until(lambda: redis.exists("{streamq}:worker:w1@here") and redis.zcard("{streamq}:leases"))
    return process


def test_results_are_shown_to_people_and_programs(shell, worker):
    assert shell("enqueue", "tasks.add", "2", "3", "--wait").splitlines()[-1] == "→ 5"
    assert "failed: ValueError: not today" in shell("enqueue", "tasks.fail", "--wait", code=1)

    id = shell.json("enqueue", "tasks.fail")["id"]
    about = shell.json("result", id, "--wait", code=1)
    assert about["state"] == "FAILURE"
    assert about["error"] == "ValueError: not today"
    assert "raise ValueError" in about["traceback"]
    assert about["worker"].startswith("w1@here:")
    assert about["enqueued"] <= about["finished"]

    sent = shell.json("enqueue", "tasks.add", "4", "4", "--exchange", "events",
                      "--routing-key", "mail.x", "--wait")  # fmt: skip
    assert sent["value"] == {"audit": 8, "mail": 8}
    assert shell.json("result", sent["id"])["copies"] == {"audit": "SUCCESS", "mail": "SUCCESS"}
    shown = shell("result", f"{sent['id']}@mail")
    assert "SUCCESS" in shown.splitlines()[0]
    assert shown.splitlines()[-1] == "→ 8"

    assert shell.json("result", "nobody")["state"] == "UNKNOWN"


def test_workers_and_what_they_run_are_shown_and_their_queue_is_not_deleted(shell, worker, redis):
    gate = shell.folder / "gate"
    id = shell.json("enqueue", "tasks.wait_for", str(gate))["id"]
    until(lambda: redis.xpending("{streamq}:queue:default", "workers")["pending"])

    (state,) = shell.json("workers", "ls")
    assert (state["node"], state["up"], state["pid"]) == ("w1@here", True, worker.pid)
    assert state["queues"] == ["default", "mail", "audit"]
    (run,) = state["running"]
    assert (run["task"], run["id"], run["queue"], run["ack"]) == (
        "tasks.wait_for", id, "default", "late"
    )  # fmt: skip
    assert run["pid"] in state["runners"]
    assert run["since"] <= time.time()
    assert f"tasks.wait_for  {id}" in shell("workers", "show", "w1@here")

    assert shell.json("queues", "show", "default")["running"] == 1
    refused = shell("queues", "delete", "default", "--yes", code=1)
    assert "1 message running" in refused
    gate.touch()
    until(lambda: redis.hget(Keys().task(id), "state") == "SUCCESS")


def test_a_task_that_was_acknowledged_early_is_seen_where_it_runs(shell, redis):
    shell.start(
        "worker", "-c", "1", "-n", "w1@here", "-l", "error", env={"STREAMQ_ACKS_LATE": "no"}
    )
    until(lambda: redis.exists("{streamq}:worker:w1@here"))
    gate = shell.folder / "gate"
    id = shell.json("enqueue", "tasks.wait_for", str(gate), "--queue", "mail")["id"]

    def begun():
        runs = shell.json("workers", "show", "w1@here")["running"]
        return [run for run in runs if run["ack"] == "early"]  # when it is acknowledged

    (run,) = until(begun)
    gate.touch()

    assert (run["id"], run["task"], run["queue"]) == (id, "tasks.wait_for", "mail")
    until(lambda: redis.hget(Keys().task(id), "state") == "SUCCESS")


def test_every_line_of_a_worker_that_logs_for_programs_is_json(shell):
    shell("worker", "--burst", "--log-format", "json")

    lines = [json.loads(line) for line in shell.err.splitlines()]
    assert "lease 15 s" in lines[0]["message"]
    assert lines[-1]["message"] == "stopped"


def test_autoscale_keeps_the_maximum_and_says_so(shell):
    process = shell.start("worker", "--burst", "-Q", "default", "--autoscale=2,1", "-X", "mail")
    _, err = process.communicate(timeout=30)

    assert process.returncode == 0
    assert "--autoscale 2,1: this version does not scale; it keeps 2" in err
    assert "prefork 2" in err


# Looking and mending


def test_queues_are_summed_over_their_streams(shell, redis):
    (shell.folder / "tasks.py").write_text(
        "from streamq import App, Queue\napp = App('x', queues=['q'])\n"
        "app.queues = [Queue('q', max_priority=3, max_length=90)]\n"
    )
    shell.quick("enqueue", "a.task")
    redis.xadd("{streamq}:queue:q:p3", {"id": "urgent", "task": "a.task", "args": "[]"})
    redis.xadd("{streamq}:queue:q:returned", {"id": "again", "task": "a.task"})
    redis.xreadgroup("workers", "w:1:x", {"{streamq}:queue:q:returned": ">"})

    (state,) = shell.json("queues", "ls")
    assert state == {
        "name": "q", "ready": 2, "running": 1, "dead": 0, "consumers": 1, "workers": 0,
        "settings": {"max_priority": 3, "max_length": 90},
    }  # fmt: skip
    assert next(message["id"] for message in shell.json("queues", "peek", "q")) == "urgent"
    assert shell.quick("queues", "ls").splitlines()[1].split() == [
        "q", "2", "1", "0", "0", "max_priority=3", "max_length=90"
    ]  # fmt: skip
    assert shell.quick("queues", "ls").endswith("no worker reads q: streamq worker -Q q\n")


def test_purge_asks_and_ends_what_it_removes_as_revoked(shell, redis, keys):
    id = shell.json("enqueue", "tasks.add", "1", "2")["id"]

    refused = shell.quick("queues", "purge", "default", code=2)
    assert (
        "1 message in default would be removed; standard input is no terminal: use --yes" in refused
    )
    code, asked = shell.at_terminal("n", "queues", "purge", "default")
    assert (code, asked.count("Go on? [y/N]")) == (1, 1)
    assert redis.xlen(keys.queue("default")) == 1

    code, _ = shell.at_terminal("y", "queues", "purge", "default")
    assert code == 0
    assert redis.xlen(keys.queue("default")) == 0
    assert redis.hget(keys.task(id), "state") == "REVOKED"


def test_purge_says_what_it_leaves_for_later(shell, redis, keys):
    shell.quick("enqueue", "tasks.add", "1", "2", "--countdown", "60")

    out = shell.quick("queues", "purge", "default", "--yes")

    assert out.splitlines() == [
        "0 messages removed from default",
        "left for later, in all queues: 1 message",
    ]
    assert redis.zcard(keys.scheduled) == 1


def test_delete_takes_a_queue_with_its_messages_and_bindings(shell, redis, keys):
    sent = shell.json("enqueue", "tasks.add", "1", "2", "--exchange", "events",
                      "--routing-key", "mail.x")  # fmt: skip

    assert "queue mail with 1 message would be deleted" in shell.quick(
        "queues", "delete", "mail", code=2
    )
    out = shell.quick("queues", "delete", "mail", "--yes")

    assert out == "mail deleted, and 1 message with it\n"
    assert redis.hget(keys.task(f"{sent['id']}@mail"), "state") == "REVOKED"
    assert [queue["name"] for queue in shell.json("queues", "ls")] == ["audit", "default"]
    (binding,) = shell.json("exchanges", "show", "events")["bindings"]
    assert (binding["name"], binding["key"]) == ("audit", "#")


def test_bindings_are_made_explained_and_removed(bare, redis, keys, scripts):
    for queue in ("eu", "us"):
        scripts("declare_queue", queue, "{}")
    bare.quick("exchanges", "bind", "orders", "eu", "*.eu.#", "--type", "topic")
    bare.quick("exchanges", "bind", "orders", "us", "*.us.#")

    assert bare.quick("exchanges", "route", "orders", "new.eu.x").splitlines() == [
        "  ✓ orders  *.eu.# → eu",
        "  ✗ 1 other binding of orders",
        "→ eu",
    ]
    assert "exists with another type" in bare(
        "exchanges", "bind", "orders", "eu", "--type", "fanout", code=78
    )
    assert "bound  *.eu.#" in bare.quick("exchanges", "unbind", "orders", "eu", "*.eu", code=2)

    bare.quick("exchanges", "bind", "orders", "eu", "eu.#")
    refused = bare.quick("exchanges", "unbind", "orders", "eu", "--yes", code=2)
    assert "bound  *.eu.#, eu.#" in refused, "one of them has to be named"
    bare.quick("exchanges", "unbind", "orders", "eu", "eu.#", "--yes")
    out = bare.quick("exchanges", "unbind", "orders", "eu", "--yes")
    assert out == "removed: orders  *.eu.# → eu\n", "there was one only"
    assert bare.quick("exchanges", "route", "orders", "new.eu.x").endswith("Unroutable\n")
    assert "with 1 binding would be deleted" in bare.quick("exchanges", "delete", "orders", code=2)
    bare.quick("exchanges", "delete", "orders", "--yes")
    assert redis.hlen(keys.exchanges) == 0


def test_header_bindings_keep_the_types_of_their_values(bare, redis, keys, scripts):
    scripts("declare_queue", "big", "{}")
    wanted = ["--header", "size=10", "--header", "kind=text", "--match", "all"]
    bare.quick("exchanges", "bind", "sorted", "big", "--type", "headers", *wanted)

    (binding,) = bare.json("exchanges", "show", "sorted")["bindings"]
    assert binding["arguments"] == {"size": 10, "kind": "text", "x-match": "all"}
    route = ["exchanges", "route", "sorted", "--header", "kind=text", "--header"]
    assert bare.json(*route, "size=10")["queues"] == ["big"]
    assert bare.json(*route, 'size="10"')["queues"] == []
    bare.quick("exchanges", "unbind", "sorted", "big", *wanted, "--yes")
    assert redis.hlen(keys.bindings("sorted")) == 0


def test_dead_letters_are_shown_retried_and_deleted(bare, redis, keys, scripts):
    scripts("declare_queue", "mail", "{}")
    make_dead(redis, keys, scripts, "one", "two", "three")

    letters = bare.json("dead", "ls")
    assert {letter["letter"] for letter in letters} == {"one", "two", "three"}
    assert (letters[0]["task"], letters[0]["reason"], letters[0]["error"]) == (
        "odd.task", "unknown task", "no such task"
    )  # fmt: skip
    assert "and 2 more" in bare.quick("dead", "ls", "mail", "-n", "1")
    assert '["one"]' in bare.quick("dead", "show", "mail", "one")

    assert bare.quick("dead", "retry", "mail", "one") == "1 message waiting in mail again\n"
    assert redis.hget(keys.task("one"), "state") == "QUEUED"
    assert "unknown task: no such task" in bare.quick("result", "one")

    assert "no dead letter of mail: one" in bare.quick("dead", "retry", "mail", "one", code=2)
    assert "2 dead letters of mail would be deleted" in bare(
        "dead", "delete", "mail", "--all", code=2
    )
    assert (
        bare.quick("dead", "delete", "mail", "--all", "--yes")
        == "2 dead letters deleted from mail\n"
    )
    assert redis.keys("{streamq}:dead:*") == []


def make_dead(redis: Any, keys: Keys, scripts: Any, *ids: str) -> None:
    """Let a consumer find out that it cannot run these messages."""
    scripts("register", 60000, "w:1:x")
    for number, id in enumerate(ids, 1):
        fields = {"id": id, "task": "odd.task", "args": json.dumps([id])}
        redis.xadd(keys.queue("mail"), fields)
        ((_, ((entry, _),)),) = redis.xreadgroup("workers", "w:1:x", {keys.queue("mail"): ">"})
        ending = ("FAILURE", 60000, 1, "error", "no such task")
        words = ("dead_letter", "unknown task", "no such task")
        outcome = ("late", "mail", entry, id, *ending, len(words), *words)
        assert scripts("follow", "w:1:x", number, 100, 60000, *outcome) == "1"


def test_config_shows_every_value_with_its_origin(shell, tmp_path):
    (tmp_path / "streamq.toml").write_text('lease = "20s"\n')
    (tmp_path / "tasks.py").write_text("from streamq import App\napp = App(max_deliveries=5)\n")

    shown = {one["name"]: (one["value"], one["origin"]) for one in shell.json("config", "show")}

    assert shown["lease"] == (20.0, f"streamq.toml ({tmp_path})")
    assert shown["max_deliveries"] == (5, "code")
    assert shown["namespace"] == ("streamq", "default")
    assert shown["url"][1] == "STREAMQ_URL"
    table = shell("config", "show", STREAMQ_URL="redis://me:secret@h:1/0")
    assert ["lease", "20s"] in [line.split()[:2] for line in table.splitlines()]
    assert "redis://me:***@h:1/0" in table


def test_what_is_for_later_and_what_is_tried_again_can_be_seen(bare, redis, keys):
    bare.quick("enqueue", "some.task", "--countdown", "1h", "--id", "later")

    assert "1 message for later" in bare.quick("queues", "ls")
    assert "due" in bare.quick("result", "later")
    told = bare.json("result", "later")
    assert (told["state"], told["retries"]) == ("SCHEDULED", 0)
    assert 3500 < told["eta"] - told["enqueued"] < 3700
    redis.hset(keys.task("later"), mapping={"state": "RETRY", "retries": 2, "error": "no"})
    told = bare.json("result", "later")
    assert (told["state"], told["retries"], told["value"]) == ("RETRY", 2, None)
