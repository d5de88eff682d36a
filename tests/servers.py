"""A server as a process of its own, that may be killed and started again."""

import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis as redis_py

from tests.processes import die_with_parent, until


class Server:
    """A server on a unix socket in a folder, with an append-only file."""

    def __init__(self, folder: Path, program: str, options: Sequence[str] = ()) -> None:
        self.folder, self.program = folder, program
        self.url = f"unix://{folder}/s"
        self.fsync = "everysec"
        #: Further options, from the next start on.
        self.options = list(options)
        self.process: subprocess.Popen[bytes] | None = None
        #: The settings that ``make_new`` goes back to.
        self.settings: dict[str, str] = {}
        self.client: Any = redis_py.Redis.from_url(
            self.url, protocol=2, decode_responses=True, encoding_errors="surrogateescape"
        )

    def start(self) -> None:
        self.launch()
        until(self.answers, "the server answers", seconds=60)

    def launch(self) -> None:
        """Start it, and do not wait until it answers."""
        options = ["--port", "0", "--unixsocket", f"{self.folder}/s", "--dir", str(self.folder)]
        options += ["--save", "", "--appendonly", "yes", "--appendfsync", self.fsync]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                [self.program, *options, *self.options],
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()
        try:
            return bool(self.client.ping())
        except redis_py.RedisError:
            return False

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(timeout=20)
            self.process = None

    def write_through(self) -> None:
        """From now on, write to disk before answering.

        With everysec a killed server may forget what it accepted in its last moments: it
        answers before it writes while the disk is busy.
        """
        self.fsync = "always"
        self.client.config_set("appendfsync", "always")

    def make_new(self) -> None:
        """Make it as if it had just been started: no data, no scripts, no users, no clients."""
        client = self.client
        for name, value in client.config_get("*").items():
            if value != self.settings[name]:
                client.config_set(name, value=self.settings[name])
        for user in client.acl_users():
            if user != "default":
                client.acl_deluser(user)
        client.execute_command("CLIENT", "KILL", "SKIPME", "yes", "TYPE", "normal")
        client.flushall()
        client.script_flush()
        client.acl_log_reset()
        client.config_resetstat()

    def restart(self, number: signal.Signals = signal.SIGTERM, *, down: float = 0.0) -> None:
        self.stop(number)
        time.sleep(down)
        self.start()

    def close(self) -> None:
        """End it at once, and the client with it."""
        self.client.close()
        self.stop(signal.SIGKILL)


@contextmanager
def running(program: str, folder: Path, *options: str) -> Iterator[Server]:
    """A server for a block."""
    folder.mkdir(exist_ok=True)
    server = Server(folder, program, options)
    try:
        server.start()
        yield server
    finally:
        server.close()
