"""Results: what the record of a task says, and waiting for it to say the end."""

from collections.abc import Callable

from streamq.acl.rights import require
from streamq.broker.aio import AsyncStore, AsyncStores
from streamq.broker.waiter import Record, Waits, as_record
from streamq.transport.client import Client
from streamq.transport.keys import Keys
from streamq.transport.scripts import load

FORGET = load("forget")
REVOKE = load("revoke")
PROGRESS = load("progress")

#: Milliseconds for which supervisors look for a task that is to be stopped.
TERM_MS = 60_000


class Results:
    """Reads records, waits for them, forgets them."""

    def __init__(
        self,
        client: Client,
        keys: Keys,
        loops: AsyncStores,
        lives: Callable[[], tuple[float, float]],
    ) -> None:
        #: How long a record and a revocation are kept, in seconds.
        self.lives = lives
        self.client = client
        self.keys = keys
        self.loops = loops
        self.waits = Waits(client, keys)

    @property
    def asyncio(self) -> AsyncStore:
        """What the running event loop uses."""
        return self.loops.here()

    def record(self, id: str) -> Record:
        """The record of a task as it is now; empty if there is none."""
        return as_record(self.client.ask("HGETALL", self.keys.task(id)))

    def records(self, ids: list[str]) -> list[Record]:
        """The records of several tasks in one round trip."""
        commands = [("HGETALL", self.keys.task(id)) for id in ids]
        return [as_record(reply) for reply in self.client.ask_all(commands)]

    def revoke(self, ids: list[str], signal: str) -> None:
        """Keep tasks from starting; with a ``signal``, stop those that run.

        Raises ConfigError if the user of the URL may not.
        """
        require("revoke", self.client, self.keys)
        life = (int(self.lives()[0] * 1000), int(self.lives()[1] * 1000))
        for id in ids:
            self.client.call(REVOKE, self.keys.root, id, *life, signal, TERM_MS)

    def forget(self, ids: list[str]) -> None:
        """Remove records, and end the waits for them.

        Raises ConfigError if the user of the URL may not.
        """
        require("forget", self.client, self.keys)
        for id in ids:
            self.client.call(FORGET, self.keys.root, id)

    def tell(self, consumer: str, name: bytes, state: str, meta: bytes, content_type: str) -> None:
        """Write a state that a task named which this consumer runs, if it still does."""
        self.client.call(PROGRESS, self.keys.root, consumer, name, state, meta, content_type)
