"""The deployment of a chaos run: a server, workers and producers, all of them real processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from streamq.transport.scripts import load
from tests.chaos.history import PLACE, HistoryWriter
from tests.conftest import server_binary
from tests.edits import CHECKOUT, Edit, copy_checkout
from tests.processes import (
    alive,
    children_of,
    descriptors,
    die_with_parent,
    hit,
    resident,
)
from tests.proxy import Proxy
from tests.servers import Server

ROOT = "{streamq}"
#: Seconds by which the time of Redis is shifted, for the scripts of the changed copy.
SHIFT = "chaos:shift"
#: The exit code of a worker that cannot reach Redis when it starts.
UNAVAILABLE = 69
#: The environment variable that marks every process of a run, so that all can be ended.
MARK = "CHAOS_RUN"

SHIFTED_CLOCK: Edit = (
    "scripts/lua/includes/clock.lua",
    "  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)\n",
    "  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)\n"
    f"    + 1000 * tonumber(redis.call('GET', '{SHIFT}') or 0)\n",
)


class Worker:
    """A `streamq worker` that is restarted again and again, as a new process each time."""

    def __init__(
        self, deployment: "Deployment", name: str, flags: Sequence[object], proxy: Proxy | None
    ) -> None:
        self.deployment, self.name, self.flags, self.proxy = deployment, name, flags, proxy
        self.url = proxy.url if proxy is not None else deployment.server.url
        self.starts = 0
        self.runners_wanted = int(flags[flags.index("--processes" if "-P" in flags else "-c") + 1])
        self.process: subprocess.Popen[bytes] | None = None
        #: Descriptors and memory of each process when the worker became ready.
        self.baseline: dict[int, tuple[int, int]] = {}
        self.log = deployment.folder / f"{name}.log"

    @property
    def who(self) -> str:
        """The name of the worker with the number of its start."""
        return f"{self.name}.{self.starts}"

    def start(self) -> None:
        """Start the worker without waiting; ``ready`` says when it is ready."""
        self.starts += 1
        self.baseline = {}
        command = [sys.executable, "-m", "streamq", "worker", "-A", "tests.chaos.tasks"]
        env = {**self.deployment.env, "CHAOS_WORKER": self.who, "STREAMQ_URL": self.url}
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*command, *map(str, self.flags)],
                cwd=self.deployment.folder,
                env=env,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )
        self.deployment.writer.note("worker", worker=self.who, pid=self.process.pid)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def up(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def runners(self) -> list[int]:
        return children_of(self.pid) if self.up else []

    @property
    def family(self) -> list[int]:
        return [self.pid, *self.runners] if self.up else []

    @property
    def found_no_redis(self) -> bool:
        """Whether the worker has ended because it could not reach Redis when it started."""
        ended = self.process is not None and self.process.poll() == UNAVAILABLE
        return ended and not self.baseline

    def ready(self) -> bool:
        """Whether all runners have leases; the first time, measure their descriptors and memory."""
        if self.found_no_redis:
            return False
        assert self.up, f"{self.who} has ended by itself: see {self.log}"
        runners = self.runners
        if len(runners) < self.runners_wanted:
            return False
        leases = self.deployment.redis.zrange(f"{ROOT}:leases", 0, -1)
        leased = {int(name.rsplit(":", 2)[-2]) for name in leases}
        if not leased.issuperset(runners):
            return False
        if not self.baseline:
            self.baseline = {pid: (descriptors(pid), resident(pid)) for pid in self.family}
        return True


class Deployment:
    """All processes that take part in a run: starts them, finds them, ends them."""

    def __init__(self, folder: Path, *, lease: float, edits: Sequence[Edit] = ()) -> None:
        self.folder, self.lease = folder, lease
        self.history = folder / "history"
        self.writer = HistoryWriter(self.history)
        self.mark = f"{os.getpid()}-{time.monotonic_ns()}"
        self.package = folder / "package"
        copy_checkout(self.package, [SHIFTED_CLOCK, *edits])
        self.server = Server(folder, server_binary())
        self.server.fsync = "always"
        self.redis = self.server.client
        self.server.start()
        self.workers: list[Worker] = []
        self.producers: list[subprocess.Popen[bytes]] = []
        #: The proxy between one of the producers and the server; workers have their own.
        self.proxy = Proxy(self.server.url)
        self.env = {
            **{name: value for name, value in os.environ.items() if "STREAMQ" not in name},
            PLACE: str(self.history),
            MARK: self.mark,
            "STREAMQ_LEASE": f"{lease:g}s",
            "STREAMQ_SHUTDOWN_TIMEOUT": f"{2 * lease:g}s",
            "STREAMQ_PUBLISH_TIMEOUT": "15s",
            "PYTHONPATH": f"{self.package}{os.pathsep}{CHECKOUT}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def worker(self, name: str, *flags: object, proxied: bool = False) -> Worker:
        """Add a worker, which is not started yet."""
        proxy = Proxy(self.server.url) if proxied else None
        worker = Worker(self, name, (*flags, "-n", f"{name}@chaos"), proxy)
        self.workers.append(worker)
        return worker

    def produce(self, rates: Sequence[float], seed: int, kinds: str = "") -> None:
        """Start producers at these rates (calls a second); the last one connects by a proxy."""
        for number, rate in enumerate(rates, 1):
            proxied = number == len(rates)
            url = self.proxy.url if proxied else self.server.url
            with open(self.folder / f"producer-{number}.log", "wb") as log:
                words = [number, rate, seed, kinds]
                process = subprocess.Popen(
                    [sys.executable, "-m", "tests.chaos.producer", *map(str, words)],
                    cwd=self.folder,
                    env={**self.env, "STREAMQ_URL": url, "CHAOS_WORKER": "none"},
                    stdout=log,
                    stderr=log,
                    preexec_fn=die_with_parent,
                )
            self.producers.append(process)

    def enough(self) -> None:
        """Let the producers end, and check that they ended well."""
        (self.folder / "enough").touch()
        for number, process in enumerate(self.producers, 1):
            code = process.wait(timeout=60)
            said = (self.folder / f"producer-{number}.log").read_text()
            assert code == 0, f"producer {number} ended with {code}:\n{said}"

    def together(self, *calls: tuple[Any, ...]) -> list[Any]:
        """Run scripts by name in one transaction, with the shifted time of the workers."""
        clock = (self.package / SHIFTED_CLOCK[0]).read_text()
        pipeline = self.redis.pipeline(transaction=True)
        for name, *argv in calls:
            pipeline.eval(load(name, clock).text, 1, ROOT, *argv)
        return list(pipeline.execute())

    def shift(self, seconds: float) -> None:
        """Shift the time of Redis, as scripts see it, by so many seconds."""
        self.redis.set(SHIFT, str(seconds))

    def proxies(self) -> list[Proxy]:
        """All proxies of the run."""
        return [self.proxy, *(each.proxy for each in self.workers if each.proxy is not None)]

    def processes(self) -> list[int]:
        """The living processes of this run, without the server and this process."""
        sign, found = f"{MARK}={self.mark}".encode(), []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if sign in (folder / "environ").read_bytes() and alive(int(folder.name)):
                    found.append(int(folder.name))
            except OSError:
                continue
        return found

    def close(self) -> None:
        """Kill every process of this run, and no other."""
        hit(self.processes(), signal.SIGKILL)
        started = [each.process for each in self.workers if each.process is not None]
        for process in [*started, *self.producers]:
            process.kill()
            process.wait(timeout=10)
        for proxy in self.proxies():
            proxy.close()
        self.server.close()
