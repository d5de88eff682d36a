"""The documentation is true: its console blocks run, and the names it uses exist.

In a page, a ``python`` block that begins with ``# NAME.py`` is that file.  In a ``console``
block, ``$ `` begins a command and what follows is its output, where ``…`` stands for any
text and alone on a line for any lines.  A worker without ``--burst`` goes on running; a
block that is ``^C`` stops it.
"""

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.guards.test_guards import GUARDS
from tests.processes import until

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(console|python|toml)\n(.*?)^```$", re.M | re.S)
WORKER = re.compile(r"(flask --app \w+ )?streamq worker( |$)")
FILE = re.compile(r"# ([\w/]+\.(?:py|toml))\b")

#: A reader waits 25 s and a little until no other worker has come that knows a task.
PATIENCE, LATER = "2", "sleep 27; "


def steps_of(page: Path) -> list[tuple[str, str]]:
    """What a page says to do, in its order: write a file, or run a block."""
    found = []
    for kind, text in BLOCK.findall(page.read_text()):
        if kind == "console":
            found.append(("run", text))
        elif name := FILE.match(text):
            found.append((name[1], text))
    return found


def commands_of(block: str) -> list[tuple[str, str]]:
    """Each command of a console block with the output it is to have."""
    if block.startswith("^C"):
        return [("^C", block.partition("\n")[2])]
    assert block.startswith("$ "), f"a console block begins with a command: {block[:40]!r}"
    parts = re.split(r"^\$ ", block, flags=re.M)[1:]
    return [(command, said) for command, _, said in (part.partition("\n") for part in parts)]


def pattern_of(line: str) -> str:
    """``…`` is any text; where columns are parted by spaces, their width does not matter."""
    return re.sub(r"(?:\\ ){2,}", r"\\s{2,}", re.escape(line)).replace("…", ".*") + r"\s*\n"


def matches(expected: str, said: str, *, begins: bool = False) -> bool:
    """Whether output is as the page says."""
    lines = [
        r"(?:.*\n)*?" if line == "…" else pattern_of(line) for line in expected.rstrip().split("\n")
    ]
    if not expected.strip():
        return not said.strip()
    pattern = "".join(lines) + (r"(?:.*\n)*" if begins or expected.endswith("…\n") else "")
    return re.fullmatch(pattern, said.rstrip() + "\n") is not None


class Shell:
    """A folder in which commands are run as a reader runs them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workers: list[subprocess.Popen[bytes]] = []
        #: How the last command ended.
        self.code = 0
        kept = {k: v for k, v in os.environ.items() if not k.startswith("STREAMQ_")}
        programs = folder / "bin"
        programs.mkdir()
        for name, module in {"streamq": " -m streamq", "flask": " -m flask", "python": ""}.items():
            program = programs / name
            program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)}{module} "$@"\n')
            program.chmod(0o755)
        path = f"{programs}:{os.environ['PATH']}"
        self.environment = {
            **kept,
            **{"PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "100"},
            "STREAMQ_UNKNOWN_TASK_PATIENCE": PATIENCE,
        }

    def run(self, command: str, expected: str) -> None:
        """Run one command and compare what it says."""
        if command == "^C":
            self.stop(expected)
        elif WORKER.match(command):
            self.work(command, expected)
        elif command.startswith(LATER):
            command = command.removeprefix(LATER)
            with contextlib.suppress(AssertionError):
                until(lambda: matches(expected, self.said_by(command)), seconds=27)
            self.run(command, expected)
        else:
            said = self.said_by(command)
            assert matches(expected, said), f"$ {command}\n{said}\n--- expected\n{expected}"
            hidden = self.code and not expected.strip("…\n")
            assert not hidden, f"$ {command}\n{said}\n--- is an error that the page does not show"

    def said_by(self, command: str) -> str:
        """Run one command and return what it says."""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        self.code = done.returncode
        return done.stdout

    def work(self, command: str, expected: str) -> None:
        """Start a worker, wait until it has said this; one in a burst ends by itself."""
        log = self.folder / f"worker-{len(self.workers)}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self.workers.append(process)
        if "--burst" in command:
            process.wait(timeout=60)
        with contextlib.suppress(AssertionError):
            until(lambda: matches(expected, log.read_text(), begins=True), seconds=15)
        said = log.read_text()
        assert matches(expected, said, begins=True), f"$ {command}\n{said}\n--- not\n{expected}"

    def stop(self, expected: str) -> None:
        """Press Ctrl-C where the last worker runs."""
        log = self.folder / f"worker-{len(self.workers) - 1}.log"
        before = len(log.read_text())
        self.workers[-1].send_signal(signal.SIGINT)
        assert self.workers[-1].wait(timeout=30) == 0
        said = log.read_text()[before:]
        assert matches(expected, said), f"^C\n{said}\n--- expected\n{expected}"

    def close(self) -> None:
        """End the workers and the server."""
        for process in self.workers:
            if process.poll() is None:
                process.terminate()
                process.wait(timeout=30)
        subprocess.run(
            [self.folder / "bin" / "streamq", "server", "stop", "--yes"],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            check=True,
        )


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    try:
        yield shell
    finally:
        shell.close()


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(kind == "run" for kind, _ in steps_of(page))],
    ids=lambda page: page.name,
)
def test_every_console_block_says_what_it_does(page, shell):
    if "redis-cli" in page.read_text() and not shutil.which("redis-cli"):
        pytest.skip("redis-cli is not installed")
    for kind, text in steps_of(page):
        if kind == "run":
            for command, expected in commands_of(text):
                shell.run(command, expected)
        else:
            (shell.folder / kind).write_text(text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_a_page_names_or_links_to_exists(page):
    text = page.read_text()
    linked = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link]
    named = re.findall(r"`((?:streamq|scripts|tests|examples|docs|benchmarks)/[\w/.-]+)`", text)
    named += [name.partition("::")[0] for name in re.findall(r"`(tests/[\w/.]+::\w+)`", text)]

    assert [link for link in linked if not (page.parent / link).exists()] == []
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_a_page_names_exists(page):
    for name in re.findall(r"`(tests/[\w/.]+::\w+)`", page.read_text()):
        file, _, test = name.partition("::")
        assert f"def {test}(" in (ROOT / file).read_text(), name


class Row(NamedTuple):
    """A row of the fault matrix: what is named in its cells."""

    tests: list[str]
    controls: list[str]
    guards: list[str]


def fault_matrix():
    """The rows of the parts whose faults can come today, by their numbers."""
    text = (ROOT / "docs" / "design" / "faults.md").read_text()
    lines = re.findall(r"^\| ([A-C]\d+) \| .+ \| .+ \| (.+) \| (.+) \|$", text, re.M)
    named = r"`(tests/[\w/.:]+)`"
    return {
        row: Row(
            tests=re.findall(named, tests),
            controls=re.findall(named, control),
            guards=re.findall(r'"(.+?)"', control),
        )
        for row, tests, control in lines
    }


def test_every_row_of_the_fault_matrix_has_a_test_and_a_control_or_says_why_not():
    matrix = fault_matrix()

    for part, least in {"A": 29, "B": 33, "C": 24}.items():
        numbers = [int(row[1:]) for row in matrix if row[0] == part]
        assert numbers == list(range(1, max(least, len(numbers)) + 1))
    why_not = (ROOT / "docs" / "design" / "guarantees.md").read_text()
    excused = re.findall(r"^\* \*\*([A-C]\d+)\*\*, ", why_not, re.M)
    assert [number for number, row in matrix.items() if not row.tests] == excused
    assert [number for number, row in matrix.items() if not row.controls + row.guards] == excused


def test_the_fault_matrix_names_each_guard_beside_the_test_that_misses_it():
    for number, row in fault_matrix().items():
        there = [guard for guard in GUARDS if number in guard.rows]
        assert row.guards == [guard.name for guard in there]
        assert {guard.test.partition("[")[0] for guard in there} <= set(row.tests), number


def test_the_path_of_a_message_names_code_that_exists():
    text = (ROOT / "docs" / "design" / "path-of-a-message.md").read_text()
    steps = re.findall(r"`(?:(\w+)\.)?(\w+)`\s*\((streamq/[\w/]+\.py)\)", text)

    assert len(steps) > 15
    for owner, name, file in steps:
        code = (ROOT / file).read_text()
        assert re.search(rf"^\s*(?:async )?def {name}\(", code, re.M), f"{name} in {file}"
        assert not owner or re.search(rf"^class {owner}\b", code, re.M), f"{owner} in {file}"
