"""The names of workers: which worker has one, and claiming one that is free."""

from dataclasses import dataclass

from streamq.transport.client import Client
from streamq.transport.decode import text
from streamq.transport.keys import Keys
from streamq.transport.scripts import load

CLAIM = load("claim")


@dataclass(frozen=True, slots=True)
class NameOwner:
    """The worker that has a name: its process, and the place where it runs."""

    host: str
    pid: str
    place: str


class WorkerNames:
    """The names of the workers of one namespace."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def claim(
        self, node: str, me: NameOwner, lease: float, gone: NameOwner | None = None
    ) -> NameOwner | None:
        """Claim a name until the first renewal; None on success, else the worker that has it.

        ``gone`` had the name, and is known to be dead.
        """
        predecessor = (gone.pid, gone.place) if gone else ("", "")
        argv = (node, int(lease * 1000), me.host, me.pid, me.place, *predecessor)
        answer = self.client.call(CLAIM, self.keys.root, *argv)
        return NameOwner(*map(text, answer)) if answer else None

    def owner(self, node: str) -> NameOwner | None:
        """The worker that has this name, by what it has stored about itself."""
        found = self.client.ask("HMGET", self.keys.worker(node), "host", "pid", "place")
        host, pid, place = (text(value or b"") for value in found)
        return NameOwner(host, pid, place) if host or pid else None

    def sign_off(self, node: str, me: NameOwner) -> None:
        """Remove what the worker has stored about itself, unless another one has its name now."""
        owner = self.owner(node)
        if owner is None or (owner.pid, owner.place) == (me.pid, me.place):
            self.client.ask_all(
                [("ZREM", self.keys.workers, node), ("DEL", self.keys.worker(node))]
            )
