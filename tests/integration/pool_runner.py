"""A runner process of test_pools.py, as a supervisor starts it.

    python -m tests.integration.pool_runner MODULE:MAKER CONFIG

The runner has the pool that MAKER makes; CONFIG is the file that ``RunnerConfig.write`` wrote.
"""

import sys

if __name__ == "__main__" and sys.argv[1].startswith("streamq.runner.pools.gevent:"):
    from gevent import monkey

    monkey.patch_all()

import os
import time
from importlib import import_module
from pathlib import Path

import msgspec

from streamq import App, Reject, SoftTimeLimitExceeded
from streamq.runner.config import RunnerConfig
from streamq.runner.logging import set_up_logging
from streamq.runner.runner import work
from streamq.runner.signals import FINISH


def add_tasks(app: App, folder: Path) -> None:
    """Add the tasks of the tests to an app; they write what they do to ``folder``/notes."""

    def note(words: str) -> None:
        with open(folder / "notes", "a") as notes:
            notes.write(f"{words}\n")

    @app.task(name="work")
    def work(number: int) -> int:
        note(f"work {number}")
        return number

    @app.task(name="hold")
    def hold(number: int) -> int:
        note(f"hold {number}")
        while not (folder / "go").exists():
            time.sleep(0.005)
        return number

    @app.task(name="stop")
    def stop() -> None:
        os.kill(os.getpid(), FINISH)
        note("stop")

    @app.task(name="too_long", soft_time_limit=0.1)
    def too_long() -> str:
        try:
            time.sleep(20)
        except SoftTimeLimitExceeded:
            return "limited"
        return "not limited"

    @app.task(name="picky", bind=True)
    def picky(self) -> str:
        if not (folder / "notes").exists():
            note("rejected")
            raise Reject(requeue=True)
        return "taken"


def main() -> int:
    """Run the runner; return its exit code."""
    module, _, name = sys.argv[1].partition(":")
    config = RunnerConfig.read(sys.argv[2])
    set_up_logging("info", "text")
    app = App("test", url=config.url, **config.flags)
    add_tasks(app, Path(config.folder))
    config = msgspec.structs.replace(config, supervisor=os.getppid())
    return work(app, config, getattr(import_module(module), name))


if __name__ == "__main__":
    sys.exit(main())
