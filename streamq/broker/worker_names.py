"""The names of workers: who has one, and taking one that is free."""

from dataclasses import dataclass

from streamq.transport.client import Client
from streamq.transport.decode import text
from streamq.transport.keys import Keys
from streamq.transport.scripts import load

CLAIM = load("claim")


@dataclass(frozen=True, slots=True)
class Owner:
    """The worker that has a name: its process, and the place where that is."""

    host: str
    pid: str
    place: str


class Nodes:
    """What workers of one namespace are called."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def claim(self, node: str, me: Owner, lease: float, gone: Owner | None = None) -> Owner | None:
        """Take a name until the first renewal; None if it is ours now, else who has it.

        ``gone`` had it, and is known not to live any more.
        """
        predecessor = (gone.pid, gone.place) if gone else ("", "")
        argv = (node, int(lease * 1000), me.host, me.pid, me.place, *predecessor)
        answer = self.client.call(CLAIM, self.keys.root, *argv)
        return Owner(*map(text, answer)) if answer else None

    def owner(self, node: str) -> Owner | None:
        """Who has this name, by what it said of itself."""
        found = self.client.ask("HMGET", self.keys.worker(node), "host", "pid", "place")
        host, pid, place = (text(value or b"") for value in found)
        return Owner(host, pid, place) if host or pid else None

    def sign_off(self, node: str, me: Owner) -> None:
        """Remove what the worker said about itself, unless another one has its name now."""
        owner = self.owner(node)
        if owner is None or (owner.pid, owner.place) == (me.pid, me.place):
            self.client.ask_all(
                [("ZREM", self.keys.workers, node), ("DEL", self.keys.worker(node))]
            )
