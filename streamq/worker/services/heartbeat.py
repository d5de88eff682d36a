"""Heartbeat: a worker renews the leases of its runners, and reports its queues and what it runs."""

import logging
import os
import platform
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import streamq
from streamq.broker.leases import Leases
from streamq.broker.recovery import Recovery
from streamq.broker.worker_names import NameOwner, WorkerNames
from streamq.core.text import first_few
from streamq.errors import ConfigError
from streamq.host import clock
from streamq.runner.shared_memory import RunningTask
from streamq.transport.replies import Refused
from streamq.worker.identity import Life, life_of, place
from streamq.worker.lease_view import LeaseViews
from streamq.worker.patterns import expand
from streamq.worker.processes import RunnerProcess, RunnerProcesses
from streamq.worker.services.crash_recovery import CrashRecovery
from streamq.worker.services.service import Service
from streamq.worker.services.services import Services

logger = logging.getLogger("streamq.worker")

#: Running tasks that are named; the rest are counted.
MOST_NAMED = 20


def node_name(pattern: str, host: str | None = None) -> str:
    """Expand ``%h`` (host name), ``%n`` (its first part) and ``%d`` (its domain).

    Their percent signs may be doubled (``%%h``), as files of systemd and supervisord have them.
    """
    full = host or socket.gethostname()
    if any(char in ":{}" or char < " " for char in pattern):
        raise ConfigError(
            f"a worker cannot be named {pattern!r}",
            known={
                "allowed": "text without : { } and control characters; %h %n %d stand for the host"
            },
        )
    name, _, domain = full.partition(".")
    found = expand(pattern, {"%h": full, "%n": name, "%d": domain})
    return found if "@" in found else f"{found}@{full}"


def claim_name(node: str, nodes: WorkerNames, lease: float) -> str:
    """Claim this name for this worker, or a numbered one if a worker has it that may be living.

    Returns the claimed name.  Two workers of one name would look like one: each would replace what
    the other reports.
    """
    name, _, host = node.partition("@")
    for number in range(1, 1000):
        candidate = node if number == 1 else f"{name}-{number}@{host}"
        owner = nodes.claim(candidate, this_worker(), lease)
        if owner is not None and is_gone(owner):
            owner = nodes.claim(candidate, this_worker(), lease, gone=owner)
        if owner is None:
            if number > 1:
                logger.warning("another worker is named %s; this one is called %s", node, candidate)
            return candidate
    return node


def this_worker() -> NameOwner:
    """The owner of a name that this process is."""
    return NameOwner(socket.gethostname(), str(os.getpid()), place())


def is_gone(owner: NameOwner) -> bool:
    """Whether the worker that has a name is known not to run any more."""
    if not (owner.pid.isascii() and owner.pid.isdigit()):
        return owner.place == place()  # no process has such a number
    return life_of(int(owner.pid), owner.place) is Life.GONE


def is_up(node: str, nodes: WorkerNames) -> bool:
    """Whether another worker that has this name may still be running."""
    owner = nodes.owner(node)
    ours = owner is not None and (owner.pid, owner.place) == (str(os.getpid()), place())
    return owner is not None and not ours and not is_gone(owner)


