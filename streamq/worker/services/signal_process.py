"""The signal process: calls the receivers of a worker's signals beside the supervisor's loop.

These are the receivers of worker_ready, worker_shutting_down and worker_shutdown, and those of
task_revoked for a task whose runner the supervisor has killed.  They are code of the user's, and
may sleep, loop, crash, or keep the interpreter for minutes inside of one call in C.  In the loop,
the leases of all runners would run out meanwhile.  A thread does not help: it shares the lock of
its interpreter with the loop.  So a process calls them.

It is forked from the supervisor, after worker_init, and only if one of these signals has a
receiver then.  It has a copy of all that the supervisor has loaded: what a receiver changes
there, neither the supervisor nor a runner sees.  It is no runner: it reads no queue and has no
lease.

It learns from a pipe what to send, and calls receivers one after the other, as in Celery: one
that does not return keeps the later ones from being called.  The supervisor never waits for it
while it renews leases: what the pipe does not take is kept, and written in later rounds.

    forked --worker_ready--> ... --worker_shutting_down--> ... --worker_shutdown--> ended
       |                                                              |
       +--crash: logged once, the worker goes on--> gone              +--no time left--> killed

The system shows it as ``streamq-signals``.  It leads a session of its own, so that Ctrl-C does not
reach it, and leaves signals that end a worker to its supervisor.  The kernel kills it when the
supervisor ends, however that does.
"""

import contextlib
import logging
import math
import os
import signal
from io import BufferedReader
from typing import Any

import msgspec

from streamq.core.delivery import Delivery
from streamq.execution.executor import Executor
from streamq.execution.not_run import send_revoked
from streamq.host.prctl import name_process
from streamq.runner.inherited import OWN
from streamq.runner.logging import flush_streams
from streamq.runner.runner import die_with
from streamq.signals import (
    Signal,
    task_revoked,
    worker_ready,
    worker_shutdown,
    worker_shutting_down,
)
from streamq.worker.processes import RunnerExit, RunnerProcesses, has_ended, signal_group
from streamq.worker.services.service import EACH_ROUND, Service
from streamq.worker.signals import ENDING

logger = logging.getLogger("streamq.worker")

#: The signals whose receivers the process calls.
SENT_THERE = (worker_ready, worker_shutting_down, worker_shutdown, task_revoked)
BY_NAME = {each.name: each for each in SENT_THERE}
#: The name that the system shows for the process.
NAME = "streamq-signals"
#: From so many bytes that wait for the process on, what comes then is dropped.
MOST_WAITING = 16 * 2**20
#: Bytes of the length before each word, little endian.
LENGTH = 4


class Word(msgspec.Struct, frozen=True):
    """What the process is told: to send this signal, with these arguments.

    For task_revoked: the place and the fields of the message, and the number of the signal.
    Without a name: to end.
    """

    name: str
    given: dict[str, Any] = {}
    message: tuple[str, bytes, dict[bytes, bytes]] | None = None
    signum: int = 0


