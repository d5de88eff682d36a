"""What a supervisor tells a runner: everything it needs, in a file that a started process reads.

Not on its command line, which everybody on the machine can see: the URL has a password.
"""

import os
from pathlib import Path
from typing import Self

import msgspec

from streamq.runner.inherited import Inherited
from streamq.runner.sources import Intake, Source


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """One runner's work.  ``sources`` are queues with their number of priority levels."""

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
    #: Whether it runs suspects: one at a time, with nothing beside it.
    alone: bool = False
    flags: dict[str, object] = {}
    #: The command line of the worker, for modules that look at it.
    words: list[bytes] = []
    #: The signals as the worker was given them.
    signals: Inherited = Inherited()

    @property
    def intake(self) -> Intake:
        """The order in which it looks through its queues."""
        return Intake([Source(name, levels, self.alone) for name, levels in self.sources])

    @property
    def streams(self) -> list[str]:
        """The streams that it reads, by the numbers that its slots have for them."""
        return self.intake.streams

    def consumer(self, pid: int) -> str:
        """The name of this runner's consumer; never used twice."""
        return f"{self.node}:{pid}:{self.token}"

    def leave(self) -> str:
        """Write it where only this user can read it; return the path."""
        path = Path(self.folder) / f"assignment-{self.number}"
        path.unlink(missing_ok=True)  # a runner that died before it looked has left it
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "wb") as opened:
            opened.write(msgspec.json.encode(self))
        return str(path)

    @classmethod
    def take(cls, path: str) -> Self:
        """Read what ``leave`` wrote, and remove it."""
        assignment = msgspec.json.decode(Path(path).read_bytes(), type=cls)
        Path(path).unlink(missing_ok=True)
        return assignment

    def __repr__(self) -> str:
        return f"<runner {self.number} of {self.node}>"
