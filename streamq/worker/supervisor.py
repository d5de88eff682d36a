"""The supervisor: starts runners, keeps their leases, recovers what they leave behind.

It never runs a task, so that no user code can keep it from renewing leases.
"""

import contextlib
import logging
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from streamq.broker.notifier import Bell
from streamq.broker.recovery import Recovery
from streamq.errors import BrokerUnavailable, ConfigError
from streamq.host import clock
from streamq.runner.config import Assignment
from streamq.runner.inherited import OWN
from streamq.runner.logging import flush_streams
from streamq.runner.shared_memory import Board
from streamq.runner.signals import FINISH
from streamq.transport.replies import Refused
from streamq.worker.identity import new_token
from streamq.worker.lease_view import ENOUGH
from streamq.worker.processes import Child, Nursery
from streamq.worker.services.crash_recovery import Deaths
from streamq.worker.services.due_messages import Timetable
from streamq.worker.services.hard_limits import Verdicts
from streamq.worker.services.heartbeat import Presence
from streamq.worker.services.revocations import Terminations
from streamq.worker.services.stuck_runners import Relief
from streamq.worker.services.takeover import Vigil
from streamq.worker.signals import Stops
from streamq.worker.workdir import Workplace

logger = logging.getLogger("streamq.worker")

#: Seconds between tries to reach Redis while something is due; less where leases are short.
RETRY = 1.0
#: Seconds between looks at what the runners are running: memory, not Redis.
LOOK = 0.2
#: Seconds that a worker which ends tries to reach Redis at least.
LAST_TRIES = 2.0
#: Seconds after which a duty that fails in the same way is complained of again.
COMPLAIN = 60.0


@dataclass(slots=True)
class Duties:
    """What a supervisor looks after, each part knowing its own business."""

    recovery: Recovery
    presence: Presence
    bell: Bell
    vigil: Vigil
    timetable: Timetable
    verdicts: Verdicts
    terminations: Terminations
    relief: Relief


