"""The name of every key; the same names stand in scripts/lua/includes/keys.lua."""

import re
from dataclasses import dataclass
from functools import cached_property

#: The consumer group of every queue's streams.
GROUP = "workers"

#: The highest priority level there is; level 0 is the queue's own stream.
HIGHEST_LEVEL = 9


@dataclass(frozen=True)
class Keys:
    """The keys of one namespace, all in one hash slot."""

    namespace: str = "streamq"

    @cached_property
    def root(self) -> str:
        """What every script is given as its only key."""
        return f"{{{self.namespace}}}"

    @property
    def glob(self) -> str:
        """The root as patterns take it: what is special in them stands for itself."""
        return re.sub(r"([\\*?\[])", r"\\\1", self.root)

    # Topology

    @property
    def exchanges(self) -> str:
        """Hash: exchange → type."""
        return f"{self.root}:exchanges"

    @property
    def alternates(self) -> str:
        """Hash: exchange → the exchange to try where it matches nothing."""
        return f"{self.root}:alternates"

    @property
    def queues(self) -> str:
        """Hash: queue → settings as JSON."""
        return f"{self.root}:queues"

    def bindings(self, exchange: str) -> str:
        """Hash: ``queue:NAME:KEY`` or ``exchange:NAME:KEY`` → arguments, as they were bound."""
        return f"{self.root}:bindings:{exchange}"

    def routes(self, exchange: str) -> str:
        """Hash: the index of these bindings, which is all that publishing reads."""
        return f"{self.root}:routes:{exchange}"

    # Messages

    def queue(self, name: str, level: int | None = None) -> str:
        """Stream of a queue at a priority level; none and 0 mean the queue's own stream."""
        return f"{self.root}:queue:{name}:p{level}" if level else f"{self.root}:queue:{name}"

    def returned(self, name: str) -> str:
        """Stream of what was handed back or recovered: it goes first."""
        return f"{self.root}:queue:{name}:returned"

    def suspected(self, name: str) -> str:
        """Stream of what crashed too often beside others, and is to be run alone."""
        return f"{self.root}:queue:{name}:suspects"

    def streams(self, name: str, highest: int = HIGHEST_LEVEL) -> list[str]:
        """Every stream of a queue, in the order in which they are served."""
        levels = [self.queue(name, level) for level in range(highest, -1, -1)]
        return [self.suspected(name), self.returned(name), *levels]

    def task(self, id: str) -> str:
        """Hash: state, result, times and worker of one task."""
        return f"{self.root}:task:{id}"

    def dedup(self, id: str) -> str:
        """Text: where a message with a chosen id went, for the dedup window."""
        return f"{self.root}:dedup:{id}"

    def lane(self, lane: str) -> str:
        """Text: the last number a producer published under, and the answer it got."""
        return f"{self.root}:lane:{lane}"

    @property
    def scheduled(self) -> str:
        """Sorted set: messages for later, by the moment when they are due."""
        return f"{self.root}:scheduled"

    def later(self, name: str) -> str:
        """Hash: one message for later, and ``scheduled_for``, the stream it goes to."""
        return f"{self.root}:scheduled:{name}"

    @property
    def revoked(self) -> str:
        """Sorted set: tasks that are revoked and whose message has not been met."""
        return f"{self.root}:revoked"

    @property
    def graveyards(self) -> str:
        """Set: the queues that have dead letters."""
        return f"{self.root}:dead"

    def dead(self, name: str) -> str:
        """The dead letters of a queue."""
        return f"{self.root}:dead:{name}"

    def dead_letter(self, name: str, id: str) -> str:
        """One dead letter of a queue."""
        return f"{self.root}:dead:{name}:{id}"

    def wish(self, id: str) -> str:
        """Text: who asked for a task before there was a record of it."""
        return f"{self.root}:wish:{id}"

    def generation(self, id: str) -> str:
        """Text: the last number of an id that keeps no record, where it is used again."""
        return f"{self.root}:generation:{id}"

    # Workers and waiters

    @property
    def bell(self) -> str:
        """Channel: what supervisors should know at once."""
        return f"{self.root}:bell"

    @property
    def terminating(self) -> str:
        """Sorted set: ``SIGNAL ID`` of running tasks that are to be stopped."""
        return f"{self.root}:terminating"

    @property
    def suspects(self) -> str:
        """Set: queues with messages that are to be run alone."""
        return f"{self.root}:suspects"

    @property
    def leases(self) -> str:
        """Sorted set: consumer → deadline by the server's clock."""
        return f"{self.root}:leases"

    @property
    def lease_ms(self) -> str:
        """Hash: consumer → how long its lease lasts, from each renewal."""
        return f"{self.root}:lease_ms"

    @property
    def survey(self) -> str:
        """Text, expires: there while nobody needs to look at the groups again."""
        return f"{self.root}:survey"

    @property
    def orphans(self) -> str:
        """Sorted set, expires: consumers that a group knows and no lease, since when."""
        return f"{self.root}:orphans"

    def started(self, consumer: str) -> str:
        """Hash: what a consumer acknowledged early and has not finished."""
        return f"{self.root}:started:{consumer}"

    def settled(self, consumer: str) -> str:
        """The last settle call of a consumer, and the answer it got."""
        return f"{self.root}:settled:{consumer}"

    def reply(self, name: str) -> str:
        """Stream: tells one waiting process which tasks have ended."""
        return f"{self.root}:reply:{name}"

    @property
    def workers(self) -> str:
        """The nodes that are up."""
        return f"{self.root}:workers"

    def worker(self, node: str) -> str:
        """What one node says about itself."""
        return f"{self.root}:worker:{node}"

    def script(self, name: str) -> str:
        """Hash: source, sha and protocol of a script, for producers in other languages."""
        return f"{self.root}:script:{name}"


def node_of(consumer: str) -> str:
    """The worker that a consumer ``NODE:PID:TOKEN`` belongs to."""
    return consumer.rsplit(":", 2)[0]