class SignalProcess(Service):
    """The service that starts the signal process, and tells it what to send."""

    needs_redis = False

    def __init__(self, node: str, executor: Executor, processes: RunnerProcesses) -> None:
        self.node = node
        self.executor = executor
        self.processes = processes
        #: Its pid, 0 if there is none; whether none is to be started (any more).
        self.pid = 0
        self.over = not any(each.links for each in SENT_THERE)
        self.reader = self.writer = -1
        #: What the pipe has not taken yet.
        self.unsent = bytearray()
        #: Whether worker_ready was sent, or is not to be any more; and worker_shutdown was.
        self.is_ready = self.is_leaving = False

    def due(self) -> float:
        """In each round, but never where no receiver is connected."""
        return math.inf if self.over else EACH_ROUND

    def run(self) -> None:
        """Start the process, find out whether it and the runners live, and write what waits."""
        if not self.pid:
            self.start()
        if has_ended(self.pid):
            self.note_end()
            return
        if not self.is_ready:
            self.note_ready(any(each.slots.ready for each in self.processes.children.values()))
        self.write()

    def start(self) -> None:
        """Fork the process."""
        reader, writer = os.pipe()
        supervisor = os.getpid()

        def call_receivers() -> int:
            os.close(writer)
            die_with(supervisor)
            name_process(NAME)
            return receive(open(reader, "rb"), self.node, self.executor)

        try:
            self.pid = self.processes.fork(call_receivers)
        except OSError:  # no more processes or memory, for now
            os.close(reader)
            os.close(writer)
            raise
        # With a reader of our own, no write is an error after the process has crashed.
        self.reader, self.writer = reader, writer
        os.set_blocking(writer, False)
        OWN.keep(reader, writer)
        self.processes.helpers.add(self.pid)
        logger.debug("process %d calls the receivers of worker signals", self.pid)

    # What it is told

    def tell(self, sent: Signal, word: Word) -> None:
        """Have the process send a signal, if anything is connected to it."""
        if self.over or not sent.links:
            return
        if len(self.unsent) > MOST_WAITING:
            logger.warning("receivers take too long: they do not learn of one %s", sent.name)
            return
        self.put(word)

    def put(self, word: Word) -> None:
        """Add a word to what waits."""
        data = msgspec.msgpack.encode(word)
        self.unsent += len(data).to_bytes(LENGTH, "little") + data

    def write(self) -> None:
        """Write what waits, as much as the pipe takes."""
        with contextlib.suppress(BlockingIOError):
            while self.unsent:
                del self.unsent[: os.write(self.writer, self.unsent)]

    def note_ready(self, ready: bool) -> None:
        """Send worker_ready, once, if a runner is ready to take messages."""
        if ready and not self.is_ready:
            self.is_ready = True
            self.tell(worker_ready, Word(worker_ready.name))

    def on_exit(self, ended: RunnerExit, *, stopped: bool) -> None:
        """Count a runner that was ready and has ended, as in a short burst."""
        self.note_ready(ended.child.slots.ready)

    def on_stop(self, sig: str, how: str) -> None:
        """Send worker_shutting_down."""
        given = {"sig": sig, "how": how, "exitcode": int(how == "Cold")}
        self.tell(worker_shutting_down, Word(worker_shutting_down.name, given))
        self.is_ready = True  # or never: not after this

    def on_terminated(self, delivery: Delivery, signum: int) -> None:
        """Send task_revoked for a task whose runner was killed to stop it."""
        message = (delivery.stream, delivery.entry, delivery.fields)
        self.tell(task_revoked, Word(task_revoked.name, message=message, signum=signum))

    # How it ends

    def has_ended(self) -> bool:
        """Send worker_shutdown, once, and let the process end; return whether it has."""
        if not self.pid:
            return True
        if has_ended(self.pid):
            self.note_end()
            return True
        if not self.is_leaving:
            self.is_leaving = True
            self.tell(worker_shutdown, Word(worker_shutdown.name))
            self.put(Word(""))
        self.write()
        return False

    def abort(self) -> None:
        """Kill the process."""
        if self.pid and not has_ended(self.pid):
            logger.warning("receivers of worker signals take too long, and are ended")
        self.remove()

    def note_end(self) -> None:
        """Note that the process has ended; log it unless it was told to.  It is not replaced."""
        pid, code = self.pid, self.remove()
        if self.is_leaving and not code:
            return
        how = f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
        names = ", ".join(each.name for each in SENT_THERE if each.links)
        logger.error("process %d %s: receivers of %s are called no more", pid, how, names)

    def remove(self) -> int:
        """Kill the process and what it has started, and wait for it; return its exit code."""
        pid, self.pid, self.over = self.pid, 0, True
        if not pid:
            return 0
        signal_group(pid, signal.SIGKILL)
        for descriptor in (self.reader, self.writer):
            if descriptor >= 0:
                os.close(descriptor)
        self.reader = self.writer = -1
        self.processes.helpers.discard(pid)
        try:
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        except ChildProcessError:  # other code in this process has taken it
            return 0


# In the process


def receive(pipe: BufferedReader, node: str, executor: Executor) -> int:
    """Send the signals that the pipe says, until it ends; return the exit code."""
    OWN.handle(dict.fromkeys((*ENDING, signal.SIGHUP), leave_to_supervisor))
    OWN.ignore()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    OWN.set_mask()
    while len(length := pipe.read(LENGTH)) == LENGTH:
        word = msgspec.msgpack.decode(pipe.read(int.from_bytes(length, "little")), type=Word)
        if not word.name:
            break
        if word.message is not None:
            send_terminated(executor, Delivery(*word.message), word.signum)
        else:
            BY_NAME[word.name].send(node, **word.given)
        flush_streams()
    return 0


def leave_to_supervisor(*_: object) -> None:
    """Do nothing: a signal that was sent to the whole group is for the supervisor.

    A handler, because programs that receivers start would inherit that it is ignored.
    """


def send_terminated(executor: Executor, delivery: Delivery, signum: int) -> None:
    """Send task_revoked for a task that was terminated together with its runner."""
    executor.admit(delivery)
    send_revoked(executor, executor.outcomes.revoked(delivery, b"terminated"), signum)
