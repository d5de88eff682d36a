"""The keeper process: starts a project's bundled server and ends it after its last user.

Its arguments are a folder, a server program, its version and a grace period in seconds.  It
detaches itself, starts the server as its child, writes the reason to its standard output if that
failed, and closes its standard output.  Then it waits until the last user has gone, the server has
ended or a signal arrives.  The server ends with the keeper, also if the keeper is killed.
"""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from streamq.devserver import locks, ping
from streamq.devserver.binary import Binary
from streamq.devserver.project import ProjectFolder, ServerRecord, make_private
from streamq.host import clock
from streamq.host.prctl import signal_at_parents_death

#: Seconds that a server may take to load its data, and to end.
LOADING, ENDING = 60.0, 10.0

#: Seconds between two checks whether a process uses the server.
POLL_INTERVAL = 1.0


class StartFailed(Exception):
    """The server could not be started; the text says why."""


class Keeper:
    """The keeper of one server in one project folder."""

    def __init__(self, project: ProjectFolder, binary: Binary, grace: float) -> None:
        self.project = project
        self.binary = binary
        self.grace = grace
        self.socket = project.new_socket()
        self.keeper_lock = locks.open_lock(project.keeper_lock)
        self.server_lock = locks.open_lock(project.server_lock)
        self.users_lock = locks.open_lock(project.users_lock)
        self.last_used = clock.time()
        self.stopping = False
        self.wakeup_r = self.listen_to_signals()

    def acquire_lock(self) -> bool:
        """Acquire the locks of keeper and server; False if another keeper's server answers.

        Raises StartFailed if another keeper holds its lock for ``LOADING`` seconds without one.
        """
        deadline = clock.monotonic() + LOADING
        while not locks.lock_alone(self.keeper_lock):
            if ping.answers(self.project.socket):
                return False
            if clock.monotonic() > deadline:
                raise StartFailed(f"another keeper runs, but {self.project.socket} is silent")
            time.sleep(locks.PAUSE)
        if not locks.lock_alone(self.server_lock):
            self.end_orphan()
        return True

    def end_orphan(self) -> None:
        """Shut down a server whose keeper is dead, and wait until it has released its lock.

        Raises StartFailed after ``ENDING`` seconds.
        """
        ping.shut_down(self.project.socket)
        deadline = clock.monotonic() + ENDING
        while not locks.lock_alone(self.server_lock):
            if clock.monotonic() > deadline:
                record = self.project.record()
                raise StartFailed(
                    f"an earlier server does not end: process {record and record.pid}"
                )
            time.sleep(locks.PAUSE)

    def start(self) -> None:
        """Start the server and wait until it answers.  Raises StartFailed if it does not."""
        make_private(self.socket.parent)
        self.socket.unlink(missing_ok=True)
        self.record(pid=None)
        self.server = subprocess.Popen(
            self.command(),
            cwd=self.project.folder,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            # The server inherits the lock, so that no other one starts on this data while it lives.
            pass_fds=[self.server_lock],
            preexec_fn=DieWithParent(),
        )
        self.record(pid=self.server.pid)
        deadline = clock.monotonic() + LOADING
        while not ping.answers(self.socket):
            if self.server.poll() is not None:
                self.record(pid=None)
                raise StartFailed(f"the server ended at once, exit code {self.server.returncode}")
            if clock.monotonic() > deadline or self.stopping:
                self.end_server()
                raise StartFailed(f"the server was not ready after {LOADING:.0f} s")
            time.sleep(0.005)

    def keep(self) -> None:
        """Wait until the server ends, is unused or a signal arrives; then end the server."""
        while not self.stopping and self.server.poll() is None:
            self.wait()
            if not locks.is_same_file(self.users_lock, self.project.users_lock):
                # The folder was deleted, and another server may use its path by now.  SIGTERM
                # would let this server remove the other one's socket.
                self.server.kill()
                self.server.wait()
                return
            if self.is_unused():
                break
        self.end_server()

    def wait(self) -> None:
        """Sleep until a signal arrives, or until the next check for users."""
        readable, _, _ = select.select([self.wakeup_r], [], [], min(POLL_INTERVAL, self.grace / 4))
        if readable:
            self.wakeup_r.recv(64)

    def is_unused(self) -> bool:
        """Whether the grace period has passed since the last user left.

        If so, the lock stays taken: a process that wants the server now waits until it has ended,
        and starts a new one.
        """
        now = clock.time()
        if self.project.pin.exists() or not locks.lock_alone(self.users_lock):
            self.last_used = now
            return False
        arrival = os.fstat(
            self.users_lock
        ).st_mtime  # a user may have come and gone between two checks
        if 0 <= now - max(self.last_used, arrival) < self.grace:
            locks.unlock(self.users_lock)
            return False
        return True

    def end_server(self) -> None:
        """Terminate the server, which flushes its data; kill it after ``ENDING`` seconds."""
        self.server.terminate()
        try:
            self.server.wait(ENDING)
        except subprocess.TimeoutExpired:
            self.server.kill()
            self.server.wait()
        self.socket.unlink(missing_ok=True)
        self.record(pid=None)

    def record(self, *, pid: int | None) -> None:
        """Write ``server.json``; ``pid`` is None while no server runs."""
        self.project.write(
            ServerRecord(
                folder=str(self.project.folder),
                binary=str(self.binary.path),
                version=self.binary.version,
                socket=str(self.socket),
                pid=pid,
                keeper=os.getpid() if pid else None,
            )
        )

    def command(self) -> list[str]:
        """The server's command line: a socket for this user only, and an append-only file."""
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.project.folder),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            "always-show-logo": "no",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        return [str(self.binary.path), *words]

    def listen_to_signals(self) -> socket.socket:
        """Install signal handlers.  Returns the reading end of the wake-up pipe.

        A byte arrives there for each signal, so that ``wait`` misses none.
        """
        wakeup_r, wakeup_w = socket.socketpair()
        wakeup_r.setblocking(False)
        wakeup_w.setblocking(False)
        signal.set_wakeup_fd(wakeup_w.detach(), warn_on_full_buffer=False)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self.stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        return wakeup_r

    def stop(self, number: int, frame: FrameType | None) -> None:
        self.stopping = True


class DieWithParent:
    """A hook that runs in the new process before the server: it shall end with the keeper."""

    def __init__(self) -> None:
        self.parent = os.getpid()

    def __call__(self) -> None:
        known = signal_at_parents_death(signal.SIGTERM)  # macOS: the next keeper ends the orphan
        if known and os.getppid() != self.parent:  # the parent died before the call
            os._exit(1)


def main(folder: str, binary: str, version: str, grace: str) -> None:
    """Run a keeper in a detached process."""
    if os.fork():
        os._exit(0)  # the starter waits for this process, and has no child afterwards
    os.umask(0o077)
    engine, _, number = version.partition(" ")
    keeper = Keeper(ProjectFolder(Path(folder)), Binary(Path(binary), engine, number), float(grace))
    try:
        if not keeper.acquire_lock():
            return
        keeper.start()
    except StartFailed as reason:
        print(reason, flush=True)
        return
    os.dup2(
        sys.stderr.fileno(), sys.stdout.fileno()
    )  # the starter reads until standard output is closed
    keeper.keep()
