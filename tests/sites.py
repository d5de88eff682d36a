"""Sites: folders with real workers, on a real server that tests kill and restart."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import streamq
from streamq.worker.services import signal_process
from tests.edits import CHECKOUT, change, copy_checkout
from tests.processes import alive, children_of, comm, until
from tests.proxy import Proxy
from tests.servers import Server, running
from tests.system.shell import TASKS, Shell
from tests.zygote import CARRIED, start

#: Keys that need not expire: topology, and bounded stores.
LASTING = re.compile(
    r"\{streamq\}:(exchanges|alternates|queues|leases|lease_ms|workers|schedules"
    r"|(bindings|routes|queue|script|dead|schedule):.*)$"
)

HEADER = """
import os, signal, sys, time
from pathlib import Path
import streamq
from streamq import App, Binding, Exchange, Queue

app = App("site", url=os.environ["STREAMQ_URL"])
HERE = Path(__file__).parent


def note(word):
    \"\"\"Append a line in one write, so that it is whole even if the process dies next.\"\"\"
    file = os.open(HERE / "notes", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{word}\\n".encode())
    os.close(file)

"""


@pytest.fixture
def server(server_program: str) -> Iterator[Server]:
    """A server for this test alone, which it may kill, freeze and configure."""
    with (
        tempfile.TemporaryDirectory(prefix="streamq-system-", ignore_cleanup_errors=True) as folder,
        running(server_program, Path(folder)) as server,
    ):
        yield server


@pytest.fixture
def any_server(request: pytest.FixtureRequest) -> Server:
    """The server of this test: its own if it uses ``server``, else the shared one, emptied."""
    if "server" in request.fixturenames:
        own: Server = request.getfixturevalue("server")
        return own
    shared: Server = request.getfixturevalue("shared_server")
    shared.make_new()
    return shared


@pytest.fixture
def proxy(any_server: Server) -> Iterator[Proxy]:
    """A proxy between workers and the server: ``site.env["STREAMQ_URL"] = proxy.url``."""
    with Proxy(any_server.url) as proxy:
        yield proxy


class Worker:
    """A `streamq worker` process."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def said(self) -> str:
        """The log of the worker so far."""
        return self.log.read_text()

    def runners(self) -> list[int]:
        return [pid for pid in children_of(self.pid) if comm(pid) != signal_process.NAME]

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = 30.0) -> int:
        return self.process.wait(timeout=seconds)

    def stop(self) -> int:
        """End the worker by SIGTERM; return the exit code."""
        if self.process.poll() is None:
            self.signal()
        return self.wait()


def runners_of(words: list[str]) -> int:
    """The number of runners that a command line asks for."""
    option = "--processes" if "gevent" in words else "-c"
    several = option in words and "solo" not in words
    return int(words[words.index(option) + 1]) if several else 1