class Heartbeat(Service):
    """The service that renews leases, which brings news for all services.

    It is the only urgent one: it also runs between two others.
    """

    urgent = True
    moment = 0.0

    def __init__(
        self,
        leases: Leases,
        report: "WorkerReport",
        views: LeaseViews,
        processes: RunnerProcesses,
        crash_recovery: CrashRecovery,
        services: Services,
    ) -> None:
        self.leases = leases
        self.report = report
        self.views = views
        self.processes = processes
        self.crash_recovery = crash_recovery
        self.services = services
        #: How many runners that cannot start the last renewal reported.
        self.reported_cannot_start = 0

    def begin(self) -> None:
        """Show the worker in Redis; the first round does so again, with its runners."""
        self.renew()
        self.moment = 0.0

    def due(self) -> float:
        """A third of a lease after the last time; at once if more or fewer runners cannot start.

        So commands which list workers show it.
        """
        changed = self.processes.cannot_start != self.reported_cannot_start
        return 0.0 if changed else self.moment

    def run(self) -> None:
        """Renew the leases; after an error, again ``retry_interval`` later."""
        self.moment = clock.monotonic() + self.services.retry_interval
        try:
            self.renew()
        except Refused:
            # A supervisor that cannot renew must not judge others that cannot.
            self.services.on_disconnect()
            raise

    def renew(self) -> None:
        """Renew the runners' leases, report what they run, and pass on the news.

        The lease of a runner that cannot reach Redis itself runs out: what it holds is
        better run by others.
        """
        children, lease = list(self.processes.children.values()), self.views.own.lease
        connected = [child for child in children if child.slots.unreachable < lease]
        self.reported_cannot_start = self.processes.cannot_start
        counts = {**self.crash_recovery.counts(), "cannot_start": self.reported_cannot_start}
        fields = self.report.fields(children, counts, self.time_is_up)
        consumers = [*self.crash_recovery.consumers(), *(child.consumer for child in connected)]
        news = self.leases.renew(self.report.node, consumers, fields)
        self.moment = news.received + lease / 3
        self.views.record_answer(news.now, sent=news.sent, now=news.received)
        self.services.on_renewal(news)

    def finish(self) -> None:
        """Remove what the worker has reported."""
        self.report.sign_off()


@dataclass(slots=True)
class WorkerReport:
    """The report of one worker on itself, which it writes with each renewal of its leases."""

    node: str
    pool: str
    concurrency: int
    queues: Sequence[str]
    tasks: Collection[str]
    recovery: Recovery
    #: Gives the revisions of the schedules that it fires; None if it is to fire none.
    schedules: Callable[[], Collection[str]] | None = None
    #: How many priority levels it reads of each queue.
    levels: Mapping[str, int] = field(default_factory=dict)
    started: int = field(default_factory=lambda: int(clock.time() * 1000))

    def fields(
        self,
        children: Sequence[RunnerProcess],
        counts: Mapping[str, object],
        time_is_up: Callable[[], bool],
    ) -> dict[str, object]:
        """The fields that Redis keeps for as long as the worker renews them.

        Reads the titles of what runs, from Redis, until ``time_is_up``.
        """
        described: dict[str, object] = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "place": place(),
            "pool": self.pool,
            "concurrency": self.concurrency,
            "queues": " ".join(self.queues),
            "levels": " ".join(f"{queue}:{most}" for queue, most in self.levels.items()),
            "started": self.started,
            "streamq": streamq.__version__,
            "python": platform.python_version(),
            **({} if self.schedules is None else {"schedules": " ".join(self.schedules())}),
            **counts,
            **dict.fromkeys((f"task:{name}" for name in self.tasks), 1),
        }
        for child in children:
            described[f"runner:{child.pid}"] = self.describe(child, titled=not time_is_up())
        return described

    def sign_off(self) -> None:
        """Remove what the worker has reported."""
        WorkerNames(self.recovery.client, self.recovery.keys).sign_off(self.node, this_worker())

    def describe(self, child: RunnerProcess, *, titled: bool) -> str:
        """What a runner is running and for how long, or ``idle``; with titles or without."""
        running = sorted(child.slots.running(), key=lambda each: -each.since)
        if not running:
            return "idle"
        shown = running[:MOST_NAMED]
        titles = self.titles(child, shown) if titled else ["a task"] * len(shown)
        named = [f"{title} {each.since:.1f} s" for title, each in zip(titles, shown, strict=True)]
        return first_few(named, MOST_NAMED, total=len(running))

    def titles(self, child: RunnerProcess, running: Sequence[RunningTask]) -> list[str]:
        """The titles of these tasks, as the log has them; "a task" if Redis refuses."""
        places = [(child.consumer, (child.streams[each.stream], each.entry)) for each in running]
        with suppress(Refused):
            found = self.recovery.deliveries(places)
            return [each.title if each is not None else "a task" for each in found]
        return ["a task"] * len(running)
