"""The runner processes of one worker: how they are started, reaped, and why they ended."""

import contextlib
import logging
import os
import posix
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from streamq.host import clock
from streamq.host.launch import Launch
from streamq.runner.config import RunnerConfig
from streamq.runner.databases import close_before_fork
from streamq.runner.inherited import OWN
from streamq.runner.logging import flush_streams, read_nothing
from streamq.runner.shared_memory import RunnerSlots
from streamq.runner.signals import CONTROL
from streamq.worker.identity import Life, life_of, place, state_of
from streamq.worker.orphans import Orphans

logger = logging.getLogger("streamq.worker")

#: Seconds to wait for a process to stop.
STOPPED_WITHIN = 0.5
#: The same, where the system does not show whether a process has stopped.
STOPPED_UNSEEN = 0.05
#: Seconds to wait before the next start of a runner that ends before it has finished any task.
BACKOFF = (0.0, 1.0, 2.0, 5.0)
#: After as many starts in a row that failed, a runner counts as one that cannot start.
CANNOT_START = 3
#: The code of a runner that is a program of its own.  First it gets the path of this process, on
#: which streamq is found; no file in the folder hides the standard library (``-P``).
RUNNER = """\
import sys
sys.path[:] = sys.argv[2:]
del sys.argv[2:]
from streamq.runner.gevent_main import main
sys.exit(main())
"""


def python_options() -> list[str]:
    """The options of Python that this process runs with: -O, -W, -X and the like."""
    options: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    options += [
        f"-X{name}={value}" if value is not True else f"-X{name}"
        for name, value in sys._xoptions.items()
    ]
    if getattr(sys.__stdout__, "write_through", False):
        options.append("-u")
    return options


def oom_kills() -> int:
    """How many processes this machine has killed for lack of memory, in any control group.

    0 where the system does not say.  The group of a process that has ended may be gone.
    """
    try:
        counters = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(each.split()[1]) for each in counters if each.startswith("oom_kill ")), 0)


