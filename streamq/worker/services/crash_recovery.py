"""Crash recovery: what this worker's dead runners held is settled or handed to others."""

import contextlib
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from streamq.broker.consumer import Place
from streamq.broker.recovery import (
    Recovery,
    RecoveryRequest,
    RecoveryResult,
    recover_in_steps,
)
from streamq.core.text import count, first_few
from streamq.host import clock
from streamq.runner.shared_memory import RunningTask
from streamq.transport.replies import Refused
from streamq.worker.processes import RunnerExit, RunnerProcess
from streamq.worker.services.hard_limits import ForcedEnd, HardLimits
from streamq.worker.services.service import Service

logger = logging.getLogger("streamq.worker")

#: Seconds until a recovery that was refused is tried again: only a person can help.
PAUSE = 5.0
#: Tasks that a runner was running and that the log names; the rest are counted.
MOST_NAMED = 20


@dataclass(slots=True)
class OpenRecovery:
    """A dead runner whose messages are still to be recovered."""

    request: RecoveryRequest
    forced_ends: list[ForcedEnd]
    #: Where the messages are that it ran last, and may not have settled.
    ended: list[Place] = field(default_factory=list)
    #: When to try again if it was refused, in monotonic seconds.
    retry_at: float = 0.0
    #: The rest of a recovery that has begun, and for which there was no time.
    rest: Iterator[None] | None = None