class Site:
    """A site: a folder with the modules of a user, workers that run them, and a server."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder = folder
        self.server = server
        self.redis = server.client
        self.apps: list[streamq.App] = []
        self.workers: list[Worker] = []
        self.helpers: list[subprocess.Popen[bytes]] = []
        self.env = {
            **{name: value for name, value in os.environ.items() if "STREAMQ" not in name},
            "STREAMQ_URL": server.url,
            "STREAMQ_UNKNOWN_TASK_PATIENCE": "500ms",
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.app = self.new_app()

    def new_app(self, **settings: Any) -> streamq.App:
        """A new app of a producer, which knows the tasks by name only."""
        app = streamq.App("producer", url=self.server.url, **settings)
        self.apps.append(app)
        return app

    def write(self, body: str, *, name: str = "tasks", header: str = HEADER) -> None:
        """Write a module of the user into the folder."""
        (self.folder / f"{name}.py").write_text(header + textwrap.dedent(body))

    def worker(
        self, *flags: object, app: str = "tasks", ready: bool = True, forked: bool = True,
        **process: Any,
    ) -> Worker:  # fmt: skip
        """Start a worker, a ``process`` as Popen takes it; wait until its runners have leases.

        It is a fork of a zygote, unless that would make a difference or ``forked`` is false.
        """
        log = self.folder / f"worker-{len(self.workers)}.log"
        words = ["worker", "-A", app, *map(str, flags)]
        with open(log, "wb") as file:
            options: dict[str, Any] = {"cwd": self.folder, "env": self.env}
            options |= {"stdout": file, "stderr": file}
            if not CARRIED.issuperset(process):  # a fork would be in the session of the zygote
                options["start_new_session"] = "process_group" not in process
            if not forked or "gevent" in words:  # gevent must patch Python before imports
                command = [sys.executable, "-m", "streamq", *words]
                options.setdefault("start_new_session", True)
                started = subprocess.Popen(command, **{**options, **process})
            else:
                started = start("streamq", words, **{**options, **process})
        worker = Worker(started, log)
        self.workers.append(worker)

        def has_leases() -> bool:
            assert started.poll() is None, worker.said
            runners = worker.runners()
            leases = " ".join(self.redis.zrange("{streamq}:leases", 0, -1))
            return bool(runners) and all(f":{pid}:" in leases for pid in runners)

        if ready:
            until(has_leases, "the runners have leases")
            with suppress(AssertionError):  # where memory or processes do not suffice for all
                all_of = runners_of(words)
                until(lambda: len(worker.runners()) >= all_of and has_leases(), seconds=3)
        return worker

    def changed_package(self, script: str, line: str, instead: str) -> None:
        """Let workers run a copy of streamq with one line of a Lua script replaced."""
        self.changed_module(f"scripts/lua/{script}", line, instead)

    def changed_module(self, file: str, line: str, instead: str) -> None:
        """Let workers run a copy of streamq with one line of any file replaced."""
        copy = self.folder / "changed"
        if not copy.exists():
            copy_checkout(copy)
        change(copy, file, line, instead)
        self.env["PYTHONPATH"] = str(copy)

    def states(self, results: list[Any]) -> list[tuple[str | None, str | None]]:
        """The state and the type of error of each result, from the records."""
        pipeline = self.redis.pipeline(transaction=False)
        for result in results:
            pipeline.hmget(f"{{streamq}}:task:{result.id}", "state", "error_type")
        return [tuple(each) for each in pipeline.execute()]

    def drained(self, seconds: float = 60.0) -> None:
        """Wait until nothing waits and nothing runs."""
        until(self.is_empty, "nothing waits, now or for later", seconds=seconds)
        leases = "{streamq}:started:*"
        until(lambda: not self.redis.keys(leases), "nothing runs", seconds=seconds)

    def python(self, code: str) -> subprocess.Popen[bytes]:
        """Run a program of the user in the folder of the site."""
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.helpers.append(process)
        return process

    def notes(self) -> list[str]:
        """The lines that tasks have noted."""
        path = self.folder / "notes"
        return path.read_text().splitlines() if path.exists() else []

    def send(self, task: str, *args: Any, **options: Any) -> Any:
        """Enqueue a call of a task of the site by its name."""
        return self.app.enqueue(self.app.signature(f"tasks.{task}", args, **options))

    def send_many(self, task: str, count: int, **options: Any) -> list[Any]:
        """Enqueue ``count`` calls, whose argument is 0, 1, 2 and so on."""
        signature = self.app.signature
        return self.app.enqueue_many(
            signature(f"tasks.{task}", (number,), **options) for number in range(count)
        )

    def streams(self) -> list[str]:
        """The keys of all streams of all queues."""
        return [
            key
            for key in self.redis.scan_iter("{streamq}:queue:*", count=1000)
            if self.redis.type(key) == "stream"
        ]

    def held(self) -> int:
        """The number of messages that wait or run, in all queues."""
        return sum(self.redis.xlen(stream) for stream in self.streams())

    def is_empty(self) -> bool:
        """Whether nothing waits or runs.

        Scheduled messages are counted twice, because one may be moved to a stream meanwhile.
        """
        later = "{streamq}:scheduled"
        return not (self.redis.zcard(later) or self.held() or self.redis.zcard(later))

    def pending(self) -> int:
        """The number of messages that workers have read and not acknowledged, in all queues."""
        groups = [group for stream in self.streams() for group in self.redis.xinfo_groups(stream)]
        return sum(group["pending"] for group in groups)

    def consumers(self) -> set[str]:
        """The consumers of all groups."""
        return {
            consumer["name"]
            for stream in self.streams()
            for consumer in self.redis.xinfo_consumers(stream, "workers")
        }

    until = staticmethod(until)
    alive = staticmethod(alive)

    def at_rest(self) -> None:
        """Check that nothing leaks: no message is left, and every key is topology or expires."""
        until(lambda: self.pending() == 0, "nothing is pending")
        assert self.held() == 0, "leaked: messages that no consumer holds"
        leftover = [
            key
            for key in self.redis.scan_iter("*", count=1000)
            if not LASTING.match(key) and self.redis.ttl(key.encode(errors="surrogateescape")) == -1
        ]
        assert leftover == [], f"leaked: {leftover}"
        living = set(self.redis.zrange("{streamq}:leases", 0, -1))
        assert self.consumers() <= living

    def close(self) -> None:
        for worker in self.workers:
            family = [*worker.runners(), worker.pid]
            if worker.process.poll() is None:
                worker.process.kill()
            worker.process.wait(timeout=10)
            until(lambda family=family: not any(map(alive, family)), "the worker is gone")
        for helper in self.helpers:
            helper.kill()
            helper.communicate()
        for app in self.apps:
            close(app)


def close(app: streamq.App) -> None:
    """Close an app's connections, so that no socket is left to the garbage collector."""
    broker = app.__dict__.get("broker")
    if broker is None:
        return
    broker.client.close()
    broker.results.waiter.connection.drop()
    broker.publisher.close()


@pytest.fixture
def site(tmp_path: Path, any_server: Server) -> Iterator[Site]:
    """A folder for the user's modules, with the server behind it."""
    site = Site(tmp_path, any_server)
    try:
        yield site
    finally:
        site.close()


@pytest.fixture
def bare(tmp_path: Path, server_url: str, redis: Any) -> Iterator[Shell]:
    """A folder without any app."""
    shell = Shell(tmp_path, server_url)
    yield shell
    shell.close()


@pytest.fixture
def shell(bare: Shell) -> Shell:
    """A folder with the app of a shop."""
    (bare.folder / "tasks.py").write_text(TASKS)
    return bare
