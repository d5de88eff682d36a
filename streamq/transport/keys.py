"""The names of all keys; the scripts build the same ones with scripts/lua/includes/keys.lua."""

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
        """The root of the namespace, the only key that a script is given."""
        return f"{{{self.namespace}}}"

    @property
    def glob(self) -> str:
        """The root as a glob pattern: its special characters are escaped."""
        return re.sub(r"([\\*?\[])", r"\\\1", self.root)

    # Topology

    @property
    def exchanges(self) -> str:
        """Hash: exchange → type."""
        return f"{self.root}:exchanges"

    @property
    def alternates(self) -> str:
        """Hash: exchange → the alternate exchange, used where no binding of it matches."""
        return f"{self.root}:alternates"

    @property
    def queues(self) -> str:
        """Hash: queue → settings as JSON."""
        return f"{self.root}:queues"

    def bindings(self, exchange: str) -> str:
        """Hash: ``queue:NAME:KEY`` or ``exchange:NAME:KEY`` → arguments, as they were bound."""
        return f"{self.root}:bindings:{exchange}"

    def routes(self, exchange: str) -> str:
        """Hash: the index of these bindings; publishing reads no other key of them."""
        return f"{self.root}:routes:{exchange}"

    # Messages

    def queue(self, name: str, level: int | None = None) -> str:
        """Stream of a queue at a priority level; none and 0 mean the queue's own stream."""
        return f"{self.root}:queue:{name}:p{level}" if level else f"{self.root}:queue:{name}"

    def returned(self, name: str) -> str:
        """Stream of messages that were handed back or recovered: it is read first."""
        return f"{self.root}:queue:{name}:returned"

    def quarantine_stream(self, name: str) -> str:
        """Stream of messages that are suspected of crashes: each runs as a sole task."""
        return f"{self.root}:queue:{name}:quarantine"

    def streams(self, name: str, highest: int = HIGHEST_LEVEL) -> list[str]:
        """Every stream of a queue, in the order in which they are served."""
        levels = [self.queue(name, level) for level in range(highest, -1, -1)]
        return [self.quarantine_stream(name), self.returned(name), *levels]

    def task(self, id: str) -> str:
        """Hash: state, result, times and worker of one task."""
        return f"{self.root}:task:{id}"

    def dedup(self, id: str) -> str:
        """Text: where a message with a chosen id went, for the dedup window."""
        return f"{self.root}:dedup:{id}"

    def channel(self, channel: str) -> str:
        """Text: the last number and first id of a publisher channel, and the answer it got."""
        return f"{self.root}:publisher:{channel}"

    @property
    def scheduled(self) -> str:
        """Sorted set: scheduled messages, by the moment when they are due."""
        return f"{self.root}:scheduled"

    def later(self, name: str) -> str:
        """Hash: one scheduled message, and ``scheduled_for``, the stream it goes to."""
        return f"{self.root}:scheduled:{name}"

    @property
    def schedules(self) -> str:
        """Sorted set: schedules, by their next moment."""
        return f"{self.root}:schedules"

    def schedule(self, name: str) -> str:
        """Hash: one schedule as it is declared, and what became of its last run."""
        return f"{self.root}:schedule:{name}"

    def schedule_runs(self, name: str) -> str:
        """Stream: the last runs of a schedule."""
        return f"{self.root}:schedule:{name}:runs"

    @property
    def revoked(self) -> str:
        """Sorted set: revoked tasks whose message no worker has read yet, by their expiry."""
        return f"{self.root}:revoked"

    @property
    def queues_with_dead(self) -> str:
        """Set: the queues that have dead letters."""
        return f"{self.root}:dead"

    def dead(self, name: str) -> str:
        """Sorted set: the dead letters of a queue, by the time of their death."""
        return f"{self.root}:dead:{name}"

    def dead_letter(self, name: str, id: str) -> str:
        """Hash: one dead letter of a queue."""
        return f"{self.root}:dead:{name}:{id}"

    def early_waiters(self, id: str) -> str:
        """Text: the waiters of a task that has no record yet."""
        return f"{self.root}:waiters:{id}"

    def generation(self, id: str) -> str:
        """Text: the last generation of an id that keeps no record, from the second one on."""
        return f"{self.root}:generation:{id}"

    # Workers and waiters

    @property
    def notices(self) -> str:
        """Channel: notices to supervisors."""
        return f"{self.root}:notices"

    @property
    def terminating(self) -> str:
        """Sorted set: ``SIGNAL ID`` of running tasks that are to be terminated."""
        return f"{self.root}:terminating"

    @property
    def quarantine(self) -> str:
        """Set: the queues with quarantined messages."""
        return f"{self.root}:quarantine"

    @property
    def leases(self) -> str:
        """Sorted set: consumer → deadline by the server's clock."""
        return f"{self.root}:leases"

    @property
    def lease_ms(self) -> str:
        """Hash: consumer → how long its lease lasts, from each renewal."""
        return f"{self.root}:lease_ms"

    @property
    def group_scan(self) -> str:
        """Text, expires: exists until the groups are to be scanned again."""
        return f"{self.root}:group_scan"

    @property
    def orphans(self) -> str:
        """Sorted set, expires: consumers of a group that have no lease, and since when."""
        return f"{self.root}:orphans"

    def started(self, consumer: str) -> str:
        """Hash: marks of messages that a consumer acknowledged early and has not settled."""
        return f"{self.root}:started:{consumer}"

    def settled(self, consumer: str) -> str:
        """Text: the number of the last settlement of a consumer, and the answer it got."""
        return f"{self.root}:settled:{consumer}"

    def reply(self, name: str) -> str:
        """Stream: the ends of tasks that one waiting process is notified of."""
        return f"{self.root}:reply:{name}"

    @property
    def workers(self) -> str:
        """Sorted set: the nodes that are up, by the time when that ends without a renewal."""
        return f"{self.root}:workers"

    def worker(self, node: str) -> str:
        """Hash: what one node has stored about itself."""
        return f"{self.root}:worker:{node}"

    def script(self, name: str) -> str:
        """Hash: source, sha and protocol of a script, for producers in other languages."""
        return f"{self.root}:script:{name}"


def node_of(consumer: str) -> str:
    """The worker that a consumer ``NODE:PID:TOKEN`` belongs to."""
    return consumer.rsplit(":", 2)[0]
