"""The process that owns a project's server and ends it when nobody needs it.

It is called with a folder, a server program, its version and a grace in seconds.  It
detaches itself, starts the server as its child, says on its standard output why that
failed (nothing if it went well), and closes it.  From then on it waits: for the last user
to go, for the server to end, for a signal.  The server dies with it, however it dies.
"""

import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from streamq.devserver import locks
from streamq.devserver import ping as resp
from streamq.devserver.binary import Binary
from streamq.devserver.project import Place, Record, private
from streamq.host import clock

#: Seconds a server may take to load its data, and to end.
LOADING, ENDING = 60.0, 10.0

#: Seconds between two looks at whether anybody uses the server.
LOOK = 1.0

#: Linux' prctl(2): which signal a process gets when its parent dies.
PR_SET_PDEATHSIG = 1


class CannotKeep(Exception):
    """There is no server, and this is why."""


class Keeper:
    """Keeps one server for one folder."""

    def __init__(self, place: Place, binary: Binary, grace: float) -> None:
        self.place = place
        self.binary = binary
        self.grace = grace
        self.socket = place.new_socket()
        self.keeping = locks.opened(place.keeping)
        self.serving = locks.opened(place.serving)
        self.users = locks.opened(place.users)
        self.last_used = clock.time()
        self.stopping = False
        self.bell = self.listen_to_signals()

    def take_charge(self) -> bool:
        """Become the only keeper of this folder; False if another one serves already."""
        deadline = clock.monotonic() + LOADING
        while not locks.lock_alone(self.keeping):
            if resp.answers(self.place.socket):
                return False
            if clock.monotonic() > deadline:
                raise CannotKeep(f"another keeper runs, but {self.place.socket} is silent")
            time.sleep(locks.PAUSE)
        if not locks.lock_alone(self.serving):
            self.end_orphan()
        return True

    def end_orphan(self) -> None:
        """Wait for a server whose keeper is dead: it holds the data."""
        resp.shut_down(self.place.socket)
        deadline = clock.monotonic() + ENDING
        while not locks.lock_alone(self.serving):
            if clock.monotonic() > deadline:
                record = self.place.record()
                raise CannotKeep(f"an earlier server does not end: process {record and record.pid}")
            time.sleep(locks.PAUSE)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        private(self.socket.parent)
        self.socket.unlink(missing_ok=True)
        self.record(pid=None)
        self.server = subprocess.Popen(
            self.command(),
            cwd=self.place.folder,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            # The lock is the server's too: no other starts on this data while it lives.
            pass_fds=[self.serving],
            preexec_fn=DieWithParent(),
        )
        self.record(pid=self.server.pid)
        deadline = clock.monotonic() + LOADING
        while not resp.answers(self.socket):
            if self.server.poll() is not None:
                self.record(pid=None)
                raise CannotKeep(f"the server ended at once, exit code {self.server.returncode}")
            if clock.monotonic() > deadline or self.stopping:
                self.end_server()
                raise CannotKeep(f"the server was not ready after {LOADING:.0f} s")
            time.sleep(0.005)

    def keep(self) -> None:
        """Wait until there is a reason to end, and end."""
        while not self.stopping and self.server.poll() is None:
            self.wait()
            if not locks.is_same_file(self.users, self.place.users):
                # The folder was deleted and its path may be another server's by now;
                # a polite end would remove that server's socket.
                self.server.kill()
                self.server.wait()
                return
            if self.is_unused():
                break
        self.end_server()

    def wait(self) -> None:
        """Sleep until a signal comes, or it is time to look for users again."""
        rung, _, _ = select.select([self.bell], [], [], min(LOOK, self.grace / 4))
        if rung:
            self.bell.recv(64)

    def is_unused(self) -> bool:
        """Whether the grace has passed since the last user.

        If so the lock stays taken: whoever arrives now waits until the server has ended,
        and starts a new one.
        """
        now = clock.time()
        if self.place.pin.exists() or not locks.lock_alone(self.users):
            self.last_used = now
            return False
        arrival = os.fstat(self.users).st_mtime  # of a user who came and went between two looks
        if 0 <= now - max(self.last_used, arrival) < self.grace:
            locks.unlock(self.users)
            return False
        return True

    def end_server(self) -> None:
        """Let the server flush its data and end; insist if it does not."""
        self.server.terminate()
        try:
            self.server.wait(ENDING)
        except subprocess.TimeoutExpired:
            self.server.kill()
            self.server.wait()
        self.socket.unlink(missing_ok=True)
        self.record(pid=None)

    def record(self, *, pid: int | None) -> None:
        self.place.write(
            Record(
                folder=str(self.place.folder),
                binary=str(self.binary.path),
                version=self.binary.version,
                socket=str(self.socket),
                pid=pid,
                keeper=os.getpid() if pid else None,
            )
        )

    def command(self) -> list[str]:
        """The server's command line: reachable by this user alone, and safe to kill."""
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.place.folder),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            "always-show-logo": "no",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        return [str(self.binary.path), *words]

    def listen_to_signals(self) -> socket.socket:
        """Where a byte arrives for each signal, so that none is slept through."""
        bell, hammer = socket.socketpair()
        bell.setblocking(False)
        hammer.setblocking(False)
        signal.set_wakeup_fd(hammer.detach(), warn_on_full_buffer=False)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self.stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        return bell

    def stop(self, number: int, frame: FrameType | None) -> None:
        self.stopping = True


class DieWithParent:
    """Runs in the new process before the server: ties its life to the keeper's."""

    def __init__(self) -> None:
        self.parent = os.getpid()
        # Looked up here: between fork and exec as little as possible may happen.
        self.prctl = getattr(ctypes.CDLL(None), "prctl", None)

    def __call__(self) -> None:
        if self.prctl is None:
            return  # macOS: the next keeper ends the orphan
        self.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != self.parent:  # it died before the line above
            os._exit(1)


def main(folder: str, binary: str, version: str, grace: str) -> None:
    if os.fork():
        os._exit(0)  # the starter waits for this process, and has no child afterwards
    os.umask(0o077)
    engine, _, number = version.partition(" ")
    keeper = Keeper(Place(Path(folder)), Binary(Path(binary), engine, number), float(grace))
    try:
        if not keeper.take_charge():
            return
        keeper.start()
    except CannotKeep as reason:
        print(reason, flush=True)
        return
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # the starter reads until this
    keeper.keep()
