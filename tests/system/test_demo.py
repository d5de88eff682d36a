"""The examples do what they say, and the demo leaves nothing running."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.processes import until

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def environment(**more: str) -> dict[str, str]:
    """Ours, without settings that would change what the examples do."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STREAMQ_")}
    return {**kept, "PYTHONPATH": str(EXAMPLES.parent), "COLUMNS": "100", **more}


def running_in(folder: Path) -> list[str]:
    """The command lines of the processes whose current folder is this one, or below."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(folder):
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


@contextmanager
def worker(folder: Path, *arguments: str, url: str) -> Iterator[None]:
    """A ``streamq worker`` with these arguments; its log is in worker.log."""
    with open(folder / "worker.log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamq", "worker", *arguments],
            cwd=folder,
            env=environment(STREAMQ_URL=url),
            stdout=log,
            stderr=log,
        )
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(timeout=30) == 0, (folder / "worker.log").read_text()


def output_of(script: str, folder: Path, url: str) -> list[str]:
    """The lines that a script prints."""
    ended = subprocess.run(
        [sys.executable, script],
        cwd=folder,
        env=environment(STREAMQ_URL=url),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr + (folder / "worker.log").read_text()
    return ended.stdout.splitlines()


@pytest.fixture
def demo(tmp_path):
    """The demo's folder, copied to a place where it has a server of its own."""
    folder = tmp_path / "demo"
    shutil.copytree(EXAMPLES / "stdlib_report", folder)
    modules = tmp_path / "code"
    (modules / "package").mkdir(parents=True)
    (modules / "single.py").write_text("def f():\n    pass\n")
    (modules / "package" / "inner.py").write_text("class A:\n    def g(self):\n        return 1\n")
    (modules / "old.py").write_text("print 'hello'\n")
    return folder


def start(demo: Path, code: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "demo.py", str(code)],
        cwd=demo,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_the_demo_reports_every_file_and_ends_what_it_started(demo, tmp_path):
    process = start(demo, tmp_path / "code")
    said, _ = process.communicate(timeout=90)

    assert process.returncode == 0, said
    assert "sent     4 tasks" in said
    assert re.search(r"^packages +1 ", said, re.M), said
    assert re.search(r"^modules +3 ", said, re.M), said
    assert "2 files: 5 lines, 2 functions, 1 classes" in said
    assert "2 failed" in said
    assert re.search(r"broken\.py +SyntaxError", said), said
    assert re.search(r"old\.py +SyntaxError", said), said
    assert not running_in(demo)

    # The commands that it proposes work, on the data that it left.
    proposed = [
        line.strip() for line in said.splitlines() if " redis " in line and "-s" not in line
    ]
    assert len(proposed) >= 3, said
    for command in proposed:
        words = [sys.executable, "-m", "streamq", *shlex.split(command)[1:]]
        shown = subprocess.check_output(words, cwd=demo, env=environment(), text=True)
        assert shown.strip() not in ("", "(nil)", "(empty)"), command
    subprocess.run(
        [sys.executable, "-m", "streamq", "server", "stop", "--yes"], cwd=demo, check=True
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_running_when_the_demo_is_interrupted(demo, number):
    library = Path(os.__file__).parent
    # After SIGKILL all that was sent is still done: less of it, for machines that are slow.
    process = start(demo, library / "asyncio" if number == signal.SIGKILL else library)
    # Its runners too: a Ctrl-C in the millisecond in which Popen returns would leave the worker.
    until(lambda: sum("worker" in line for line in running_in(demo)) > 1, seconds=30)
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)

    if number == signal.SIGKILL:  # the worker ends when the work does, then the server
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 130, said
        assert "Traceback" not in said
        assert not running_in(demo)
    until(lambda: not running_in(demo), seconds=100)


def test_the_celery_article_s_program_runs(tmp_path, server_url, redis):
    shutil.copy(EXAMPLES / "celery_article" / "celery_demo.py", tmp_path)
    command = "-A celery_demo -l info -Q demo --concurrency=3 -n worker1@%h --autoscale=3,1"
    with worker(tmp_path, *command.split(), url=server_url):
        assert output_of("celery_demo.py", tmp_path, server_url) == ["8", "3", "5"]
    assert "worker1@" in (tmp_path / "worker.log").read_text()


@pytest.mark.parametrize(
    ("example", "lines"),
    [
        (
            "routing",
            [
                "audit: order 1 is recorded",
                "europe: order 1 is recorded",
                "order 2 is recorded",
                "exchange 'orders' leads to no queue for the key 'invoice.new'",
            ],
        ),
        (
            "results",
            [
                "[0.1, 0.5]",
                "failed: division by zero",
                "FAILURE | ZeroDivisionError: division by zero",
                "0.5",
            ],
        ),
        ("asyncio_producer", ["[0, 1, 4, 9, 16, 25, 36, 49, 64, 81]"]),
    ],
)
def test_an_example_prints_what_it_promises(example, lines, tmp_path, server_url, redis):
    shutil.copy(EXAMPLES / f"{example}.py", tmp_path)
    with worker(tmp_path, "-A", example, "-c", "2", url=server_url):
        assert output_of(f"{example}.py", tmp_path, server_url) == lines
