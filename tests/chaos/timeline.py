"""The timeline: a history's calls, runs, settlements, records and faults, indexed, not judged."""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tests.chaos.history import Event
from tests.chaos.workload import KINDS, Kind


@dataclass(slots=True)
class Call:
    """A call of a producer, and the answers that it got."""

    number: int
    kind: Kind
    invoked: float
    accepted: float = math.inf
    ids: set[str] = field(default_factory=set)
    revoked: bool = False


@dataclass(slots=True)
class Run:
    """One run of a task, as the task recorded it, with its settlement if one was recorded."""

    number: int
    kind: str
    id: str
    token: str
    entry: str
    pid: int
    worker: str
    deliveries: int
    retries: int
    start: float
    how: str = ""
    settled: float = math.inf
    accepted: str = ""
    until: float = 0.0

    @property
    def ended(self) -> bool:
        return bool(self.how)

    @property
    def added(self) -> float:
        """When its entry was added, by the server's clock in seconds."""
        return int(self.entry.split(" ")[1].split("-")[0]) / 1000


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that was injected for a time; ``pids`` None is every process of the worker."""

    fault: str
    began: float
    ended: float
    explains: str
    worker: str = ""
    pids: tuple[int, ...] | None = None
    outage: bool = False

    def affects(self, worker: str, pid: int) -> bool:
        """Whether the fault may end or fence this process.

        ``worker`` is the name of the worker, with or without the number of its start.
        """
        if self.explains == "all":
            return True
        if self.explains != "runs" or worker not in (self.worker, self.worker.split(".")[0]):
            return False
        return self.pids is None or pid in self.pids


@dataclass(slots=True)
class Settled:
    """The answer to the settlement of one message."""

    consumer: str
    sent: float
    at: float
    id: str
    entry: str
    meaning: str
    accepted: bool


class Timeline:
    """All that a history holds, indexed by call, task id, token and stream entry."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.lease, self.rate = 1.0, 0.0
        self.produced = (math.inf, -math.inf)
        self.calls: dict[int, Call] = {}
        self.runs: dict[str, list[Run]] = defaultdict(list)
        self.by_token: dict[str, Run] = {}
        self.by_entry: dict[str, list[Run]] = defaultdict(list)
        self.settled: list[Settled] = []
        self.deaths: list[tuple[str, float]] = []
        self.records: dict[str, Event] = {}
        self.letters: dict[str, Event] = {}
        self.reported: list[Event] = []
        self.faults: list[Fault] = []
        self.complaints: list[str] = []
        self.unknown = 0
        for event in events:
            getattr(self, "on_" + event["what"].replace(" ", "_"), self.ignore)(event)
        self.finish()

    def ignore(self, event: Event) -> None:
        """Skip an event that is only there for readers."""

    def on_begin(self, event: Event) -> None:
        self.lease = event["lease"]

    def on_producing(self, event: Event) -> None:
        self.rate, self.produced = event["rate"], (event["at"], math.inf)

    def on_enough(self, event: Event) -> None:
        self.produced = (self.produced[0], event["at"])

    def on_invoked(self, event: Event) -> None:
        number, kind = event["number"], KINDS[event["kind"]]
        self.calls.setdefault(number, Call(number, kind, event["at"]))

    def on_accepted(self, event: Event) -> None:
        call = self.calls[event["number"]]
        call.ids.add(event["id"])
        call.accepted = min(call.accepted, event["at"])

    def on_unknown(self, event: Event) -> None:
        self.unknown += 1

    def on_revoked(self, event: Event) -> None:
        self.calls[event["number"]].revoked = True

    def on_start(self, event: Event) -> None:
        facts = {name: event[name] for name in Run.__slots__ if name in event}
        run = Run(**facts, start=event["at"])
        self.runs[run.id].append(run)
        self.by_token[run.token] = run
        self.by_entry[run.entry].append(run)
        if event["kind"] == "poison":
            at = event["at"]
            self.faults.append(Fault("poison", at, at, "runs", run.worker, (run.pid,)))

    def on_end(self, event: Event) -> None:
        if run := self.by_token.get(event["token"]):
            run.how = event["how"]

    def on_settled(self, event: Event) -> None:
        for id, entry, meaning, accepted in event["answers"]:
            one = Settled(
                event["consumer"], event["sent"], event["at"], id, entry, meaning, accepted
            )
            self.settled.append(one)
            for run in self.by_entry.get(entry, ()):
                run.settled = min(run.settled, event["at"])
                if accepted:
                    run.accepted = meaning

    def on_declared_dead(self, event: Event) -> None:
        self.deaths.append((event["consumer"], event["at"]))

    def on_record(self, event: Event) -> None:
        self.records[event["id"]] = event

    def on_letter(self, event: Event) -> None:
        self.letters[event["id"]] = event

    def on_reported(self, event: Event) -> None:
        self.reported.append(event)

    def on_fault(self, event: Event) -> None:
        pids: Any = event.get("pids")
        self.faults.append(
            Fault(
                event["fault"],
                event["began"],
                event["at"],
                event["explains"],
                event.get("worker", ""),
                None if pids is None else tuple(pids),
                event.get("outage", False),
            )
        )

    def on_complaint(self, event: Event) -> None:
        self.complaints.append(event["says"])

    def finish(self) -> None:
        """Set the end of each run: the moment of its settlement, else the start of the next run.

        The last one, if it was not settled, ended with its task at the latest.
        """
        for id, runs in self.runs.items():
            for run, following in zip(runs, [*runs[1:], None], strict=True):
                otherwise = following.start if following is not None else self.finished(id)
                run.until = run.settled if run.settled < math.inf else max(otherwise, run.start)
        self.explaining = [fault for fault in self.faults if fault.explains != "nothing"]

    def finished(self, id: str) -> float:
        """The moment when a task ended, as its record says it; -inf if that is not known.

        The server's clock is compared with this one by the entries: none starts before it exists.
        """
        told = self.records.get(id, {}).get("finished")
        return int(told) / 1000 + self.ahead if told else -math.inf

    @cached_property
    def ahead(self) -> float:
        """By how many seconds this clock is ahead of the server's."""
        runs = (run for runs in self.runs.values() for run in runs)
        return min((run.start - run.added for run in runs), default=0.0)

    def copies(self, call: Call) -> list[str]:
        """The ids of the tasks that an accepted call became."""
        ids = sorted(call.ids)
        if call.kind.copies:
            return [f"{id}@{queue}" for id in ids for queue in call.kind.copies]
        if call.kind.dead_letter_queue:
            return [*ids, *(f"{id}@{call.kind.dead_letter_queue}" for id in ids)]
        return ids

    def explained(self, run: Run) -> bool:
        """Whether a fault of its worker explains that this run is not the only one.

        A fault that ended up to one lease before counts too: a worker that was frozen may start
        a run before it learns that it was declared dead.
        """
        return any(
            fault.affects(run.worker, run.pid)
            and fault.began <= run.until
            and fault.ended + self.lease >= run.start
            for fault in self.explaining
        )

    def faults_between(self, begin: float, end: float) -> int:
        """The number of explaining faults that overlap a time span."""
        return sum(
            fault.began <= end and fault.ended + 4 * self.lease >= begin
            for fault in self.explaining
        )
