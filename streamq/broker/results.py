"""Results: the records of tasks, waiting for their end, revoking and forgetting."""

from collections.abc import Callable

from streamq.acl.rights import require
from streamq.broker.aio import AsyncBroker, AsyncBrokers
from streamq.broker.readers import Readers, readers
from streamq.broker.waiter import Record, Waiter, as_record
from streamq.transport.client import Client
from streamq.transport.keys import Keys
from streamq.transport.scripts import load

FORGET_RESULT = load("forget_result")
REVOKE = load("revoke")
UPDATE_STATE = load("update_state")

#: Milliseconds for which supervisors look for a task that is to be terminated.
TERM_MS = 60_000


class Results:
    """The results of one namespace: reads, changes and deletes the records of tasks."""

    def __init__(
        self,
        client: Client,
        keys: Keys,
        loops: AsyncBrokers,
        lifetimes: Callable[[], tuple[float, float]],
    ) -> None:
        #: Returns how long a record and a revocation are kept, in seconds.
        self.lifetimes = lifetimes
        self.client = client
        self.keys = keys
        self.loops = loops
        self.waiter = Waiter(client, keys)

    @property
    def asyncio(self) -> AsyncBroker:
        """The broker of the running event loop."""
        return self.loops.current()

    def record(self, id: str) -> Record:
        """The record of a task as it is now; empty if there is none."""
        return as_record(self.client.ask("HGETALL", self.keys.task(id)))

    def records(self, ids: list[str]) -> list[Record]:
        """The records of several tasks in one round trip."""
        commands = [("HGETALL", self.keys.task(id)) for id in ids]
        return [as_record(reply) for reply in self.client.ask_all(commands)]

    def readers(self) -> Readers | None:
        """The workers that are up, with the queues they read; None if that cannot be learnt."""
        return readers(self.client, self.keys)

    def revoke(self, ids: list[str], signal: str) -> None:
        """Keep tasks from starting; with a ``signal``, stop those that run.

        Raises ConfigError if the user of the URL may not.
        """
        require("revoke", self.client, self.keys)
        record, revocation = (int(seconds * 1000) for seconds in self.lifetimes())
        for id in ids:
            self.client.call(REVOKE, self.keys.root, id, record, revocation, signal, TERM_MS)

    def forget(self, ids: list[str]) -> None:
        """Remove records, and end the waits for them.

        Raises ConfigError if the user of the URL may not.
        """
        require("forget", self.client, self.keys)
        for id in ids:
            self.client.call(FORGET_RESULT, self.keys.root, id)

    def update_state(
        self, consumer: str, name: bytes, state: str, meta: bytes, content_type: str
    ) -> None:
        """Write a state that a task has set, if this consumer still runs it."""
        self.client.call(UPDATE_STATE, self.keys.root, consumer, name, state, meta, content_type)
