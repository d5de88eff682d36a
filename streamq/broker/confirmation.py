"""Confirmation of a message: the command to send after a publish, and how to judge its reply.

WAIT and WAITAOF count what was written on the connection that sends them.  So they are sent on
the one that has published, and a publish that finds its work done writes all the same.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from streamq.errors import ConfigError, NotConfirmed

#: Sent before anything is published: does this server know WAITAOF, and has it a file?
PROBE = ("WAITAOF", 1, 0, 1)
#: Sent to a server without WAITAOF: is it set to write to disk before it answers?
POLICY = ("CONFIG", "GET", "append*")


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A confirmation that a message needs beyond the server's answer: ``fsync`` or ``replica``."""

    level: str
    replicas: int
    timeout: float

    def within(self, seconds: float) -> "Confirmation":
        """The same confirmation, for a publish that has only so many seconds left."""
        if seconds >= self.timeout:
            return self
        return replace(self, timeout=max(0.001, seconds))

    def question(self, *, by_policy: bool) -> tuple[Any, ...]:
        """The command to send on the connection that has published."""
        patience = max(1, int(self.timeout * 1000))  # 0 would be for ever
        if self.level == "replica":
            return ("WAIT", self.replicas, patience)
        return POLICY if by_policy else ("WAITAOF", 1, 0, patience)

    def judge(self, reply: Any, answer: Any) -> None:
        """Raise NotConfirmed unless the reply is enough; ``answer`` is the publish script's."""
        if isinstance(reply, Exception):
            raise self.unmet(f"Redis answered: {reply}", answer)
        if self.level == "replica":
            if int(reply) < self.replicas:
                had = f"{reply} of {self.replicas} replicas had it after {self.timeout:g} s"
                raise self.unmet(had, answer)
        elif isinstance(reply[0], bytes):
            if not writes_first(reply):
                raise self.unmet("appendfsync is not 'always' any more", answer)
        elif int(reply[0]) < 1:
            raise self.unmet(f"it was not on disk after {self.timeout:g} s", answer)

    def unmet(self, why: str, answer: Any) -> NotConfirmed:
        """The error for a confirmation that did not come."""
        error = NotConfirmed(
            f"Redis took the message, and did not confirm it (confirm={self.level})",
            known={"because": why},
            advice=[
                "the task may run; sending again with the same task_id is safe",
                "confirm_timeout says how long to wait, confirm='server' not to wait",
            ],
        )
        error.answer = answer
        return error


def confirmations(levels: Iterable[str], replicas: int, timeout: float) -> tuple[Confirmation, ...]:
    """The confirmations for these levels of ``confirm``; none for ``server``."""
    asked = sorted(set(levels) - {"server"})
    return tuple(Confirmation(level, replicas, timeout) for level in asked)


def needs_probe(confirm: Iterable[Confirmation]) -> bool:
    """Whether ``PROBE`` is to be sent before something is published."""
    return any(each.level == "fsync" for each in confirm)


def lacks_waitaof(reply: Any) -> bool:
    """Whether the answer to ``PROBE`` says that the server has no such command.

    Raises ConfigError if the server has the command, and no file, or forbids it.
    """
    if not isinstance(reply, Exception):
        return False
    if "unknown command" in str(reply):
        return True
    raise impossible(str(reply).partition("\n")[0])


def check_policy(reply: Any) -> None:
    """Raise ConfigError unless the answer to ``POLICY`` says that disk comes before answer."""
    if isinstance(reply, Exception):
        raise impossible(f"no WAITAOF there, and CONFIG GET says: {reply}".partition("\n")[0])
    if not writes_first(reply):
        raise impossible("no WAITAOF there, and appendfsync is not 'always'")


def writes_first(reply: list[bytes]) -> bool:
    """Whether the server writes to disk before it answers."""
    settings = dict(zip(reply[::2], reply[1::2], strict=True))
    file = (settings.get(b"appendonly"), settings.get(b"appendfsync"))
    return file == (b"yes", b"always")


def impossible(why: str) -> ConfigError:
    """The error for a server that cannot confirm a write to disk."""
    return ConfigError(
        "this Redis cannot tell when a message is on disk; nothing was sent",
        known={"because": why},
        advice=[
            "appendonly yes, and WAITAOF (Redis 7.2, Valkey) or appendfsync always",
            "or confirm='server', confirm='replica'",
        ],
    )
