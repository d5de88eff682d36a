"""What a supervisor tells a runner: everything it needs, as text that a started process reads."""

from typing import Self

import msgspec

from streamq.runner.intake import Intake, Source


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

    def to_text(self) -> str:
        """As an argument for a process that is started."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_text(cls, text: str) -> Self:
        """What ``to_text`` wrote."""
        return msgspec.json.decode(text, type=cls)