class CrashRecovery(Service):
    """The service that recovers what this worker's dead runners held, and counts crashes.

    ``on_quarantine`` is called when a recovery has moved messages to quarantine.
    """

    def __init__(
        self, recovery: Recovery, hard_limits: HardLimits, on_quarantine: Callable[[], None]
    ) -> None:
        self.recovery = recovery
        self.hard_limits = hard_limits
        self.on_quarantine = on_quarantine
        self.open: list[OpenRecovery] = []
        self.crashed = 0
        self.fenced = 0

    def counts(self) -> dict[str, object]:
        """How often runners crashed, and were fenced while they lived."""
        return {"crashed": self.crashed, "fenced": self.fenced}

    def due(self) -> float:
        """At once if a runner has died, later where its recovery was refused."""
        return min((each.retry_at for each in self.open), default=math.inf)

    def run(self) -> None:
        """Recover what dead runners held."""
        self.recover()

    def finish(self) -> None:
        """Recover what the last runners held."""
        self.recover()

    def on_exit(self, ended: RunnerExit, *, stopped: bool) -> None:
        """Open a recovery for a runner that has ended; ``stopped``: killed to stop the worker."""
        child = ended.child
        fenced = ended.fenced or child.fenced_at is not None
        running = places_of(child, child.slots.running())
        forced_ends = [each for each in child.forced_ends if (each.stream, each.entry) in running]
        killed = stopped or child.kill_reason or forced_ends  # by us
        crashed = not (ended.orderly or fenced or killed)
        self.crashed += crashed
        self.fenced += fenced and child.fenced_at is None
        blame = "none" if not crashed else "sole_task" if len(running) == 1 else "suspected"
        request = RecoveryRequest(
            consumer=child.consumer,
            reason="the worker was stopped" if stopped else ended.reason,
            blame=blame,
            running=running,
            streams=child.streams,
        )
        unsettled = places_of(child, child.slots.ended()) if crashed else []
        self.open.append(OpenRecovery(request, forced_ends, unsettled))

    def consumers(self) -> list[str]:
        """The dead runners that still hold messages: this worker renews their leases.

        Other workers, if they took over, would know neither what was running nor for which
        tasks the runner was killed.
        """
        return [each.request.consumer for each in self.open]

    def recover(self) -> None:
        """Recover what dead runners held; what is refused is tried again ``PAUSE`` later."""
        now = clock.monotonic()
        for opened in [each for each in self.open if each.retry_at <= now]:
            try:
                ended = self.go_on(opened)
            except Refused as error:
                opened.retry_at = now + PAUSE
                consumer = opened.request.consumer
                logger.error("recovering %s failed, and is tried again: %s", consumer, error)
            else:
                if ended:
                    self.open.remove(opened)
            if self.time_is_up():
                break

    def go_on(self, opened: OpenRecovery) -> bool:
        """Go on with a recovery while there is time; return whether it has ended."""
        steps, opened.rest = opened.rest or self.recover_one(opened), None
        for _ in steps:
            if self.time_is_up():
                opened.rest = steps
                return False
        return True

    def recover_one(self, opened: OpenRecovery) -> Iterator[None]:
        """Settle the tasks that it was killed for, then hand the rest to others; in portions."""
        if opened.forced_ends:
            try:
                self.hard_limits.settle(opened.request.consumer, opened.forced_ends)
            except Refused as error:
                if error.code != "FENCED":
                    yield from self.hand_over(self.all_but_forced_ends(opened))
                    raise
            yield
        self.blame_unsettled(opened)
        yield from self.hand_over(opened.request)

    def all_but_forced_ends(self, opened: OpenRecovery) -> RecoveryRequest:
        """The request for all other messages: they do not wait until a forced end is written."""
        places = [(each.stream, each.entry) for each in opened.forced_ends]
        return replace(opened.request, blame="kept", running=places)

    def hand_over(self, request: RecoveryRequest) -> Iterator[None]:
        """Hand what a dead runner held to others; in portions."""
        named = "" if request.blame == "kept" else self.titles_of_running(request)
        result = yield from recover_in_steps(self.recovery, request)
        if result is not None:
            if result.quarantined:
                self.on_quarantine()
            self.report(request, result, named)

    def blame_unsettled(self, opened: OpenRecovery) -> None:
        """Count tasks that have returned and were not settled among those that were running.

        What a task leaves behind may end its runner before the task is settled.
        """
        request, unsettled = opened.request, opened.ended
        if not unsettled:
            return
        with contextlib.suppress(Refused):  # then each of them may be unsettled
            found = self.recovery.deliveries([(request.consumer, place) for place in unsettled])
            unsettled = [place for place, left in zip(unsettled, found, strict=True) if left]
        if unsettled:
            running = [*(request.running or ()), *unsettled]
            opened.request = replace(request, blame="suspected", running=running)
        opened.ended = []

    def titles_of_running(self, request: RecoveryRequest) -> str:
        """What it was running, for the log, while that can be read; nothing if that fails."""
        running = request.running or ()
        titles: list[str] = []
        with contextlib.suppress(Refused):
            places = [(request.consumer, place) for place in running[:MOST_NAMED]]
            found = self.recovery.deliveries(places) if places else []
            titles = [delivery.title for delivery in found if delivery is not None]
        named = first_few(titles, MOST_NAMED, total=len(running))
        return f"; running: {named}" if titles else ""

    def report(self, request: RecoveryRequest, result: RecoveryResult, named: str) -> None:
        """Log what the end of a runner has cost."""
        counts = result.counts
        crashed = request.blame in ("sole_task", "suspected")
        if crashed and not any(counts):
            logger.error("%s%s", request.reason, named)
        elif crashed:
            logger.error(
                "%s%s; %d handed back, %d failed as WorkerLost, %d dead-lettered, %d quarantined",
                *(request.reason, named, *counts),
            )
        elif any(counts):
            level = logging.WARNING if result.lost or result.dead_lettered else logging.INFO
            logger.log(
                level,
                "%s handed back, %d failed as WorkerLost, %d dead-lettered%s",
                *(count(result.moved, "message"), result.lost, result.dead_lettered, named),
            )


def places_of(child: RunnerProcess, slots: Sequence[RunningTask]) -> list[Place]:
    """Where the messages are that a runner has in these slots."""
    return [(child.streams[each.stream], each.entry) for each in slots]
