"""Recovery: the commands of a supervisor for what consumers hold, dead or alive."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from streamq.broker.consumer import Place, fields_of_mark, held_command, places_of, settle_arguments
from streamq.broker.scheduled import BUDGET
from streamq.core.delivery import Delivery
from streamq.core.outcome import Outcome
from streamq.transport.client import Client
from streamq.transport.decode import text
from streamq.transport.keys import Keys
from streamq.transport.replies import Refused
from streamq.transport.scripts import Script, load

RECOVER = load("recover")
RELEASE = load("release")
FOLLOW = load("follow")


@dataclass(slots=True)
class RecoveryResult:
    """What became of a dead consumer's messages; ``left`` says whether it holds more."""

    moved: int = 0
    lost: int = 0
    dead_lettered: int = 0
    quarantined: int = 0
    left: bool = False

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """How many were handed back, failed as WorkerLost, were dead-lettered, quarantined."""
        return self.moved, self.lost, self.dead_lettered, self.quarantined

    def __add__(self, later: "RecoveryResult") -> "RecoveryResult":
        """The result of both: of some steps, and of the step after them."""
        return RecoveryResult(
            self.moved + later.moved,
            self.lost + later.lost,
            self.dead_lettered + later.dead_lettered,
            self.quarantined + later.quarantined,
            later.left,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryRequest:
    """A consumer that is dead: what happened to it, and what it was running.

    ``blame`` is sole_task, suspected, none or kept, as recover.lua says.  ``running`` is None
    if that is unknown.  Other workers than its own give the ``deadline`` that they saw, and the
    time of the server that they ``expect``, within the ``tolerance`` (seconds).  ``streams`` are
    all that it can have read; empty if that is unknown.
    """

    consumer: str
    reason: str
    blame: str
    running: Sequence[Place] | None = field(default_factory=list)
    streams: Sequence[str] = ()
    deadline: str = ""
    expect: float | None = None
    tolerance: float = 0.0


class Recovery:
    """The recovery commands of a supervisor, for its own consumers and those of dead workers."""

    def __init__(
        self,
        client: Client,
        keys: Keys,
        *,
        max_deliveries: int,
        result_expires: float,
        dead: tuple[int, int],
    ) -> None:
        self.client = client
        self.keys = keys
        self.dead = dead
        self.expires = int(result_expires * 1000)
        self.bounds = (max_deliveries, self.expires, *dead, BUDGET)

    def call(self, script: Script, *argv: Any) -> Any:
        """Run a script in the namespace."""
        return self.client.call(script, self.keys.root, *argv)

    def recover(self, request: RecoveryRequest) -> RecoveryResult | None:
        """Move some of what the consumer held; end its lease if nothing is left.

        None if it is alive after all, or the server's clock has jumped: then nothing was done.
        """
        running = [part for place in request.running or () for part in place]
        count = "*" if request.running is None else len(request.running)
        expect = "" if request.expect is None else int(request.expect * 1000)
        identity = (request.consumer, request.deadline, expect, int(request.tolerance * 1000))
        about = (request.reason, request.blame, *self.bounds, count, *running, *request.streams)
        answer = self.call(RECOVER, *identity, *about)
        moved, lost, dead_lettered, quarantined, left = answer
        if left < 0:
            return None
        return RecoveryResult(moved, lost, dead_lettered, quarantined, bool(left))

    def settle(self, consumer: str, outcomes: list[Outcome]) -> None:
        """Settle in the name of a runner that was stopped, before its lease ends.

        The call has a word for its number: sent again, it changes nothing.  Raises Refused if
        one of the messages cannot be settled now.
        """
        argv = settle_arguments(consumer, "forced_end", outcomes, self.dead)
        answer = self.call(FOLLOW, *argv)
        if b" " in answer:
            raise Refused(text(answer.partition(b" ")[2]))

    def deliveries(self, places: Sequence[tuple[str, Place]]) -> list[Delivery | None]:
        """The messages that consumers hold in these places; None for one that is gone."""
        commands: list[tuple[Any, ...]] = []
        for consumer, (stream, entry) in places:
            commands.append(("XRANGE", self.keys.queue(stream), entry, entry))
            commands.append(("HGET", self.keys.started(consumer), f"{stream} {entry.decode()}"))
        replies = iter(self.client.ask_all(commands))
        return [
            delivery_of(stream, entry, found, mark)
            for (_, (stream, entry)), found, mark in zip(places, replies, replies, strict=True)
        ]

    def requested_signals(self, ids: Sequence[str], signals: Sequence[str]) -> list[list[str]]:
        """With which of these signals each of these tasks is to be terminated."""
        if not ids:
            return []
        answers = self.client.ask_all(
            [
                ("ZMSCORE", self.keys.terminating, *(f"{name} {id}" for id in ids))
                for name in signals
            ]
        )
        return [
            [name for name, score in zip(signals, scores, strict=True) if score is not None]
            for scores in zip(*answers, strict=True)
        ]

    def held_after(self, consumer: str, stream: str, entry: bytes) -> list[Place]:
        """The places of a stream that a consumer holds and read after this entry."""
        return self.held(consumer, [stream], BUDGET, b"(" + entry)

    def held(
        self, consumer: str, streams: Sequence[str], most: int, start: bytes = b"-"
    ) -> list[Place]:
        """The places of these streams that a consumer holds, at most ``most`` of each."""
        asked = [held_command(self.keys.queue(each), consumer, most, start) for each in streams]
        return places_of(streams, self.client.try_all(asked))

    def release(self, consumer: str, places: Sequence[Place]) -> int:
        """Hand back some messages that a consumer has not started; return how many."""
        argv = [part for place in places[:BUDGET] for part in ("late", *place)]
        return int(self.call(RELEASE, consumer, self.expires, *argv))


def recover_in_steps(
    recovery: Recovery, request: RecoveryRequest
) -> Generator[None, None, RecoveryResult | None]:
    """Move everything that the consumer held, and end its lease; yields between two calls.

    Returns the result of all calls; None if the consumer is alive after all, or the server's
    clock has jumped.
    """
    total = RecoveryResult()
    while True:
        step = recovery.recover(request)
        if step is None:
            return None
        total += step
        if not total.left:
            return total
        deadline = "none" if request.deadline else ""  # the first call has ended the lease
        request = replace(request, deadline=deadline, expect=None, tolerance=0.0)
        yield


def delivery_of(stream: str, entry: bytes, found: Any, mark: bytes | None) -> Delivery | None:
    """The message of an entry, or of the mark of an early one.  None if there is neither."""
    fields = fields_of_mark(mark) if mark is not None else None
    if fields is not None:
        delivery = Delivery(stream, entry, fields)
        delivery.early = True
        return delivery
    if not found:
        return None
    flat = found[0][1]
    return Delivery(stream, entry, dict(zip(flat[::2], flat[1::2], strict=True)))
