"""What a supervisor tells a runner: everything it needs, as text that a started process reads."""

from typing import Self

import msgspec


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
    runners: int
    app: str | None = None
    flags: dict[str, object] = {}

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
