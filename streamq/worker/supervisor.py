"""The supervisor: starts runners, keeps their leases, recovers what they leave behind.

It never runs a task, so that no user code can keep it from renewing leases.
"""

import contextlib
import logging
import os
import select
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import msgspec

from streamq.errors import BrokerUnavailable
from streamq.runner.slots import Board
from streamq.store.connection import Refused
from streamq.store.recovery import Case, Recovered, Recovery
from streamq.worker.assignment import Assignment
from streamq.worker.children import Child, Death, Nursery
from streamq.worker.presence import Presence
from streamq.worker.relief import Relief

logger = logging.getLogger("streamq.worker")

#: Seconds between tries to reach Redis while something is due.
RETRY = 1.0
#: Seconds between looks at what the runners are running: memory, not Redis.
LOOK = 0.5
#: Seconds within which two signals are one request.
SAME_REQUEST = 0.05


class Supervisor:
    """Owns the runners of one worker."""

    def __init__(
        self,
        assignments: Sequence[Assignment],
        nursery: Nursery,
        recovery: Recovery,
        presence: Presence,
        *,
        lease: float,
        shutdown_timeout: float,
    ) -> None:
        self.assignments = {assignment.number: assignment for assignment in assignments}
        self.nursery = nursery
        self.recovery = recovery
        self.presence = presence
        self.lease = lease
        self.shutdown_timeout = shutdown_timeout
        first = assignments[0]
        self.burst = first.burst
        self.board = Board(Path(first.folder) / "slots", first.runners, first.concurrency)
        self.streams = recovery.streams
        self.relief = Relief(recovery, recovery.streams)
        self.due: dict[int, float] = {}
        self.cases: list[Case] = []
        self.stops = 0
        self.deadline: float | None = None
        self.asked = 0.0
        self.renewal = 0.0
        self.away_since: float | None = None
        self.bell, self.rope = os.pipe()

    def run(self) -> int:
        """Work until stopped, or until a burst is over.  Returns the exit code."""
        self.listen()
        now = time.monotonic()
        self.due = dict.fromkeys(self.assignments, now)
        while True:
            self.start_due()
            self.duties()
            if not self.nursery.children and not self.due:
                break
            self.sleep()
            for death in self.nursery.reap():
                self.mourn(death)
            self.heed_stops()
        self.finish()
        return 0

    def announce(self) -> None:
        """Show the worker in Redis before anybody is told that it is there."""
        self.renew()
        self.renewal = 0.0

    # Signals

    def listen(self) -> None:
        """Let signals ring a bell that ``sleep`` hears."""
        os.set_blocking(self.bell, False)
        os.set_blocking(self.rope, False)
        signal.set_wakeup_fd(self.rope, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self.ask_to_stop)
        signal.signal(signal.SIGINT, self.ask_to_stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        """Count requests.  Shells and ``timeout`` send one request to us and to our group."""
        now = time.monotonic()
        if now - self.asked > SAME_REQUEST:
            self.stops += 1
        self.asked = now

    def heed_stops(self) -> None:
        """First signal: let running tasks finish.  Second, or too late: stop them."""
        if self.stops and self.deadline is None:
            self.deadline = time.monotonic() + self.shutdown_timeout
            self.due.clear()
            logger.info("finishing the running tasks; once more stops them now")
            self.nursery.signal_all(signal.SIGTERM)
        if self.deadline is not None and self.nursery.children:
            # Again and again: a runner that was just being born did not hear the first one.
            self.nursery.signal_all(signal.SIGTERM)
            late = time.monotonic() > self.deadline
            if self.stops > 1 or late:
                why = "they took longer than shutdown_timeout" if late else "asked twice"
                logger.warning("stopping the running tasks: %s", why)
                self.deadline = float("inf")
                self.stops = 1
                self.nursery.signal_all(signal.SIGKILL)

    @property
    def stopping(self) -> bool:
        return self.deadline is not None

    # The loop

    def sleep(self) -> None:
        """Wait for a signal, the end of a runner, or the next duty."""
        now = time.monotonic()
        moments = [self.renewal, *self.due.values()]
        if self.cases or self.stopping:
            moments.append(now + RETRY)
        if self.deadline not in (None, float("inf")):
            moments.append(self.deadline or now)
        seconds = max(0.0, min(moments) - now)
        if select.select([self.bell], [], [], min(seconds, LOOK))[0]:
            with contextlib.suppress(BlockingIOError):
                os.read(self.bell, 4096)

    def start_due(self) -> None:
        """Start the runners whose time has come."""
        now = time.monotonic()
        for number in [number for number, moment in self.due.items() if moment <= now]:
            del self.due[number]
            assignment = replace_token(self.assignments[number])
            try:
                child = self.nursery.start(assignment, self.board.of(number))
            except OSError as error:  # no more processes or memory, for now
                logger.error("a runner cannot be started, and is tried again: %s", error)
                self.due[number] = now + RETRY
                continue
            logger.debug("runner %d started", child.pid)

    def duties(self) -> None:
        """Renew leases when it is time, and recover what is still to be recovered."""
        try:
            if time.monotonic() >= self.renewal:
                self.renew()
            self.recover_cases()
            self.relief.look(list(self.nursery.children.values()))
        except (BrokerUnavailable, Refused) as error:
            if self.away_since is None:
                self.away_since = time.monotonic()
                logger.warning("%s; trying again", str(error).partition("\n")[0])
            self.renewal = max(self.renewal, time.monotonic() + RETRY)
        else:
            self.away_since = None

    def renew(self) -> None:
        """Keep the runners' leases, and tell what they are doing."""
        children = list(self.nursery.children.values())
        self.recovery.renew(
            self.presence.node,
            self.lease,
            [child.consumer for child in children],
            self.presence.about(children, self.streams),
        )
        self.renewal = time.monotonic() + self.lease / 3

    # Deaths

    def mourn(self, death: Death) -> None:
        """A runner has ended: recover what it held, and replace it."""
        child = death.child
        stopped = self.deadline == float("inf")
        crashed = not (death.orderly or death.fenced or stopped)
        case = Case(
            consumer=child.consumer,
            reason="the worker was stopped" if stopped else death.reason,
            charge=crashed,
            running=self.running(child),
        )
        self.cases.append(case)
        if self.stopping or (self.burst and death.orderly):
            return
        self.due[child.number] = time.monotonic() + self.nursery.patience(death)

    def running(self, child: Child) -> list[tuple[str, bytes]]:
        """The messages that a runner was running."""
        return [(self.streams[each.stream], each.entry) for each in child.slots.running()]

    def recover_cases(self) -> None:
        """Recover what dead runners held; what fails stays for the next try."""
        refused: list[Case] = []
        while self.cases:
            case = self.cases[0]
            try:
                self.report(case, self.recovery.recover(case))
            except Refused as error:
                logger.error("recovering %s failed, and is tried again: %s", case.consumer, error)
                refused.append(case)
            self.cases.pop(0)
        self.cases = refused

    def report(self, case: Case, found: Recovered) -> None:
        """Say what a death has cost."""
        if case.charge:
            logger.error(
                "%s; %d handed back, %d failed as WorkerLost, %d dead-lettered",
                *(case.reason, found.moved, found.lost, found.buried),
            )
        elif found.moved or found.lost:
            logger.info("%d messages handed back, %d lost", found.moved, found.lost)

    def finish(self) -> None:
        """Recover what is left, for a while, and sign off."""
        end = time.monotonic() + self.lease
        while time.monotonic() < end:
            try:
                self.recover_cases()
                self.recovery.sign_off(self.presence.node, os.getpid())
                logger.info("stopped")
                return
            except (BrokerUnavailable, Refused):
                time.sleep(RETRY)
        logger.warning("Redis is away: what the runners held stays with them")


def replace_token(assignment: Assignment) -> Assignment:
    """The same work for a new runner: a consumer's name is never used again."""
    return msgspec.structs.replace(assignment, token=os.urandom(4).hex())
