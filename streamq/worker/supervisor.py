"""The supervisor of a worker: starts runners, renews their leases, recovers what they held.

It runs no task, so that no user code can keep it from renewing leases.

States of a supervisor (in brackets: the attribute that says so)::

    STARTING --announce--> RUNNING --1st stop request, SIGHUP--> STOPPING [deadline]
                              |                                  |        |
                    burst: no runner left         no runner left |        | 2nd stop request,
                              |                                  |        | deadline passed
                              v                                  v        v
    EXIT, or a reload <-- FINISHING <---- no runner left ---- KILLING [killed]

The 3rd stop request kills the runners and exits at once: other workers take over.  In FINISHING it
ends the wait for Redis.  The exit code is 1 if runners were killed, else 0.  SIGTSTP suspends the
process and its runners, until SIGCONT, and changes no state.

States of a runner (a ``number`` that stays, and a process for as long as it lives)::

    DUE [starts] --fork--> STARTED --seen by a renewal--> LEASED --lease lost--> FENCED [fenced_at]
     ^                        |                             |                       |
     |                        v                             v                       v
     +---- restart delay -- EXITED [crash_recovery.open] --what it held is recovered--> gone

One round of the loop, in this order:

1. Runners that are due are started.
2. Services: hard limits first, which need no Redis; then renewal, crash recovery, notices,
   revocations, due messages, takeover, the shared folder, stuck runners.  The first that finds
   Redis unavailable ends the round of services, and the next one is ``retry_interval`` later; any
   other error is logged, and the next service runs.
3. The loop ends if no runner lives or is due.
4. It sleeps until a signal (SIGCHLD: a runner has ended), a notice, or the next moment.
5. Runners that have ended are reaped: their exits are noted, their replacements become due.
6. Stop requests are applied.

Who may do what: only the supervisor starts, kills and replaces runners, and renews their leases;
only runners read and run messages and settle them.  Two exceptions: the supervisor settles the
forced ends of a dead runner, and hands back what waits in a runner that it has suspended.  What a
dead runner held is moved by its supervisor, which renews its lease until then; by others once
the lease has run out.  A fenced runner settles nothing more.  Nothing is started in STOPPING or
later.  The quarantine runner is due only if messages wait in quarantine, and ends with the last.
"""

import contextlib
import logging
import os
import signal
from collections.abc import Sequence

import msgspec

from streamq.errors import BrokerUnavailable, ConfigError
from streamq.host import clock
from streamq.runner.config import RunnerConfig
from streamq.runner.inherited import OWN
from streamq.runner.logging import flush_streams
from streamq.runner.shared_memory import SharedMemory
from streamq.runner.signals import FINISH
from streamq.transport.replies import Refused
from streamq.worker.identity import new_token
from streamq.worker.lease_view import JUDGE_AFTER
from streamq.worker.processes import RunnerProcess, RunnerProcesses
from streamq.worker.services.crash_recovery import CrashRecovery
from streamq.worker.services.services import FailureLog, Services
from streamq.worker.signals import StopSignals
from streamq.worker.workdir import WorkDir

logger = logging.getLogger("streamq.worker")

#: Seconds between tries to reach Redis while something is due; less where leases are short.
RETRY = 1.0
#: Seconds between checks of what the runners are running: memory, not Redis.
CHECK = 0.2
#: Seconds for which a worker that ends tries to reach Redis at least.
LAST_TRIES = 2.0


