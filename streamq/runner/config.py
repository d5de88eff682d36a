"""The configuration of a runner: all that its supervisor hands over to it.

A started process reads it from a file: everybody on the machine can see a command line, and the
URL has a password.
"""

import os
from pathlib import Path
from typing import Self

import msgspec

from streamq.runner.inherited import Inherited
from streamq.runner.sources import QueueStreams, ReadOrder


class RunnerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration of one runner.  ``sources``: queues with their numbers of levels."""

    number: int
    node: str
    token: str
    supervisor: int
    url: str
    sources: list[tuple[str, int]]
    pool: str
    concurrency: int
    burst: bool
    folder: str
    #: How many runners, and slots for tasks in each, the shared memory has.
    runners: int
    slots: int
    app: str | None = None
    #: Whether it runs quarantined messages: one at a time, as sole tasks.
    quarantine: bool = False
    flags: dict[str, object] = {}
    #: The log file, which standard output and standard error lead to; empty if there is none.
    log_file: str = ""
    #: The command line of the worker, for modules that read ``sys.argv``.
    argv: list[bytes] = []
    #: The signals that the worker inherited as ignored or blocked.
    signals: Inherited = Inherited()

    @property
    def read_order(self) -> ReadOrder:
        """The order in which the runner reads its queues."""
        return ReadOrder(
            [QueueStreams(name, levels, self.quarantine) for name, levels in self.sources]
        )

    @property
    def streams(self) -> list[str]:
        """The streams that the runner reads; their indexes are the stream numbers in its slots."""
        return self.read_order.streams

    def consumer(self, pid: int) -> str:
        """The name of this runner's consumer; never used twice."""
        return f"{self.node}:{pid}:{self.token}"

    def write(self) -> str:
        """Write the configuration to a file that only this user can read; return its path."""
        path = Path(self.folder) / f"config-{self.number}"
        path.unlink(missing_ok=True)  # left by a runner that died before it read it
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "wb") as opened:
            opened.write(msgspec.json.encode(self))
        return str(path)

    @classmethod
    def read(cls, path: str) -> Self:
        """Read the file that ``write`` made, and remove it."""
        config = msgspec.json.decode(Path(path).read_bytes(), type=cls)
        Path(path).unlink(missing_ok=True)
        return config

    def __repr__(self) -> str:
        return f"<runner {self.number} of {self.node}>"
