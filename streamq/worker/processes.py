"""The runner processes of one worker: started, watched, and what their deaths mean."""

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
from streamq.runner.config import Assignment
from streamq.runner.inherited import OWN
from streamq.runner.logging import flush_streams, read_nothing
from streamq.runner.shared_memory import Slots
from streamq.runner.signals import CONTROL
from streamq.worker.identity import Life, life_of, place, state_of
from streamq.worker.orphans import Orphans

logger = logging.getLogger("streamq.worker")

#: Seconds to wait for a process to stop.
STOPPED_WITHIN = 0.5
#: The same, where the system does not say whether one has stopped.
BLIND = 0.05
#: Seconds to wait before the next start of a runner that dies before finishing anything.
BACKOFF = (0.0, 1.0, 2.0, 5.0)
#: After as many starts in a row that failed, it is said that a runner cannot start.
HOPELESS = 3
#: How a runner starts that is a program of its own.  Before all else it gets our path, behind
#: which streamq may be found; nothing beside us hides the standard library (``-P``).
RUNNER = """\
import sys
sys.path[:] = sys.argv[2:]
del sys.argv[2:]
from streamq.runner.gevent_main import main
sys.exit(main())
"""


def python_options() -> list[str]:
    """The options of Python with which this process runs: -O, -W, -X and the like."""
    options: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    options += [
        f"-X{name}={value}" if value is not True else f"-X{name}"
        for name, value in sys._xoptions.items()
    ]
    if getattr(sys.__stdout__, "write_through", False):
        options.append("-u")
    return options


def kills_for_memory() -> int:
    """How many processes this machine has killed for their memory, in whatever control group.

    0 where it does not tell.  The group of a process that has ended may not be known any more.
    """
    try:
        counters = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(each.split()[1]) for each in counters if each.startswith("oom_kill ")), 0)


