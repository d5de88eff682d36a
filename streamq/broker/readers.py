"""Readers: which queues are read by the workers that are up.

Two round trips: the nodes with the ends of their leases, then what each node has stored about
itself.  A user who may not read that gets no answer.
"""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from streamq.errors import BrokerUnavailable
from streamq.transport.client import Client
from streamq.transport.decode import text, texts
from streamq.transport.keys import Keys

#: The queues that each worker reads, by its name, in one text with spaces between them.
Readers = Mapping[str, str]

Commands = list[tuple[Any, ...]]


def first_commands(keys: Keys) -> Commands:
    """The commands whose replies ``nodes_up`` takes."""
    return [("ZRANGE", keys.workers, 0, -1, "WITHSCORES"), ("TIME",)]


def nodes_up(replies: Sequence[Any]) -> list[str] | None:
    """The nodes whose lease has not ended; None if the user may not read them."""
    seen, time = replies
    if is_refused(seen) or is_refused(time):
        return None
    now = int(time[0]) * 1000 + int(time[1]) / 1000
    return [node for node, until in texts(seen).items() if float(until) > now]


def is_refused(reply: Any) -> bool:
    return reply is None or isinstance(reply, Exception)


def next_commands(keys: Keys, nodes: Iterable[str]) -> Commands:
    """The commands whose replies ``readers_in`` takes."""
    return [("HGET", keys.worker(node), "queues") for node in nodes]


def readers_in(nodes: Sequence[str], replies: Sequence[Any]) -> Readers | None:
    """The queues of these nodes; None if the user may not read them."""
    if any(isinstance(reply, Exception) for reply in replies):
        return None
    listed = [text(reply or b"") for reply in replies]
    return dict(zip(nodes, listed, strict=True))


def readers(client: Client, keys: Keys) -> Readers | None:
    """The workers that are up, with the queues they read; None if that cannot be learnt."""
    try:
        nodes = nodes_up(client.try_all(first_commands(keys)))
        if nodes is None:
            return None
        return readers_in(nodes, client.try_all(next_commands(keys, nodes)))
    except BrokerUnavailable:
        return None


def count_readers(queue: str, readers: Readers) -> int:
    """The number of workers that read a queue."""
    return sum(f" {queue} " in f" {names} " for names in readers.values())


def is_unread(queue: str, readers: Readers | None) -> bool:
    """Whether it is known that no worker reads a queue."""
    return readers is not None and not count_readers(queue, readers)


def advice_to_read(queue: str) -> str:
    """What to do about a queue that no worker reads."""
    return f"no worker reads {queue}: streamq worker -Q {shlex.quote(queue)}"