@dataclass(slots=True)
class RunnerProcess:
    """One runner process, as its supervisor knows it."""

    number: int
    pid: int
    consumer: str
    slots: RunnerSlots
    streams: list[str]
    #: Whether it runs one task at a time: a forked runner does.
    sequential: bool = True
    #: The tasks for which the supervisor kills it, and how each of them is settled.
    forced_ends: list[Any] = field(default_factory=list)
    #: Why the supervisor has killed it, if it has.
    kill_reason: str = ""
    #: Whether it has been seen in the lease table.
    leased: bool = False
    #: When it was first seen to have lost its lease, in monotonic seconds.
    fenced_at: float | None = None
    started: float = field(default_factory=clock.monotonic)
    #: How many processes the machine had killed for lack of memory when it started.
    oom_kills_before: int = field(default_factory=oom_kills)

    def kill(self, reason: str) -> None:
        """Kill it, for this reason."""
        self.kill_reason = reason
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        """Send a signal; do nothing if the process is gone already."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


@dataclass(frozen=True, slots=True)
class RunnerExit:
    """The exit of a runner: how its process ended."""

    child: RunnerProcess
    #: The wait status; None if other code in this process has taken it.
    status: int | None
    #: The most memory that it had resident, in bytes.
    memory: int = 0
    #: Whether the machine has killed a process for lack of memory while the runner lived.
    oom_seen: bool = False

    @property
    def orderly(self) -> bool:
        """Whether it ended because it was asked to, or had nothing more to do.

        The runner notes that last of all; a signal may still have ended the process after it.
        """
        return self.child.slots.exited_cleanly

    @property
    def started(self) -> bool:
        """Whether it ever came so far as to send a command to Redis."""
        slots = self.child.slots
        return bool(slots.ready or self.child.leased or slots.running() or slots.ended())

    @property
    def fenced(self) -> bool:
        """Whether it ended because it had been fenced."""
        return self.child.slots.fenced

    @property
    def reason(self) -> str:
        """What happened to it, as a sentence for logs, records and dead letters."""
        if self.child.kill_reason:
            return f"runner {self.child.pid} was ended by its worker: {self.child.kill_reason}"
        slots = self.child.slots
        idle = "after it ran the task" if slots.ended() else "before it ran any task"
        when = "while it ran the task" if slots.running() else idle
        peak = f"; its memory had reached {self.memory / 2**20:.0f} MiB" if self.memory else ""
        if self.status is None:
            who = "a module of yours that waits for every child has taken its exit status"
            return f"runner {self.child.pid} ended {when}; {who}"
        code = os.waitstatus_to_exitcode(self.status)
        if code > 0 and not self.started:
            where = "its traceback is on standard error, above"
            return f"runner {self.child.pid} could not start: it exited with code {code}; {where}"
        if code >= 0:
            return f"runner {self.child.pid} exited with code {code} {when}{peak}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        hint = " (out of memory?)" if self.oom_seen and code == -signal.SIGKILL else ""
        return f"runner {self.child.pid} was killed by {name} ({-code}) {when}{peak}{hint}"


class RunnerProcesses:
    """The runner processes: starts them, signals them, and reaps those that have ended."""

    def __init__(self, run_forked: Callable[[RunnerConfig], int], launch: Launch) -> None:
        self.run_forked = run_forked
        self.launch = launch
        self.children: dict[int, RunnerProcess] = {}
        #: By the number of a runner: how often in a row it ended before it had finished any task.
        self.early_exits: dict[int, int] = {}
        #: By the number of a runner: how often in a row it could not start.
        self.failed_starts: dict[int, int] = {}
        self.orphans = Orphans()
        #: Processes of this worker that run no task.
        self.helpers: set[int] = set()

    def start(self, config: RunnerConfig, slots: RunnerSlots) -> RunnerProcess:
        """Start a runner: a fork, or a program of its own where gevent must patch first."""
        slots.reset()
        if config.pool == "gevent":
            child = self.start_program(config, slots)
        else:
            child = self.start_fork(config, slots)
        self.children[child.pid] = child
        return child

    def start_fork(self, config: RunnerConfig, slots: RunnerSlots) -> RunnerProcess:
        """Fork a runner; it shares the memory of the app that is loaded already."""
        close_before_fork()
        pid = self.fork(lambda: self.run_forked(config))
        consumer = config.consumer(pid)
        return RunnerProcess(config.number, pid, consumer, slots, config.streams)

    def start_program(self, config: RunnerConfig, slots: RunnerSlots) -> RunnerProcess:
        """Start a runner as a program of its own, with the folder and environment of this one."""
        launch = self.launch
        os.stat(launch.folder)  # raises here and not in the child if it is gone
        options = [*python_options(), "-P", "-c", RUNNER, config.write(), *launch.path]
        environment = launch.environment(launch.folder)

        def execute() -> NoReturn:
            os.chdir(launch.folder)
            OWN.set_mask(blocked=CONTROL)  # all others as they were when the worker was started
            os.execve(launch.program, [launch.program, *options], environment)

        pid = self.fork(execute)
        consumer, streams = config.consumer(pid), config.streams
        return RunnerProcess(config.number, pid, consumer, slots, streams, sequential=False)

    def fork(self, run: Callable[[], int]) -> int:
        """Fork a process that calls this and exits with the code that it returns; return its pid.

        Not by ``os.fork`` or ``subprocess``: a module of the user's may have replaced them by
        gevent's, which wait for children themselves and take their exit status.
        """
        flush_streams()
        with OWN.signals_blocked():
            pid = posix.fork()
            if pid == 0:
                self.run_in_child(run)
        return pid

    def run_in_child(self, run: Callable[[], int]) -> NoReturn:
        """Run this in the child, and exit: never return to the supervisor's code."""
        code = 1
        try:
            os.setsid()  # what tasks start in it ends with it, and no terminal stops them
            read_nothing()
            code = run()
        except BaseException:
            with contextlib.suppress(Exception):
                sys.excepthook(*sys.exc_info())
        finally:
            flush_streams()
            os._exit(code)

    def reap(self) -> list[RunnerExit]:
        """Reap the runners that have ended, and the orphans that tasks have left behind."""
        self.orphans.reap([*self.children, *self.helpers])
        return [
            self.remove(child) for child in list(self.children.values()) if has_ended(child.pid)
        ]

    def remove(self, child: RunnerProcess) -> RunnerExit:
        """Kill what a runner has left in its process group, and take its exit status."""
        # Until it is waited for, no other process has its pid.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        del self.children[child.pid]
        oom_seen = oom_kills() > child.oom_kills_before
        try:
            _, status, usage = os.wait4(child.pid, 0)
        except ChildProcessError:
            return RunnerExit(child, None, 0, oom_seen)
        return RunnerExit(child, status, usage.ru_maxrss * 1024, oom_seen)

    def restart_delay(self, ended: RunnerExit) -> float:
        """Seconds to wait before this runner is replaced; counts its failed starts."""
        number = ended.child.number
        if ended.started or ended.orderly or ended.child.kill_reason:
            self.failed_starts.pop(number, None)
        else:
            self.note_failed_start(number)
        if ended.orderly or ended.child.slots.ran:
            self.early_exits[number] = 0
            return 0.0
        before = self.early_exits.get(number, 0)
        self.early_exits[number] = before + 1
        return BACKOFF[min(before, len(BACKOFF) - 1)]

    def note_failed_start(self, number: int) -> None:
        """Count a start that failed; from the third in a row on, log each."""
        self.failed_starts[number] = failed = self.failed_starts.get(number, 0) + 1
        if failed >= CANNOT_START:
            logger.error("a runner could not start %d times in a row; it is tried again", failed)

    @property
    def cannot_start(self) -> int:
        """How many runners failed to start ``CANNOT_START`` times in a row, and have not since."""
        if not self.failed_starts:  # nearly always; this is asked often
            return 0
        started = {child.number for child in self.children.values() if child.slots.ready}
        failing = {
            number for number, failed in self.failed_starts.items() if failed >= CANNOT_START
        }
        return len(failing - started)

    def signal_all(self, number: int) -> None:
        """Send a signal to every runner."""
        for child in self.children.values():
            child.signal(number)

    def signal_groups(self, number: int) -> None:
        """Send a signal to every process below this one, and what users' code started there."""
        for pid in [*self.children, *self.helpers]:
            signal_group(pid, number)


def signal_group(pid: int, number: int) -> None:
    """Send a signal to a child and its process group."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):  # it leads no group yet
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def has_ended(pid: int) -> bool:
    """Whether a child has ended; it stays to be waited for, unless other code has done so."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def wait_suspended(pid: int, states: str = "T") -> bool:
    """Wait until a process is in one of these states, as the system names them; return whether.

    T has been stopped; D waits for a device or a child, and cannot be stopped just now.  Gives up
    after ``STOPPED_WITHIN``.  Where states cannot be seen it counts as suspended after
    ``STOPPED_UNSEEN``.
    """
    deadline = clock.monotonic() + STOPPED_WITHIN
    while clock.monotonic() < deadline:
        state = state_of(pid)
        if not state:
            if life_of(pid, place()) is Life.GONE:
                return False
            time.sleep(STOPPED_UNSEEN)
            return True
        if state in states or state in "ZX":
            return state in states
        time.sleep(0.001)
    return False