@dataclass(slots=True)
class Child:
    """One runner process."""

    number: int
    pid: int
    consumer: str
    slots: Slots
    streams: list[str]
    #: Whether it runs one task at a time: a forked runner does.
    sequential: bool = True
    #: The tasks for which we have ended it, and how each of them ends.
    verdicts: list[Any] = field(default_factory=list)
    #: Why we have ended it, if we have.
    ended: str = ""
    #: Whether it has been seen in the lease table.
    leased: bool = False
    #: When it was told that it had been declared dead.
    dismissed: float | None = None
    started: float = field(default_factory=clock.monotonic)
    #: How many processes the machine had killed for their memory when it started.
    kills: int = field(default_factory=kills_for_memory)

    def end(self, why: str) -> None:
        """Kill it, for this reason."""
        self.ended = why
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        """Send a signal; a process that is gone already is none of our concern."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


@dataclass(frozen=True, slots=True)
class Death:
    """How a runner ended."""

    child: Child
    #: As the system says it; None if somebody else has asked.
    status: int | None
    #: The most memory that it had resident, in bytes.
    memory: int = 0
    #: Whether the machine has killed a process for its memory while it lived.
    scarce: bool = False

    @property
    def orderly(self) -> bool:
        """Whether it ended because it was told to, or had nothing more to do.

        It says so last of all; a signal may still have ended the process after that.
        """
        return self.child.slots.left

    @property
    def started(self) -> bool:
        """Whether it has ever come so far as to ask Redis for something."""
        slots = self.child.slots
        return bool(slots.arrived or self.child.leased or slots.running() or slots.ended())

    @property
    def fenced(self) -> bool:
        """Whether it ended because it had been declared dead."""
        return self.child.slots.fenced

    @property
    def reason(self) -> str:
        """What happened to it, in words."""
        if self.child.ended:
            return f"runner {self.child.pid} was ended by its worker: {self.child.ended}"
        slots = self.child.slots
        idle = "after it ran the task" if slots.ended() else "before it ran any task"
        when = "while it ran the task" if slots.running() else idle
        peak = f"; its memory had reached {self.memory / 2**20:.0f} MiB" if self.memory else ""
        if self.status is None:
            who = "a module of yours that waits for every child has been told how"
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
        hint = " (out of memory?)" if self.scarce and code == -signal.SIGKILL else ""
        return f"runner {self.child.pid} was killed by {name} ({-code}) {when}{peak}{hint}"


class Nursery:
    """Starts runners and notices when they end."""

    def __init__(self, run_forked: Callable[[Assignment], int], launch: Launch) -> None:
        self.run_forked = run_forked
        self.launch = launch
        self.children: dict[int, Child] = {}
        self.failures: dict[int, int] = {}
        #: By the number of a runner: how often in a row it could not start.
        self.unstarted: dict[int, int] = {}
        self.orphans = Orphans()

    def start(self, assignment: Assignment, slots: Slots) -> Child:
        """Start a runner: fork, or a fresh process where gevent must patch first."""
        slots.reset()
        if assignment.pool == "gevent":
            child = self.execute(assignment, slots)
        else:
            child = self.fork(assignment, slots)
        self.children[child.pid] = child
        return child

    def fork(self, assignment: Assignment, slots: Slots) -> Child:
        """Fork a runner; it shares the memory of the app that is loaded already."""
        pid = self.begin(lambda: self.run_forked(assignment))
        consumer = assignment.consumer(pid)
        return Child(assignment.number, pid, consumer, slots, assignment.streams)

    def execute(self, assignment: Assignment, slots: Slots) -> Child:
        """Start a runner as a program of its own, in the world in which we were started."""
        launch = self.launch
        os.stat(launch.folder)  # or raise what is wrong with it
        words = [*python_options(), "-P", "-c", RUNNER, assignment.leave(), *launch.path]
        environment = launch.environment(launch.folder)

        def become() -> NoReturn:
            os.chdir(launch.folder)
            OWN.let(blocked=CONTROL)  # all others as they were given
            os.execve(launch.program, [launch.program, *words], environment)

        pid = self.begin(become)
        consumer, streams = assignment.consumer(pid), assignment.streams
        return Child(assignment.number, pid, consumer, slots, streams, sequential=False)

    def begin(self, live: Callable[[], int]) -> int:
        """Begin a process that does this and ends with its code; return its number.

        A module of the user's may have put gevent's functions in the place of those in ``os``
        and ``subprocess``, which wait for children behind our back.
        """
        flush_streams()
        with OWN.withholding():
            pid = posix.fork()
            if pid == 0:
                self.in_child(live)
        return pid

    def in_child(self, live: Callable[[], int]) -> NoReturn:
        """Be a runner, and never come back from here to the supervisor's code."""
        code = 1
        try:
            os.setsid()  # what tasks start in it ends with it, and no terminal stops them
            read_nothing()
            code = live()
        except BaseException:
            with contextlib.suppress(Exception):
                sys.excepthook(*sys.exc_info())
        finally:
            flush_streams()
            os._exit(code)

    def reap(self) -> list[Death]:
        """The runners that have ended since the last look; what tasks have left is waited for."""
        self.orphans.reap(self.children)
        return [self.bury(child) for child in list(self.children.values()) if has_ended(child.pid)]

    def bury(self, child: Child) -> Death:
        """End what a runner has left behind, and ask how it ended."""
        # While it is not waited for, nobody else has its number.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        del self.children[child.pid]
        scarce = kills_for_memory() > child.kills
        try:
            _, status, usage = os.wait4(child.pid, 0)
        except ChildProcessError:
            return Death(child, None, 0, scarce)
        return Death(child, status, usage.ru_maxrss * 1024, scarce)

    def patience(self, death: Death) -> float:
        """Seconds to wait before this runner is replaced."""
        number = death.child.number
        if death.started or death.orderly or death.child.ended:
            self.unstarted.pop(number, None)
        else:
            self.note_failure(number)
        if death.orderly or death.child.slots.ran:
            self.failures[number] = 0
            return 0.0
        failures = self.failures.get(number, 0)
        self.failures[number] = failures + 1
        return BACKOFF[min(failures, len(BACKOFF) - 1)]

    def note_failure(self, number: int) -> None:
        """Count a start that failed; from the third in a row on, say each time how it stands."""
        self.unstarted[number] = failed = self.unstarted.get(number, 0) + 1
        if failed >= HOPELESS:
            logger.error("a runner could not start %d times in a row; it is tried again", failed)

    @property
    def hopeless(self) -> int:
        """How many runners could not start for several times in a row, and have not since."""
        started = {child.number for child in self.children.values() if child.slots.arrived}
        failing = {number for number, failed in self.unstarted.items() if failed >= HOPELESS}
        return len(failing - started)

    def signal_all(self, number: int) -> None:
        """Send a signal to every runner."""
        for child in self.children.values():
            child.signal(number)

    def signal_groups(self, number: int) -> None:
        """Send a signal to every runner and what its tasks have started there."""
        for pid, child in self.children.items():
            try:
                os.killpg(pid, number)
            except (ProcessLookupError, PermissionError):  # it has only just been born
                child.signal(number)


def has_ended(pid: int) -> bool:
    """Whether a child has ended; it stays to be waited for, unless somebody has."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def stands_still(pid: int, states: str = "T") -> bool:
    """Wait until a process is in one of these states, as the system names them.

    T has been stopped; D waits for a device or a child, and cannot be stopped just now.
    Where that cannot be seen, it is taken to stand still after a while.
    """
    deadline = clock.monotonic() + STOPPED_WITHIN
    while clock.monotonic() < deadline:
        state = state_of(pid)
        if not state:
            if life_of(pid, place()) is Life.GONE:
                return False
            time.sleep(BLIND)  # nothing can be seen here
            return True
        if state in states or state in "ZX":
            return state in states
        time.sleep(0.001)
    return False
