"""The supervisor of a worker: starts runners, renews their leases, recovers what they held.

It runs no task and no receiver of a signal, so that no user code can keep it from renewing leases;
only the receivers of worker_init, before it has any.

States of a supervisor (in brackets: the attribute that says so)::

    STARTING --announce--> RUNNING --1st stop request, SIGHUP--> STOPPING [deadline]
                              |                                  |        |
                    burst: no runner left         no runner left |        | 2nd stop request,
                              |                                  |        | deadline passed
                              v                                  v        v
    EXIT, or a reload <-- FINISHING <---- no runner left ---- KILLING [killed]

After FINISHING the receivers of worker_shutdown are called, in another process (signal_process.py),
before the exit or the reload.

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
2. Services that are due run, in the order of their list (`make_services` in boot.py): hard limits
   first, which need no Redis; then renewal, crash recovery and the others.  The first that finds
   Redis unavailable ends this round for all that need it, and they run again ``retry_interval``
   later; any other error is logged, and the next service runs.  services.py says how a renewal
   comes in time.
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

from streamq.errors import BrokerUnavailable, ConfigError
from streamq.host import clock
from streamq.runner.inherited import OWN
from streamq.runner.logging import flush_streams
from streamq.runner.signals import FINISH
from streamq.transport.replies import Refused
from streamq.worker.processes import RunnerProcesses
from streamq.worker.services.service import CHECK
from streamq.worker.services.services import Services
from streamq.worker.signals import StopSignals
from streamq.worker.starts import RunnerStarts
from streamq.worker.workdir import WorkDir

logger = logging.getLogger("streamq.worker")

#: Seconds for which a worker that ends tries to reach Redis at least.
LAST_TRIES = 2.0


class Supervisor:
    """The supervisor of one worker: owns its runners and runs its services."""

    def __init__(
        self,
        processes: RunnerProcesses,
        starts: RunnerStarts,
        services: Services,
        workdir: WorkDir,
        *,
        shutdown_timeout: float,
    ) -> None:
        self.processes = processes
        self.starts = starts
        self.services = services
        self.workdir = workdir
        self.shutdown_timeout = shutdown_timeout
        self.stops = StopSignals()
        self.deadline: float | None = None
        self.killed = False
        #: How the services were told to stop last: "Warm" or "Cold".
        self.told = ""

    def run(self) -> int:
        """Run until stopped, or until a burst is over; return the exit code."""
        self.stops.listen()
        while True:
            self.starts.start_due()
            self.services.run_due()
            if not self.processes.children and self.starts.are_over():
                break
            if self.stops.count > 2:
                logger.warning("exiting at once; other workers take over what was running")
                self.processes.signal_all(signal.SIGKILL)
                self.services.abort()
                return 1
            self.sleep()
            if self.stops.suspended:
                self.suspend()
            for ended in self.processes.reap():
                self.services.on_exit(ended, stopped=self.killed)
                self.starts.replace(ended)
            self.apply_stop_requests()
        self.finish()
        self.leave()
        if self.reloading:
            self.reload()
        return 1 if self.killed else 0

    def announce(self) -> None:
        """Show the worker in Redis before anything says that it is there."""
        self.services.begin()

    def sleep(self) -> None:
        """Wait for a signal, the end of a runner, a notice, or the next moment."""
        now = clock.monotonic()
        moments = [now + CHECK, *self.starts.due.values(), self.services.next_moment()]
        if self.deadline is not None and not self.killed:
            moments.append(self.deadline)
        self.stops.sleep(min(moments) - now, *self.services.waited_for())

    # Stopping

    def apply_stop_requests(self) -> None:
        """Let running tasks finish at the first request; kill them at the second, or too late."""
        if (self.stops.count or self.stops.reload) and self.deadline is None:
            self.deadline = clock.monotonic() + self.shutdown_timeout
            self.starts.end()
            if self.stops.count < 2:
                logger.info("finishing the running tasks; once more stops them now")
        self.tell_services()
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

    def tell_services(self) -> None:
        """Tell the services of a request to stop, and once more if it has become urgent."""
        how = "Cold" if self.stops.count > 1 else "Warm"
        if (self.stops.count or self.stops.reload) and how != self.told:
            self.told = how
            self.services.on_stop(signal.Signals(self.stops.number).name, how)

    def suspend(self) -> None:
        """Stop this process and its runners, as Ctrl-Z asks, until it is continued.

        Runners have no terminal, so Ctrl-Z does not reach them: without their supervisor they
        would go on, and lose their leases.
        """
        self.processes.signal_groups(signal.SIGSTOP)
        self.stops.suspend_process()
        self.processes.signal_groups(signal.SIGCONT)

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

    def finish(self) -> None:
        """Recover what is left, for a while, and sign off.

        A reload needs Redis to start again: it is waited for, until a stop request.
        """
        left = (self.deadline or 0.0) - clock.monotonic()
        end = clock.monotonic() + max(LAST_TRIES, min(left, self.services.lease))
        while (self.reloading or clock.monotonic() < end) and self.stops.count < 3:
            try:
                self.services.finish()
                logger.info("stopped")
                return
            except (BrokerUnavailable, Refused):
                self.stops.sleep(self.services.retry_interval)
        logger.warning("Redis cannot be reached: others take over what the runners held")

    def leave(self) -> None:
        """Wait until nothing of the services is left beside this process, then end it.

        That is the receivers of worker_shutdown.  They have what is left of ``shutdown_timeout``,
        at least ``LAST_TRIES``; after a second stop request, not more than that.
        """
        now = clock.monotonic()
        end = max(self.deadline or now + self.shutdown_timeout, now + LAST_TRIES)
        while not self.services.have_ended() and self.stops.count < 3:
            if self.stops.count > 1:
                end = min(end, max(now, self.stops.signalled) + LAST_TRIES)
            left = end - clock.monotonic()
            if left <= 0:
                break
            self.stops.sleep(min(CHECK, left))
        self.services.abort()
