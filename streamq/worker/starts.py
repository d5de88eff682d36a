"""The starts of runners: which runner of a worker is due, and when."""

import logging
from collections.abc import Sequence

import msgspec

from streamq.host import clock
from streamq.runner.config import RunnerConfig
from streamq.runner.shared_memory import SharedMemory
from streamq.worker.identity import new_token
from streamq.worker.processes import RunnerExit, RunnerProcesses
from streamq.worker.workdir import WorkDir

logger = logging.getLogger("streamq.worker")

#: Seconds between tries to start a runner for which there is no process or memory.
RETRY = 1.0


class RunnerStarts:
    """The starts of the runners of one worker, each with a number of its own.

    The runners of ``configs`` are due at once, and again after they have ended; there may be none,
    where only schedules are fired.  The quarantine runner is due when it is asked for.
    """

    def __init__(
        self,
        configs: Sequence[RunnerConfig],
        quarantine: RunnerConfig,
        processes: RunnerProcesses,
        workdir: WorkDir,
    ) -> None:
        self.configs = {each.number: each for each in [*configs, quarantine]}
        self.quarantine = quarantine
        self.burst = any(each.burst for each in configs)
        self.only_schedules = not configs
        self.processes = processes
        self.workdir = workdir
        self.shared_memory = SharedMemory(
            workdir.opened[workdir.slots], quarantine.runners, quarantine.slots
        )
        #: By the number of a runner that is due: when to start it, in monotonic seconds.
        self.due = {each.number: 0.0 for each in configs}
        #: Whether no runner is started any more.
        self.ended = False

    def are_over(self) -> bool:
        """Whether no runner is due, and none will be."""
        return not self.due and (self.ended or not self.only_schedules)

    def start_due(self) -> None:
        """Start the runners that are due."""
        now = clock.monotonic()
        for number in [number for number, moment in self.due.items() if moment <= now]:
            del self.due[number]
            config = msgspec.structs.replace(self.configs[number], token=new_token())
            try:
                self.workdir.repair()
                child = self.processes.start(config, self.shared_memory.of(number))
            except OSError as error:  # no more processes or memory, for now
                logger.error("a runner cannot be started, and is tried again: %s", error)
                self.processes.note_failed_start(number)
                self.due[number] = now + RETRY
                continue
            logger.debug("runner %d started", child.pid)

    def replace(self, ended: RunnerExit) -> None:
        """Make the replacement of a runner that has ended due, after its restart delay, if any.

        None follows at the end of a burst, or of the quarantine runner's work.
        """
        delay, number = self.processes.restart_delay(ended), ended.child.number
        last = ended.orderly and (self.burst or number == self.quarantine.number)
        if not (self.ended or last):
            self.due[number] = clock.monotonic() + delay

    def start_quarantine(self) -> None:
        """Make the quarantine runner due: it runs suspected messages one by one, then ends."""
        numbers = {child.number for child in self.processes.children.values()}
        if self.quarantine.number not in numbers and not self.ended:
            self.due.setdefault(self.quarantine.number, clock.monotonic())

    def end(self) -> None:
        """Start no runner any more."""
        self.due.clear()
        self.ended = True
