"""Command lines of Celery, as units of systemd, containers and health checks have them."""

import os
import pwd
import re
import signal
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from streamq.cli.celery_flags import REFUSED, UNNEEDED
from streamq.cli.command import GivenOptions
from streamq.cli.instead import INSTEAD, LATER, OF_CELERY
from streamq.cli.main import main
from tests.processes import until

HOST = socket.gethostname()


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command line that is wrong, in this process; what it says on stderr."""

    def said(*words: str, code: int = 2) -> str:
        assert main.run(list(words), GivenOptions()) == code
        return capsys.readouterr().err

    return said


# Commands


@pytest.mark.parametrize("name", [*LATER, *INSTEAD, "call", "purge"])
def test_a_command_of_celery_says_what_to_type_instead(name, said):
    assert f"streamq {name}\n  → " in said(name, "-l", "info")


@pytest.mark.parametrize("name", [*LATER, *OF_CELERY])
def test_a_command_of_celery_says_so_in_the_group_too(name, said):
    message = said("celery", "-A", "nowhere", name, "--whatever")

    assert f"streamq celery {name}\n  → " in message
    assert len(message.splitlines()) == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("inspect active", "inspect active\n  → streamq workers show WORKER"),
        ("celery inspect -t 5 stats", "inspect stats\n  → streamq workers ls"),
        ("control shutdown", "not in this version: control shutdown\n  → kill -TERM"),
        ("inspect pin", "no such method of inspect: pin\n  → did you mean ping?"),
        ("control revoke", "which tasks?"),
        ("control terminate SIGNOT id", "no task is ended by the signal"),
        ("celery --config=celeryconfig worker", "not in this version: --config\n  → app.config_"),
        ("celery --workdir here worker", "takes the whole path of a folder"),
        ("celery --workdir /not/there worker", "/not/there: No such file"),
        ("celery call t -a 1", "--args is a list in JSON"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line(words, says, said):
    assert says in said(*words.split())


# Health checks


@pytest.mark.parametrize("words", ["status", "inspect ping", "celery -A tasks inspect ping"])
def test_without_a_worker_a_health_check_fails(words, shell):
    said = shell.quick(*words.split(), code=69)

    assert said == "streamq: no worker is up\n  → streamq worker -A MODULE\n"


def test_a_health_check_without_redis_fails_in_time(shell):
    shell.env["STREAMQ_URL"] = "redis://127.0.0.1:1/0"

    assert "cannot reach Redis" in shell.quick("inspect", "ping", "--timeout", "2", code=69)


def test_a_worker_with_celerys_line_answers_health_checks_by_celerys_name(shell, redis):
    node = f"celery@{HOST}"
    broker = ["-b", shell.env["STREAMQ_URL"]]
    shell.env["STREAMQ_URL"] = "redis://127.0.0.1:1/0"
    worker = shell.start(
        "celery", "-A", "tasks", *broker, "worker", "-l", "INFO", "-c", "1", "-E", "-Ofair",
        "--without-gossip", "--max-memory-per-child=400000",
    )  # fmt: skip
    until(lambda: redis.exists(f"{{streamq}}:worker:{node}"), "the worker is up")

    assert shell.quick("celery", *broker, "status") == f"{node}: OK\n\n1 node online.\n"
    assert shell.quick("celery", "-A", "tasks", *broker, "inspect", "ping", "-d", node) == (
        f"->  {node}: OK\n        pong\n\n1 node online.\n"
    )
    assert shell.json("inspect", "ping", *broker) == {node: {"ok": "pong"}}
    other = shell.quick("inspect", *broker, "-d", "celery@other", "ping", code=69)
    assert other == f"streamq: no worker is up that is named celery@other\n  up  {node}\n"

    id = shell.quick("celery", *broker, "call", "tasks.add", "-a", "[2, 3]").strip()
    assert shell.quick("celery", *broker, "result", id) == "5\n"
    worker.send_signal(signal.SIGTERM)
    _, log = worker.communicate(timeout=30)
    assert "streamq: -E/--events: not needed: " in log
    assert "streamq: --without-gossip: not needed: " in log
    assert "[--broker]" in log


def test_purge_and_revoke_by_celerys_words(shell):
    ids = [shell.json("enqueue", "tasks.add", "1", "2")["id"] for _ in range(3)]

    assert shell.quick("celery", "control", "revoke", *ids[:2]) == (
        f"{ids[0]}  REVOKED\n{ids[1]}  REVOKED\n"
    )
    assert shell.quick("celery", "-A", "tasks", "purge", "-f").startswith("3 messages removed from")
    assert shell.json("result", ids[2], code=1)["state"] == "REVOKED"


def test_a_broker_that_the_app_overrides_is_told(bare):
    url = bare.env["STREAMQ_URL"]
    (bare.folder / "tasks.py").write_text(f"import streamq\napp = streamq.App(url={url!r})\n")

    for words in (["worker", "--burst"], ["status"]):
        said = bare.quick(*words, "-A", "tasks", "-b", "redis://elsewhere:1/0", code=2)
        assert "-b is in vain: the app names its Redis itself" in said


# Flags of the worker


@pytest.mark.parametrize("flag", REFUSED, ids=lambda flag: flag.names[-1])
def test_a_flag_that_cannot_be_granted_is_refused(flag, said):
    for name in flag.names:
        message = said("worker", "-A", "nowhere", name)
        both = "/".join(flag.names)
        assert message.startswith(f"streamq: not in this version: {both}: {flag.what}\n  → ")


def test_each_flag_that_is_not_needed_gets_a_line_and_the_worker_runs(shell):
    words = [
        word
        for flag in UNNEEDED
        for name in flag.names
        for word in ([name] if flag.metavar is None else [name, "1"])
    ]

    shell("worker", "-A", "tasks", "-c", "1", "--burst", "--pidfile=", "--logfile=", *words)

    lines = [line for line in shell.err.splitlines() if re.match(r"streamq: -\S+: not ", line)]
    assert len(lines) == len(UNNEEDED)


def test_a_worker_logs_to_its_file_and_keeps_its_pid_in_another(site):
    site.write("@app.task\ndef say():\n    print('from a task', flush=True)\n")
    words = ["-c", 1, "-n", "w1@%%h", "--pidfile", "%n.pid", "-f", site.folder / "%n.log"]
    worker = site.worker(*words)
    log, pid = site.folder / "w1.log", site.folder / "w1.pid"

    assert pid.read_text() == f"{worker.pid}\n"
    second = site.worker(*words, ready=False)
    assert second.wait() == 78
    assert f"another worker has the pid file {pid}\n  its pid  {worker.pid}" in second.said

    site.send("say").get(timeout=10)
    until(lambda: "from a task" in log.read_text(), "the task has printed")
    moved = log.rename(site.folder / "w1.log.1")
    site.send("say").get(timeout=10)
    until(lambda: log.exists() and "tasks.say" in log.read_text(), "its line is in the new file")
    assert worker.stop() == 0
    assert f"w1@{HOST}" in moved.read_text()
    assert "stopped" in log.read_text()
    assert worker.said == ""
    assert not pid.exists()


def test_the_runners_of_gevent_log_to_the_file_too(site):
    site.write("@app.task\ndef say():\n    print('from a task', flush=True)\n")
    log = site.folder / "log"

    worker = site.worker("-P", "gevent", "-c", 2, "-f", "log")
    site.send("say").get(timeout=10)

    until(lambda: "from a task" in log.read_text(), "the task has printed")
    log.rename(site.folder / "old")
    site.send("say").get(timeout=10)
    until(lambda: log.exists() and "tasks.say" in log.read_text(), "its line is in the new file")
    assert worker.stop() == 0


def test_a_reload_opens_the_files_again(site):
    site.write("")
    worker = site.worker("-c", 1, "--pidfile", "pid", "-f", "log")
    log = site.folder / "log"
    before = worker.runners()

    worker.signal(signal.SIGHUP)

    until(lambda: "reloading" in log.read_text(), "it reloads")
    until(lambda: set(worker.runners()) - set(before), "it has new runners")
    assert (site.folder / "pid").read_text() == f"{worker.pid}\n"
    assert worker.stop() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may change its account")
def test_a_worker_that_root_starts_becomes_another_user_before_it_imports_the_app(bare):
    with tempfile.TemporaryDirectory() as name:
        bare.folder = Path(name)
        bare.folder.chmod(0o755)  # the folder of the test is root's alone
        (bare.folder / "tasks.py").write_text("import os\nraise SystemExit(os.getuid())\n")

        said = bare("worker", "-A", "tasks", "--uid", "nobody", code=78)

    assert f"SystemExit: {pwd.getpwnam('nobody').pw_uid}" in said