class Supervisor:
    """Owns the runners of one worker."""

    def __init__(
        self,
        assignments: Sequence[Assignment],
        isolation: Assignment,
        nursery: Nursery,
        duties: Duties,
        workplace: Workplace,
        *,
        lease: float,
        shutdown_timeout: float,
    ) -> None:
        self.assignments = {each.number: each for each in [*assignments, isolation]}
        self.isolation = isolation
        self.nursery = nursery
        self.duties = duties
        self.lease = lease
        self.retry = min(RETRY, lease / 3)
        self.shutdown_timeout = shutdown_timeout
        self.burst = assignments[0].burst
        self.workplace = workplace
        self.board = Board(workplace.opened[workplace.slots], isolation.runners, isolation.slots)
        self.deaths = Deaths(duties.recovery, duties.verdicts)
        self.due = {each.number: 0.0 for each in assignments}
        self.stops = Stops()
        self.deadline: float | None = None
        self.killed = False
        self.renewal = 0.0
        self.again = 0.0
        #: How many runners that cannot start the last renewal told of.
        self.told_hopeless = 0
        self.away = False
        #: What was said last of each duty that failed, and when.
        self.complaints: dict[str, tuple[str, float]] = {}

    def run(self) -> int:
        """Work until stopped, or until a burst is over.  Returns the exit code."""
        self.stops.listen()
        while True:
            self.start_due()
            self.do_duties()
            if not self.nursery.children and not self.due:
                break
            if self.stops.count > 2:
                logger.warning("leaving at once; what was running is taken over by others")
                self.nursery.signal_all(signal.SIGKILL)
                return 1
            self.sleep()
            if self.stops.suspended:
                self.suspend()
            for death in self.nursery.reap():
                self.deaths.mourn(death, stopped=self.killed)
                self.replace(death.child, self.nursery.patience(death), ended=death.orderly)
            if self.nursery.hopeless != self.told_hopeless:
                self.renewal = 0.0  # whoever looks shall see it
            self.heed_stops()
        self.finish()
        if self.anew:
            self.begin_anew()
        return 1 if self.killed else 0

    def announce(self) -> None:
        """Show the worker in Redis before anybody is told that it is there."""
        self.duties.bell.listen()
        self.duties.vigil.begin()
        self.renew()
        self.renewal = 0.0

    # Stopping

    def heed_stops(self) -> None:
        """First signal: let running tasks finish.  Second, or too late: stop them."""
        if (self.stops.count or self.stops.reload) and self.deadline is None:
            self.deadline = clock.monotonic() + self.shutdown_timeout
            self.due.clear()
            if self.stops.count < 2:
                logger.info("finishing the running tasks; once more stops them now")
        if self.deadline is None or not self.nursery.children:
            return
        # Again and again: a runner that was just being born did not hear the first one.
        self.nursery.signal_all(FINISH)
        late = clock.monotonic() > self.deadline
        if not self.killed and (self.stops.count > 1 or late):
            why = "they took longer than shutdown_timeout" if late else "asked to stop now"
            logger.warning("stopping the running tasks: %s", why)
            self.killed = True
            self.nursery.signal_all(signal.SIGKILL)

    def suspend(self) -> None:
        """Stand still with the runners: who is on no terminal does not hear of a Ctrl-Z.

        Without us they would go on, and lose their leases.
        """
        self.nursery.signal_groups(signal.SIGSTOP)
        self.stops.stand_still()
        self.nursery.signal_groups(signal.SIGCONT)

    @property
    def stopping(self) -> bool:
        return self.deadline is not None

    @property
    def anew(self) -> bool:
        """Whether a new worker is to follow in this process."""
        return self.stops.reload and not self.stops.count

    def begin_anew(self) -> None:
        """Become a new worker in this process, with the code as it is on disk now.

        Comes back if it is asked to stop before that.
        """
        logger.info("beginning anew")
        self.stops.hold_reloads()
        flush_streams()
        self.workplace.remove()  # nobody comes back to do it
        launch = self.nursery.launch
        with contextlib.suppress(OSError):  # it is gone: the program that follows says so
            os.chdir(launch.home)
        environment = OWN.given.environment() | {"PWD": launch.home}
        if self.stops.let_go():
            try:
                os.execve(launch.program, launch.command, environment)
            except OSError as why:
                raise ConfigError(f"cannot begin anew: {launch.program}: {why.strerror}") from None

    # The loop

    def sleep(self) -> None:
        """Wait for a signal, the end of a runner, the bell, or the next duty."""
        children = list(self.nursery.children.values())
        now, parts = clock.monotonic(), self.duties
        moments = [now + LOOK, *self.due.values(), parts.verdicts.next_moment(children)]
        if self.away:
            moments.append(self.again)
        else:
            moments += [self.renewal, parts.terminations.moment]
            moments += [parts.timetable.moment, parts.vigil.moment]
        if self.deadline is not None and not self.killed:
            moments.append(self.deadline)
        bell = [parts.bell] if parts.bell.fileno() >= 0 else []
        self.stops.sleep(min(moments) - now, *bell)

    def start_due(self) -> None:
        """Start the runners whose time has come."""
        now = clock.monotonic()
        for number in [number for number, moment in self.due.items() if moment <= now]:
            del self.due[number]
            assignment = msgspec.structs.replace(self.assignments[number], token=new_token())
            try:
                self.workplace.mend()
                child = self.nursery.start(assignment, self.board.of(number))
            except OSError as error:  # no more processes or memory, for now
                logger.error("a runner cannot be started, and is tried again: %s", error)
                self.nursery.note_failure(number)
                self.due[number] = now + RETRY
                continue
            logger.debug("runner %d started", child.pid)

    def replace(self, child: Child, patience: float, *, ended: bool) -> None:
        """Say when a runner that has ended is replaced, if it is."""
        alone = child.number == self.isolation.number
        if not (self.stopping or (self.burst and ended) or (alone and ended)):
            self.due[child.number] = clock.monotonic() + patience

    def do_duties(self) -> None:
        """Do what is due; while Redis is away, try again now and then."""
        children, parts = list(self.nursery.children.values()), self.duties
        parts.verdicts.look(children)
        if self.away and clock.monotonic() < self.again:
            return
        try:
            self.attempt(self.renew_in_time)
            self.attempt(self.deaths.recover)
            self.attempt(self.hear)
            self.attempt(parts.terminations.look, children)
            self.attempt(parts.timetable.move)
            ours = {*self.deaths.held(), *(child.consumer for child in children)}
            self.attempt(parts.vigil.look, ours)
            self.attempt(self.workplace.mend)
            self.attempt(parts.relief.look, children)
        except BrokerUnavailable as error:
            if not self.away:
                logger.warning("%s; trying again", str(error).partition("\n")[0])
            self.away, self.again = True, clock.monotonic() + self.retry
            parts.vigil.broke()
        else:
            self.away = False
        if self.deaths.isolated:
            self.isolate()

    def attempt(self, duty: Callable[..., None], *about: object) -> None:
        """Do a duty; whatever somebody has written to Redis must not end the others."""
        try:
            duty(*about)
        except BrokerUnavailable:
            raise
        except Exception as error:
            self.complain(duty.__qualname__, error)

    def complain(self, duty: str, error: Exception) -> None:
        """Say that a duty failed; not again and again."""
        away = isinstance(error, BrokerUnavailable)  # with advice for those who are new to it
        text, now = str(error).partition("\n")[0] if away else str(error), clock.monotonic()
        before, moment = self.complaints.get(duty, ("", 0.0))
        if text != before or now - moment > COMPLAIN:
            self.complaints[duty] = (text, now)
            ours = away or isinstance(error, Refused)  # any other may be a mistake of this program
            logger.error(
                "a duty of the supervisor failed, and is tried again: %s: %s",
                *(duty, text),
                exc_info=None if ours else error,
            )

    def renew_in_time(self) -> None:
        """Renew if it is time to."""
        if clock.monotonic() >= self.renewal:
            self.renewal = clock.monotonic() + self.retry
            try:
                self.renew()
            except Refused:
                self.duties.vigil.broke()  # who cannot renew does not judge those who cannot
                raise

    def renew(self) -> None:
        """Keep the runners' leases, tell what they are doing, and hear what is new.

        The lease of a runner that cannot reach Redis itself runs out: what it holds is
        better run by others.
        """
        children, parts = list(self.nursery.children.values()), self.duties
        living = [child for child in children if child.slots.cut_off < self.lease]
        self.told_hopeless = self.nursery.hopeless
        counts = {**self.deaths.counts(), "cannot_start": self.told_hopeless}
        about = parts.presence.about(children, counts)
        sent = clock.monotonic()
        leases = [*self.deaths.held(), *(child.consumer for child in living)]
        news = parts.recovery.renew(parts.presence.node, leases, about)
        now = clock.monotonic()
        parts.vigil.views.saw(news.now, sent=sent, now=now)
        parts.timetable.learn(news.due, news.now)
        self.replace_cut_off(children)
        for child in living:
            if child.consumer not in news.fenced:
                child.leased = True
            elif child.leased:  # else it is only being born
                self.dismiss(child)
        if news.terminating:
            parts.terminations.ask()
        if news.suspects.intersection(parts.presence.queues):
            self.isolate()
        self.renewal = now + self.lease / 3
        self.listen()

    def listen(self) -> None:
        """Listen to the bell, if we can: it only hints, so that no other duty waits for it."""
        try:
            self.duties.bell.listen()
        except BrokerUnavailable as error:
            self.complain("Bell.listen", error)

    def replace_cut_off(self, children: Sequence[Child]) -> None:
        """End runners that cannot reach Redis while we can: they may lack a descriptor."""
        long = ENOUGH * self.lease
        if not self.duties.vigil.views.own.clear(clock.monotonic()):
            return
        for child in children:
            if child.slots.cut_off > long and not child.ended:
                logger.error("runner %d cannot reach Redis, but we can; it is replaced", child.pid)
                child.end("it could not reach Redis, but its worker could")

    def dismiss(self, child: Child) -> None:
        """Let a runner stop that was declared dead.

        What its tasks return is dropped: they get as long to end as when the worker stops.
        """
        now = clock.monotonic()
        if child.dismissed is None:
            child.dismissed = now
            self.deaths.fenced += 1
            logger.warning("runner %d was declared dead meanwhile; it stops", child.pid)
        if now - child.dismissed > self.shutdown_timeout:
            child.end("it had been declared dead")
        else:
            child.signal(FINISH)

    def hear(self) -> None:
        """Heed what the bell says."""
        parts = self.duties
        server = parts.vigil.views.own.time(clock.monotonic())
        for words in parts.bell.heard():
            match words:
                case ["due", moment] if moment.isdecimal():
                    parts.timetable.hear(float(moment) / 1000, server)
                case ["terminate", *_]:
                    parts.terminations.ask()
                case ["suspects", queue] if queue in parts.presence.queues:
                    self.isolate()

    def isolate(self) -> None:
        """Run suspects alone, in a runner that does nothing else and ends with the last."""
        self.deaths.isolated = False
        numbers = {child.number for child in self.nursery.children.values()}
        if self.isolation.number not in numbers and not self.stopping:
            self.due.setdefault(self.isolation.number, clock.monotonic())

    def finish(self) -> None:
        """Recover what is left, for a while, and sign off.

        A new worker could not start without Redis: it is waited for, unless we are to stop.
        """
        left = (self.deadline or 0.0) - clock.monotonic()
        end = clock.monotonic() + max(LAST_TRIES, min(left, self.lease))
        while (self.anew or clock.monotonic() < end) and self.stops.count < 3:
            try:
                self.deaths.recover()
                self.duties.presence.sign_off()
                logger.info("stopped")
                return
            except (BrokerUnavailable, Refused):
                self.stops.sleep(self.retry)
        logger.warning("Redis is away: others take over what the runners held")
