"""Recovering what a dead consumer held, and keeping the living ones alive."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from streamq.store.client import Client
from streamq.store.keys import GROUP, Keys
from streamq.store.scripts import load

RECOVER = load("recover")
RENEW = load("renew")
RELEASE = load("release")

#: Messages that one call moves: a script during which Redis serves nobody else.
BUDGET = 100


@dataclass(slots=True)
class Recovered:
    """What became of a dead consumer's messages."""

    moved: int = 0
    lost: int = 0
    buried: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A consumer that is dead: what happened to it, and what it was running."""

    consumer: str
    reason: str
    charge: bool
    running: Sequence[tuple[str, bytes]] = field(default_factory=list)


class Recovery:
    """What a supervisor does for the consumers of its worker."""

    def __init__(
        self,
        client: Client,
        keys: Keys,
        *,
        streams: Sequence[str],
        max_deliveries: int,
        result_expires: float,
        dead: tuple[int, int],
    ) -> None:
        self.client = client
        self.keys = keys
        self.streams = list(streams)
        self.bounds = (max_deliveries, int(result_expires * 1000), *dead, BUDGET)

    def recover(self, case: Case) -> Recovered:
        """Fence the consumer and move everything it held; in bounded steps."""
        found = Recovered()
        running = [part for pair in case.running for part in pair]
        while True:
            moved, lost, buried, left = self.client.call(
                RECOVER,
                self.keys.root,
                *(case.consumer, case.reason, "1" if case.charge else "0", *self.bounds),
                *(len(case.running), *running, *self.streams),
            )
            found.moved += moved
            found.lost += lost
            found.buried += buried
            if not left:
                return found

    def held_after(self, consumer: str, stream: str, entry: bytes) -> list[bytes]:
        """The entries of a stream that a consumer holds and read after this one."""
        key, start = self.keys.queue(stream), b"(" + entry
        pending = self.client.ask("XPENDING", key, GROUP, start, "+", BUDGET, consumer)
        return [held[0] for held in pending]

    def release(self, consumer: str, stream: str, entries: Sequence[bytes]) -> int:
        """Hand back messages of a consumer that has not started them; return how many."""
        pairs = [part for entry in entries for part in (stream, entry)]
        return int(self.client.call(RELEASE, self.keys.root, consumer, *pairs))

    def renew(
        self, node: str, lease: float, consumers: Sequence[str], about: dict[str, object]
    ) -> list[str]:
        """Renew leases and say what the worker does; return the consumers that are fenced."""
        described = [part for name, value in about.items() for part in (name, str(value))]
        reply = self.client.call(
            RENEW, self.keys.root, node, int(lease * 1000), len(consumers), *consumers, *described
        )
        return [consumer.decode() for consumer in reply]

    def sign_off(self, node: str, pid: int) -> None:
        """Remove what the worker said about itself, unless another one has its name now."""
        owner = self.client.ask("HGET", self.keys.worker(node), "pid")
        if owner is not None and owner.decode() != str(pid):
            return
        self.client.ask_all([("ZREM", self.keys.workers, node), ("DEL", self.keys.worker(node))])