class Supervisor:
    """The supervisor of one worker: owns its runners and runs its services."""

    def __init__(
        self,
        configs: Sequence[RunnerConfig],
        quarantine: RunnerConfig,
        processes: RunnerProcesses,
        services: Services,
        workdir: WorkDir,
        *,
        lease: float,
        shutdown_timeout: float,
    ) -> None:
        self.configs = {each.number: each for each in [*configs, quarantine]}
        self.quarantine = quarantine
        self.processes = processes
        self.services = services
        self.lease = lease
        self.retry_interval = min(RETRY, lease / 3)
        self.shutdown_timeout = shutdown_timeout
        self.burst = configs[0].burst
        self.workdir = workdir
        self.shared_memory = SharedMemory(
            workdir.opened[workdir.slots], quarantine.runners, quarantine.slots
        )
        self.crash_recovery = CrashRecovery(services.recovery, services.hard_limits)
        #: By the number of a runner that is due: when to start it, in monotonic seconds.
        self.starts = {each.number: 0.0 for each in configs}
        self.stops = StopSignals()
        self.deadline: float | None = None
        self.killed = False
        self.next_renewal = 0.0
        #: Whether Redis could not be reached last time, and when to try again.
        self.unavailable = False
        self.retry_at = 0.0
        #: How many runners that cannot start the last renewal reported.
        self.reported_cannot_start = 0
        self.failures = FailureLog()

    def run(self) -> int:
        """Run until stopped, or until a burst is over; return the exit code."""
        self.stops.listen()
        while True:
            self.start_due()
            self.run_services()
            if not self.processes.children and not self.starts:
                break
            if self.stops.count > 2:
                logger.warning("exiting at once; other workers take over what was running")
                self.processes.signal_all(signal.SIGKILL)
                return 1
            self.sleep()
            if self.stops.suspended:
                self.suspend()
            for ended in self.processes.reap():
                self.crash_recovery.note_exit(ended, stopped=self.killed)
                delay = self.processes.restart_delay(ended)
                self.schedule_replacement(ended.child, delay, orderly=ended.orderly)
            if self.processes.cannot_start != self.reported_cannot_start:
                self.next_renewal = 0.0  # so that commands which list workers show it
            self.apply_stop_requests()
        self.finish()
        if self.reloading:
            self.reload()
        return 1 if self.killed else 0

    def announce(self) -> None:
        """Show the worker in Redis before anything says that it is there."""
        self.services.notifier.listen()
        self.services.takeover.begin()
        self.renew()
        self.next_renewal = 0.0

    # Stopping

    def apply_stop_requests(self) -> None:
        """Let running tasks finish at the first request; kill them at the second, or too late."""
        if (self.stops.count or self.stops.reload) and self.deadline is None:
            self.deadline = clock.monotonic() + self.shutdown_timeout
            self.starts.clear()
            if self.stops.count < 2:
                logger.info("finishing the running tasks; once more stops them now")
        if self.deadline is None or not self.processes.children:
            return
        # In each round: a runner that was just starting may have missed the first signal.
        self.processes.signal_all(FINISH)
        late = clock.monotonic() > self.deadline
        if not self.killed and (self.stops.count > 1 or late):
            why = "they took longer than shutdown_timeout" if late else "asked to stop now"
            logger.warning("stopping the running tasks: %s", why)
            self.killed = True
            self.processes.signal_all(signal.SIGKILL)

    def suspend(self) -> None:
        """Stop this process and its runners, as Ctrl-Z asks, until it is continued.

        Runners have no terminal, so Ctrl-Z does not reach them: without their supervisor they
        would go on, and lose their leases.
        """
        self.processes.signal_groups(signal.SIGSTOP)
        self.stops.suspend_process()
        self.processes.signal_groups(signal.SIGCONT)

    @property
    def stopping(self) -> bool:
        """Whether the worker has been asked to stop or reload."""
        return self.deadline is not None

    @property
    def reloading(self) -> bool:
        """Whether a new worker is to follow in this process."""
        return self.stops.reload and not self.stops.count

    def reload(self) -> None:
        """Become a new worker in this process, with the code as it is on disk now.

        Returns if it is asked to stop before that.  Raises ConfigError if it cannot.
        """
        logger.info("reloading")
        self.stops.block_reloads()
        flush_streams()
        self.workdir.remove()  # exec skips whatever would do it at the end
        launch = self.processes.launch
        with contextlib.suppress(OSError):  # it is gone: the program that follows says so
            os.chdir(launch.home)
        environment = OWN.given.environment() | {"PWD": launch.home}
        if self.stops.restore_signals():
            try:
                os.execve(launch.program, launch.command, environment)
            except OSError as why:
                raise ConfigError(f"cannot reload: {launch.program}: {why.strerror}") from None

    # The loop

    def sleep(self) -> None:
        """Wait for a signal, the end of a runner, a notice, or the next moment."""
        children = list(self.processes.children.values())
        now, services = clock.monotonic(), self.services
        moments = [now + CHECK, *self.starts.values(), services.hard_limits.next_moment(children)]
        if self.unavailable:
            moments.append(self.retry_at)
        else:
            moments += [self.next_renewal, services.revocations.moment]
            moments += [services.due_messages.moment, services.takeover.moment]
        if self.deadline is not None and not self.killed:
            moments.append(self.deadline)
        notifier = [services.notifier] if services.notifier.fileno() >= 0 else []
        self.stops.sleep(min(moments) - now, *notifier)

    def start_due(self) -> None:
        """Start the runners that are due."""
        now = clock.monotonic()
        for number in [number for number, moment in self.starts.items() if moment <= now]:
            del self.starts[number]
            config = msgspec.structs.replace(self.configs[number], token=new_token())
            try:
                self.workdir.repair()
                child = self.processes.start(config, self.shared_memory.of(number))
            except OSError as error:  # no more processes or memory, for now
                logger.error("a runner cannot be started, and is tried again: %s", error)
                self.processes.note_failed_start(number)
                self.starts[number] = now + RETRY
                continue
            logger.debug("runner %d started", child.pid)

    def schedule_replacement(self, child: RunnerProcess, delay: float, *, orderly: bool) -> None:
        """Make the replacement of a runner that has ended due in ``delay`` seconds, if any."""
        quarantine = child.number == self.quarantine.number
        if not (self.stopping or (orderly and (self.burst or quarantine))):
            self.starts[child.number] = clock.monotonic() + delay

    def run_services(self) -> None:
        """Run the services that are due; while Redis is unavailable, try again now and then."""
        children, services = list(self.processes.children.values()), self.services
        services.hard_limits.enforce(children)
        if self.unavailable and clock.monotonic() < self.retry_at:
            return
        attempt = self.failures.attempt
        try:
            attempt(self.renew_in_time)
            attempt(self.crash_recovery.recover)
            attempt(self.handle_notices)
            attempt(services.revocations.check, children)
            attempt(services.due_messages.move)
            ours = {*self.crash_recovery.consumers(), *(child.consumer for child in children)}
            attempt(services.takeover.check, ours)
            attempt(self.workdir.repair)
            attempt(services.stuck_runners.check, children)
        except BrokerUnavailable as error:
            if not self.unavailable:
                logger.warning("%s; trying again", str(error).partition("\n")[0])
            self.unavailable, self.retry_at = True, clock.monotonic() + self.retry_interval
            services.takeover.on_disconnect()
        else:
            self.unavailable = False
        if self.crash_recovery.quarantined:
            self.start_quarantine()

    def renew_in_time(self) -> None:
        """Renew the leases if it is time to."""
        if clock.monotonic() >= self.next_renewal:
            self.next_renewal = clock.monotonic() + self.retry_interval
            try:
                self.renew()
            except Refused:
                # A supervisor that cannot renew must not judge others that cannot.
                self.services.takeover.on_disconnect()
                raise

    def renew(self) -> None:
        """Renew the runners' leases, report what they run, and take note of the answer.

        The lease of a runner that cannot reach Redis itself runs out: what it holds is
        better run by others.
        """
        children, services = list(self.processes.children.values()), self.services
        connected = [child for child in children if child.slots.unreachable < self.lease]
        self.reported_cannot_start = self.processes.cannot_start
        counts = {**self.crash_recovery.counts(), "cannot_start": self.reported_cannot_start}
        fields = services.heartbeat.fields(children, counts)
        leases = [*self.crash_recovery.consumers(), *(child.consumer for child in connected)]
        news = services.leases.renew(services.heartbeat.node, leases, fields)
        services.takeover.views.record_answer(news.now, sent=news.sent, now=news.received)
        services.due_messages.set_next(news.due, news.now)
        self.replace_cut_off(children)
        for child in connected:
            if child.consumer not in news.fenced:
                child.leased = True
            elif child.leased:  # else it is only starting
                self.stop_fenced(child)
        if news.terminating:
            services.revocations.request_check()
        if news.quarantine.intersection(services.heartbeat.queues):
            self.start_quarantine()
        self.next_renewal = news.received + self.lease / 3
        self.listen()

    def listen(self) -> None:
        """Listen to notices, if possible: renewals say the same, so no service waits for it."""
        try:
            self.services.notifier.listen()
        except BrokerUnavailable as error:
            self.failures.log("Notifier.listen", error)

    def replace_cut_off(self, children: Sequence[RunnerProcess]) -> None:
        """Kill runners that cannot reach Redis while we can: they may lack a descriptor."""
        limit = JUDGE_AFTER * self.lease
        if not self.services.takeover.views.own.is_reliable(clock.monotonic()):
            return
        for child in children:
            if child.slots.unreachable > limit and not child.kill_reason:
                logger.error("runner %d cannot reach Redis, but we can; it is replaced", child.pid)
                child.kill("it could not reach Redis, but its worker could")

    def stop_fenced(self, child: RunnerProcess) -> None:
        """Stop a runner that was declared dead.

        What its tasks return is dropped: they get as long to end as when the worker stops.
        """
        now = clock.monotonic()
        if child.fenced_at is None:
            child.fenced_at = now
            self.crash_recovery.fenced += 1
            logger.warning("runner %d was declared dead meanwhile; it stops", child.pid)
        if now - child.fenced_at > self.shutdown_timeout:
            child.kill("it had been declared dead")
        else:
            child.signal(FINISH)

    def handle_notices(self) -> None:
        """Act on the notices that have arrived."""
        services = self.services
        server = services.takeover.views.own.server_time(clock.monotonic())
        for words in services.notifier.notices():
            match words:
                case ["due", moment] if moment.isdecimal():
                    services.due_messages.on_notice(float(moment) / 1000, server)
                case ["terminate", *_]:
                    services.revocations.request_check()
                case ["quarantine", queue] if queue in services.heartbeat.queues:
                    self.start_quarantine()

    def start_quarantine(self) -> None:
        """Make the quarantine runner due: it runs suspected messages one by one, then ends."""
        self.crash_recovery.quarantined = False
        numbers = {child.number for child in self.processes.children.values()}
        if self.quarantine.number not in numbers and not self.stopping:
            self.starts.setdefault(self.quarantine.number, clock.monotonic())

    def finish(self) -> None:
        """Recover what is left, for a while, and sign off.

        A reload needs Redis to start again: it is waited for, until a stop request.
        """
        left = (self.deadline or 0.0) - clock.monotonic()
        end = clock.monotonic() + max(LAST_TRIES, min(left, self.lease))
        while (self.reloading or clock.monotonic() < end) and self.stops.count < 3:
            try:
                self.crash_recovery.recover()
                self.services.heartbeat.sign_off()
                logger.info("stopped")
                return
            except (BrokerUnavailable, Refused):
                self.stops.sleep(self.retry_interval)
        logger.warning("Redis cannot be reached: others take over what the runners held")
