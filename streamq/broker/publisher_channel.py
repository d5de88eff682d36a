"""A publisher channel: a connection with one publish in flight, and a number for it.

The script keeps the last number and answer of each channel: a call that is sent again because
its answer was lost is recognised, at no cost per message.  The channel is named after the
session of its connection; a call that is sent again keeps its first name and number.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Generic, Protocol, TypeVar

from streamq.broker.confirmation import Confirmation
from streamq.core.message import MessageTemplate, Publication
from streamq.transport.decode import text
from streamq.transport.scripts import Script, load

PUBLISH = load("publish")
PUBLISH_PLAIN = load("publish_plain")

#: One call to publish with: the script, and its arguments behind channel and number.
Load = tuple[Script, Iterable[Any]]
#: Makes a Load, given the session of the connection that it will be sent on.
Make = Callable[[str], Load]


class ChannelConnection(Protocol):
    """The parts of a connection that a channel uses; blocking and asyncio ones have them."""

    #: A unique name for this connect; '' before the first one.
    session: str
    #: The open connection of redis-py, another one after each connect; None while there is none.
    link: Any


C = TypeVar("C", bound=ChannelConnection)


@dataclass(eq=False)
class Channel(Generic[C]):
    """A publisher channel: one connection, and the number of its last publish."""

    connection: C
    #: The session of the connection that ``name`` and ``number`` belong to.
    session: str = ""
    name: str = ""
    number: int = 0
    #: The publish that is in flight, or to be sent; no ``argv`` before it is sent first.
    script: Script = PUBLISH
    load: Iterable[Any] = ()
    argv: tuple[Any, ...] | None = None
    #: The confirmations that the publish in flight needs; mostly none.
    confirm: tuple[Confirmation, ...] = ()
    #: The link whose server was found able to confirm a write to disk, and how.
    probed: Any = None
    by_policy: bool = False

    def command(self, root: str) -> tuple[Any, ...]:
        """The call that publishes: numbered when it is sent first, the same from then on."""
        if self.argv is None:
            session = self.connection.session
            if session != self.session:
                self.session = self.name = session
                self.number = 0
            self.number += 1
            self.argv = (self.name, self.number, *self.load)
        return self.script.command(root, *self.argv)

    @property
    def is_probed(self) -> bool:
        """Whether the server of the open connection was asked if it can confirm."""
        return self.probed is not None and self.probed is self.connection.link


def plain(template: MessageTemplate, messages: Sequence[str | bytes]) -> Load:
    """The Load of publish_plain.lua: id, args and kwargs of each message in turn."""
    return PUBLISH_PLAIN, (*template.shared, *messages)


def full(publications: Iterable[Publication]) -> Load:
    """The Load of publish.lua, which takes every message."""
    return PUBLISH, tuple(chain.from_iterable(publications))


def answers_of(answer: Any) -> list[str]:
    """The queues of each message in a script's answer; one text if all have the same."""
    each = answer if isinstance(answer, list) else [answer]
    return list(map(text, each))
