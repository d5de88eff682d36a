"""The Celery project of the examples: copies of it, as it is kept, and moved."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.edits import CHECKOUT

KEPT = CHECKOUT / "examples" / "celery_moved"
QUEUES = "celery,mail,pictures"


class Project(NamedTuple):
    """A copy of the project, and what runs it."""

    folder: Path
    python: str | Path
    worker: list[str]
    env: dict[str, str]

    def run(self, *words: str) -> str:
        """Run a program of the project; what it printed."""
        ended = subprocess.run(
            [self.python, *words],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr + self.log
        return ended.stdout

    @property
    def log(self) -> str:
        file = self.folder / "worker.log"
        return file.read_text() if file.exists() else ""

    def start(self) -> "subprocess.Popen[bytes]":
        """Start a worker with two processes."""
        words = [*self.worker, "-A", "shop", "worker", "-Q", QUEUES, "-c", "2", "-l", "info"]
        with open(self.folder / "worker.log", "wb") as log:
            return subprocess.Popen(
                [self.python, "-m", *words], cwd=self.folder, env=self.env, stdout=log, stderr=log
            )


def copied(folder: Path) -> Path:
    """A copy of the project as git has it."""
    left_out = shutil.ignore_patterns("__pycache__", "*.sqlite3", "outbox", "pictures", ".*cache")
    shutil.copytree(KEPT, folder, ignore=left_out)
    return folder


def moved(folder: Path) -> Path:
    """A copy of the project of which the imports have been rewritten."""
    copied(folder)
    ended = subprocess.run(
        [sys.executable, "-m", "streamq", "migrate", "imports", "--write", "."],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return folder
